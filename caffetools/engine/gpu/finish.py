"""What is done to the outputs of a product or a convolution behind it, in one pass:

    y = f(scale[c] x + shift[c] + residual)        f(v) = v where v > 0, else slope v

for the elements of channel c. NaNs go through. Kernels of our own that compute outputs do the same, but for the scale,
as they write them.
"""

from __future__ import annotations

from numba import cuda

from caffetools.engine.gpu.index import middle
from caffetools.engine.gpu.launch import cuda_kernel, launch


def finish(x, y, inner: int, scale=None, shift=None, residual=None, slope: float = 1.0) -> None:
    """Compute y, which may be x.

    inner: elements of a channel that lie side by side. scale, shift: (channels,), None for ones and zeros. residual:
    as y, or None. slope: of the ReLU; 1 for none.
    """
    channels = next((each.size for each in (shift, scale) if each is not None), 1)
    operands = (part for each in (scale, shift, residual) for part in optional(each, x))
    launch(finish_outputs, y.size, x, *operands, y.dtype.type(slope), channels, inner, y)


def optional(array, other) -> tuple:
    """Return an operand that may be None as kernels take it: an array, which is `other` then, and whether it is one."""
    return (other, False) if array is None else (array, True)


@cuda_kernel
def finish_outputs(x, scale, has_scale, shift, has_shift, residual, has_residual, slope, channels, inner, y):
    zero = y.dtype.type(0)
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        v = x[i]
        if has_scale or has_shift:
            c = middle(i, channels, inner)
            if has_scale:
                v *= scale[c]
            if has_shift:
                v += shift[c]
        if has_residual:
            v += residual[i]
        # The comparison is written so that a NaN goes through unchanged.
        y[i] = slope * v if v < zero else v
