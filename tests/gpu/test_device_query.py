"""device_query: the original's lines, from a device that is made up, and what the simulator answers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from caffetools.glog import FatalError
from caffetools.tools import device_query


class Device(SimpleNamespace):
    """A device with the attributes that numba-cuda's have."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


DEVICE = Device(
    compute_capability=(9, 0),
    name=b"NVIDIA H100 80GB HBM3",
    MAX_SHARED_MEMORY_PER_BLOCK=49152,
    MAX_REGISTERS_PER_BLOCK=65536,
    WARP_SIZE=32,
    MAX_PITCH=2147483647,
    MAX_THREADS_PER_BLOCK=1024,
    **{f"MAX_BLOCK_DIM_{axis}": size for axis, size in zip("XYZ", (1024, 1024, 64), strict=True)},
    **{f"MAX_GRID_DIM_{axis}": size for axis, size in zip("XYZ", (2147483647, 65535, 65535), strict=True)},
    CLOCK_RATE=1980000,
    TOTAL_CONSTANT_MEMORY=65536,
    TEXTURE_ALIGNMENT=512,
    ASYNC_ENGINE_COUNT=3,
    MULTIPROCESSOR_COUNT=132,
    KERNEL_EXEC_TIMEOUT=0,
)

#: The labels and their column are those of the original.
LINES = """
Device id:                     0
Major revision number:         9
Minor revision number:         0
Name:                          NVIDIA H100 80GB HBM3
Total global memory:           85029158912
Total shared memory per block: 49152
Total registers per block:     65536
Warp size:                     32
Maximum memory pitch:          2147483647
Maximum threads per block:     1024
Maximum dimension of block:    1024, 1024, 64
Maximum dimension of grid:     2147483647, 65535, 65535
Clock rate:                    1980000
Total constant memory:         65536
Texture alignment:             512
Concurrent copy and execution: Yes
Number of multiprocessors:     132
Kernel execution timeout:      No
"""


def messages(capfd):
    """The messages of all log lines."""
    return [line.partition("] ")[2] for line in capfd.readouterr().err.splitlines() if "] " in line]


def test_the_originals_lines(monkeypatch, capfd):
    from caffetools.engine import devices
    from caffetools.engine.gpu import properties

    memory = SimpleNamespace(get_memory_info=lambda: SimpleNamespace(free=1, total=85029158912))
    fake = SimpleNamespace(gpus=[DEVICE], current_context=lambda: memory)
    monkeypatch.setattr(properties, "cuda", fake)
    monkeypatch.setattr(properties, "simulated", lambda: False)
    monkeypatch.setattr(properties, "versions", lambda index: [("Free memory", 1)])
    monkeypatch.setattr(devices, "gpu_count", lambda: 1)
    device_query.device_query("0")
    lines = messages(capfd)
    assert lines[0] == "Querying GPUs 0"
    assert lines[1:19] == LINES.strip().splitlines()
    assert lines[19] == "Free memory:                   1"


def test_the_simulator_says_what_it_is(capfd, engine):
    device_query.device_query("all")
    assert "Name:                          numba's simulator" in messages(capfd)


def test_a_device_that_is_not_there(engine):
    with pytest.raises(FatalError, match="there is no GPU 7; this machine has"):
        device_query.device_query("7")


def test_the_attributes_exist_in_the_driver():
    binding = pytest.importorskip("cuda.bindings.driver")
    for name in vars(DEVICE):
        if name.isupper() or "DIM" in name:
            assert hasattr(binding.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}"), name
