"""What is used of numba-cuda is there, with the arguments that are given; that needs no device."""

from __future__ import annotations

import inspect
import logging
from importlib import import_module
from pathlib import Path

import numba
import pytest

import caffetools

pytest.importorskip("numba_cuda")
if numba.config.ENABLE_CUDASIM:
    pytest.skip("the simulator stands for it", allow_module_level=True)

#: Functions of numba.cuda and arguments with which they are called.
CALLS = {
    "stream": ((), {}),
    "event": ((), {"timing": False}),
    "event_elapsed_time": (("start", "end"), {}),
    "select_device": ((0,), {}),
    "current_context": ((), {}),
    "get_current_device": ((), {}),
    "is_available": ((), {}),
    "cuda_error": ((), {}),
    "device_array": ((3, "float32"), {"stream": "stream"}),
    "pinned_array": ((3, "float32"), {}),
    "jit": ((), {"cache": True}),
}
#: Attributes of a device, as the driver names them.
ATTRIBUTES = """
    MAX_SHARED_MEMORY_PER_BLOCK MAX_REGISTERS_PER_BLOCK WARP_SIZE MAX_PITCH MAX_THREADS_PER_BLOCK MAX_BLOCK_DIM_X
    MAX_BLOCK_DIM_Y MAX_BLOCK_DIM_Z MAX_GRID_DIM_X MAX_GRID_DIM_Y MAX_GRID_DIM_Z CLOCK_RATE TOTAL_CONSTANT_MEMORY
    TEXTURE_ALIGNMENT ASYNC_ENGINE_COUNT MULTIPROCESSOR_COUNT KERNEL_EXEC_TIMEOUT
"""


@pytest.mark.parametrize("name", CALLS)
def test_functions(name):
    from numba import cuda

    args, kwargs = CALLS[name]
    inspect.signature(getattr(cuda, name)).bind(*args, **kwargs)


def test_device_memory():
    from numba.cuda.cudadrv import driver
    from numba.cuda.cudadrv.devicearray import DeviceNDArray

    inspect.signature(driver.device_memset).bind("array", 0, 100, stream="stream")
    inspect.signature(driver.get_version).bind()
    for method in ("copy_to_device", "copy_to_host"):
        inspect.signature(getattr(DeviceNDArray, method)).bind("self", "host", stream="stream")
    inspect.signature(DeviceNDArray.view).bind("self", "float32")
    assert isinstance(inspect.getattr_static(DeviceNDArray, "device_ctypes_pointer"), property)
    assert driver.Context.get_memory_info and driver.Device


def test_memory_that_waits_to_be_freed(monkeypatch):
    from numba.cuda.cudadrv import driver

    monkeypatch.setattr(driver, "_logger", logging.getLogger(__name__), raising=False)
    config = numba.config
    pending = driver._PendingDeallocs()
    pending.memory_capacity = 1 << 30
    freed = []
    kept = config.CUDA_DEALLOCS_COUNT, config.CUDA_DEALLOCS_RATIO
    try:
        from caffetools.engine.gpu import device  # noqa: F401

        def free(handle):
            freed.append(handle)

        for i in range(100):
            pending.add_item(free, i, 1 << 28)
    finally:
        config.CUDA_DEALLOCS_COUNT, config.CUDA_DEALLOCS_RATIO = kept
    assert freed == []
    pending.clear()
    assert freed == list(range(100))
    assert "self.memory_manager = " in inspect.getsource(driver.Context.__init__)
    assert "self.deallocations = " in inspect.getsource(driver.HostOnlyCUDAMemoryManager.__init__)


def test_streams_and_events():
    from numba.cuda.cudadrv import driver

    for method, args in {"record": ["stream"], "query": [], "synchronize": [], "wait": ["stream"]}.items():
        inspect.signature(getattr(driver.Event, method)).bind("self", *args)
    inspect.signature(driver.Stream.synchronize).bind("self")
    assert "self.handle = handle" in inspect.getsource(driver.Stream.__init__)


def test_attributes_of_devices():
    from cuda.bindings import driver

    for name in ATTRIBUTES.split():
        assert hasattr(driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")


def test_numba_and_numba_cuda_have_one_configuration():
    from numba.cuda.core import config

    assert config is numba.config


def test_all_kernels_are_made():
    package = Path(caffetools.__file__).parent
    for path in sorted({*package.rglob("*_cu.py"), *package.glob("engine/gpu/*.py")}):
        import_module(".".join(path.relative_to(package.parent).with_suffix("").parts))
    from caffetools.engine.gpu.launch import KERNELS

    assert len(KERNELS) > 150
