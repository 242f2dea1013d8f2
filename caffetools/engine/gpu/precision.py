"""Numbers with fewer digits for products: TF32 is left to the libraries, half precision is made here.

In half precision the operands of matrix products and convolutions are rounded to 16 bits and multiplied with sums in
float32; what is stored between layers, and the weights, stay in float32. `Engine.precision` says which format:

    FLOAT16   11 significant bits, largest 65504: gradients need a loss scale
    BFLOAT16  8 significant bits, the range of float32

Libraries take the 16 bits (`halved`); kernels of our own take the rounded float32 (`rounded`), which gives the same
products. NumPy has no bfloat16: its bits are kept as uint16.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from caffetools.engine.gpu.events import simulated
from caffetools.engine.gpu.launch import cuda_device, cuda_kernel, launch
from caffetools.engine.precisions import BFLOAT16, FLOAT16, FLOAT32

#: The type of an array with numbers of a half precision.
HALF_TYPES = {FLOAT16: np.dtype(np.float16), BFLOAT16: np.dtype(np.uint16)}
#: bfloat16 is the upper half of float32.
HALF_BITS = 16
QUIET_NAN = 0x7FC0

#: A part of an array: the array, its first element, how many.
Part = tuple[object, int, int]


def is_half(engine, dtype) -> bool:
    """Say whether products of this type are computed in half precision; float64 is for gradient checks."""
    return engine.precision != FLOAT32 and dtype == np.float32


def rounded(engine, *parts: Part) -> list:
    """Return arrays with the rounded numbers of up to two parts; their first elements are those of the parts."""
    return _converted(engine, parts, np.dtype(np.float32), _ROUNDING[engine.precision])


def halved(engine, *parts: Part) -> list:
    """Return 16-bit arrays with the numbers of up to two parts."""
    return _converted(engine, parts, HALF_TYPES[engine.precision], _HALVING[engine.precision])


def widen(engine, halves, start: int, y) -> None:
    """Write 16-bit numbers, from element `start` on, into all of the float32 y."""
    launch(_WIDENING[engine.precision], y.size, halves, start, y)


def _converted(engine, parts, dtype, kernel):
    result = []
    for (array, start, count), scratch in zip(parts, engine.operands, strict=False):
        scratch.reserve(count, dtype)
        target = scratch.array(dtype)
        launch(kernel, count, array, start, count, target)
        result.append(target)
    return result


if simulated():

    @cuda_device
    def bits_of(x):
        return np.float32(x).view(np.uint32)

    @cuda_device
    def float_of(bits):
        return np.uint32(bits).view(np.float32)

else:
    from numba.cuda import libdevice

    @cuda_device
    def bits_of(x):
        return np.uint32(libdevice.float_as_int(x))

    @cuda_device
    def float_of(bits):
        return libdevice.int_as_float(np.int32(bits))


@cuda_device
def upper_half(x):
    """Return the bits of the bfloat16 nearest to x, ties to even."""
    if x != x:
        return np.uint32(QUIET_NAN)
    bits = np.uint64(bits_of(x))
    shift, one = np.uint64(HALF_BITS), np.uint64(1)
    return np.uint32((bits + np.uint64(0x7FFF) + ((bits >> shift) & one)) >> shift)


@cuda_device
def wide_bfloat16(half):
    """Return the number of which `half` are the bits."""
    return float_of(np.uint32(np.uint32(half) << np.uint32(HALF_BITS)))


@cuda_kernel
def round_float16(x, start, count, y):
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        y[i] = np.float32(np.float16(x[start + i]))


@cuda_kernel
def round_bfloat16(x, start, count, y):
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        y[i] = wide_bfloat16(upper_half(x[start + i]))


@cuda_kernel
def to_float16(x, start, count, y):
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        y[i] = np.float16(x[start + i])


@cuda_kernel
def to_bfloat16(x, start, count, y):
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        y[i] = np.uint16(upper_half(x[start + i]))


@cuda_kernel
def from_float16(x, start, y):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = np.float32(x[start + i])


@cuda_kernel
def from_bfloat16(x, start, y):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = wide_bfloat16(x[start + i])


_ROUNDING = {FLOAT16: round_float16, BFLOAT16: round_bfloat16}
_HALVING = {FLOAT16: to_float16, BFLOAT16: to_bfloat16}
_WIDENING = {FLOAT16: from_float16, BFLOAT16: from_bfloat16}
