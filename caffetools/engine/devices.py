"""Which engine can be used on this machine."""

from __future__ import annotations

import ctypes
import sys

CUDA_DRIVER = {"win32": "nvcuda.dll"}.get(sys.platform, "libcuda.so.1")


def why_no_gpu() -> str:
    """Say what is missing for training on a GPU here."""
    try:
        ctypes.CDLL(CUDA_DRIVER)
    except OSError:
        return f"no NVIDIA driver was found ({CUDA_DRIVER} cannot be loaded)"
    return "this version of caffetools has no GPU engine yet"
