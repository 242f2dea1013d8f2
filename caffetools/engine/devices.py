"""Which engine can be used on this machine."""

from __future__ import annotations

import ctypes
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numba

if TYPE_CHECKING:
    from caffetools.engine.gpu.device import Engine

CUDA_DRIVER = {"win32": "nvcuda.dll"}.get(sys.platform, "libcuda.so.1")


def why_no_gpu() -> str:
    """Say what is missing for computing on a GPU here, nothing where one can be used.

    numba's simulator counts as a GPU where it is asked for: NUMBA_ENABLE_CUDASIM=1.
    """
    if numba.config.ENABLE_CUDASIM:
        return ""
    try:
        ctypes.CDLL(CUDA_DRIVER)
    except OSError:
        return f"no NVIDIA driver was found ({CUDA_DRIVER} cannot be loaded)"
    if find_spec("numba_cuda") is None:
        return "the package numba-cuda is missing (pip install caffetools[gpu])"
    return ""


def why_not_several() -> str:
    """Say what is missing for computing on several GPUs at once, nothing where it works. Ask `why_no_gpu` first."""
    if sys.platform != "linux":
        return "NCCL, which connects GPUs, is for Linux"
    if not numba.config.ENABLE_CUDASIM and find_spec("nccl") is None:
        return "the package nccl4py is missing (pip install caffetools[gpu])"
    return ""


def gpu_engine(index: int) -> Engine:
    """Return the engine of a GPU, which this process uses from now on.

    Errors: FatalError for one that is not there; see `gpu.device.use`. Ask `why_no_gpu` first.
    """
    from caffetools.engine.gpu import device

    return device.use(index)


def gpu_name(index: int) -> str:
    """Return the name of a GPU, which this process does not use for that. Ask `why_no_gpu` first."""
    from caffetools.engine.gpu import properties

    return properties.name_of(index)


def gpu_count() -> int:
    """Return how many GPUs this machine has. Ask `why_no_gpu` first."""
    from caffetools.engine.gpu import device

    return device.count()
