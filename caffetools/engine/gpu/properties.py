"""What a GPU is and what it runs with, as `caffe device_query` tells it."""

from __future__ import annotations

from importlib import metadata

from numba import cuda

from caffetools.engine.gpu.events import simulated

#: The packages that the engine uses where they are installed, and what they are for.
LIBRARIES = {
    "numba-cuda": "kernels",
    "nvidia-cublas": "matrix products",
    "nvidia-cudnn-cu13": "convolutions",
    "nvidia-nccl-cu13": "several GPUs",
}


def name_of(index: int) -> str:
    """Return the name of a device; this does not start to use it."""
    return "numba's simulator" if simulated() else _text(cuda.gpus[index].name)


def properties(index: int) -> list[tuple[str, object]]:
    """Return the label and the value of each property of a device, in the original's order.

    Sizes are in bytes, the clock rate in kHz.
    """
    if simulated():
        return [("Device id", index), ("Name", name_of(index))]
    device = cuda.gpus[index]
    with device:
        total = cuda.current_context().get_memory_info().total
    major, minor = device.compute_capability
    axes = "XYZ"
    return [
        ("Device id", index),
        ("Major revision number", major),
        ("Minor revision number", minor),
        ("Name", _text(device.name)),
        ("Total global memory", total),
        ("Total shared memory per block", device.MAX_SHARED_MEMORY_PER_BLOCK),
        ("Total registers per block", device.MAX_REGISTERS_PER_BLOCK),
        ("Warp size", device.WARP_SIZE),
        ("Maximum memory pitch", device.MAX_PITCH),
        ("Maximum threads per block", device.MAX_THREADS_PER_BLOCK),
        ("Maximum dimension of block", _list(getattr(device, f"MAX_BLOCK_DIM_{axis}") for axis in axes)),
        ("Maximum dimension of grid", _list(getattr(device, f"MAX_GRID_DIM_{axis}") for axis in axes)),
        ("Clock rate", device.CLOCK_RATE),
        ("Total constant memory", device.TOTAL_CONSTANT_MEMORY),
        ("Texture alignment", device.TEXTURE_ALIGNMENT),
        ("Concurrent copy and execution", _yes_no(device.ASYNC_ENGINE_COUNT)),
        ("Number of multiprocessors", device.MULTIPROCESSOR_COUNT),
        ("Kernel execution timeout", _yes_no(device.KERNEL_EXEC_TIMEOUT)),
    ]


def versions(index: int) -> list[tuple[str, object]]:
    """Return what the original did not tell: free memory, and the versions of the driver and the libraries."""
    if simulated():
        return []
    from numba.cuda.cudadrv import driver

    with cuda.gpus[index]:
        free = cuda.current_context().get_memory_info().free
    found = [("Free memory", free), ("Driver's CUDA version", "{}.{}".format(*driver.get_version()))]
    return found + [(f"{package} ({use})", _version(package)) for package, use in LIBRARIES.items()]


def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _text(name):
    return name.decode() if isinstance(name, bytes) else str(name)


def _list(values):
    return ", ".join(str(value) for value in values)


def _yes_no(value):
    return "Yes" if value else "No"
