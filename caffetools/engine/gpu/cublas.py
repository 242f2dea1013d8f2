"""Matrix products by cuBLAS, through the bindings of nvmath-python.

cuBLAS keeps matrices by columns: the row-wise C = A B is its C^T = B^T A^T, so the operands change places.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from nvmath.bindings import cublas

from caffetools.engine.gpu.device import current

_PLAIN, _TRANSPOSED = int(cublas.Operation.N), int(cublas.Operation.T)
_SINGLE = {
    np.dtype(np.float32): (cublas.sgemm, cublas.sgemm_strided_batched),
    np.dtype(np.float64): (cublas.dgemm, cublas.dgemm_strided_batched),
}


@cache
def handle() -> int:
    """Return the library's handle of this process, bound to the compute stream; full float32 precision."""
    made = cublas.create()
    cublas.set_stream(made, int(current().stream.handle))
    cublas.set_math_mode(made, int(cublas.Math.DEFAULT_MATH))
    return made


@cache
def _scalar(value: float, dtype: np.dtype) -> np.ndarray:
    """Return a number in host memory that stays where it is."""
    return np.array([value], dtype)


def multiply(trans_a, trans_b, sizes, alpha, matrices, beta, starts, batch, steps) -> None:
    """Compute C = alpha op(A) op(B) + beta C as `gemm.gemm` describes it.

    sizes: (rows, columns, depth). matrices, starts, steps: of A, B and C, in elements.
    """
    rows, columns, depth = sizes
    dtype = matrices[2].dtype
    a, b, c = (
        matrix.device_ctypes_pointer.value + start * dtype.itemsize
        for matrix, start in zip(matrices, starts, strict=True)
    )
    op_a, op_b = (_TRANSPOSED if trans else _PLAIN for trans in (trans_a, trans_b))
    wide_a, wide_b = rows if trans_a else depth, depth if trans_b else columns
    factor, keep = _scalar(float(alpha), dtype).ctypes.data, _scalar(float(beta), dtype).ctypes.data
    one, many = _SINGLE[dtype]
    head = handle(), op_b, op_a, columns, rows, depth, factor
    # A leading dimension is at least 1, also where there is nothing to add up.
    wide_a, wide_b = max(wide_a, 1), max(wide_b, 1)
    if batch == 1:
        one(*head, b, wide_b, a, wide_a, keep, c, columns)
    else:
        many(*head, b, wide_b, steps[1], a, wide_a, steps[0], keep, c, columns, steps[2], batch)
