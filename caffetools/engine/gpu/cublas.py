"""Matrix products by cuBLAS, through the bindings of nvmath-python.

cuBLAS keeps matrices by columns: the row-wise C = A B is its C^T = B^T A^T, so the operands change places.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from nvmath import CudaDataType
from nvmath.bindings import cublas

from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.memory import address

_PLAIN, _TRANSPOSED = int(cublas.Operation.N), int(cublas.Operation.T)
_SINGLE = {
    np.dtype(np.float32): (cublas.sgemm, cublas.sgemm_strided_batched),
    np.dtype(np.float64): (cublas.dgemm, cublas.dgemm_strided_batched),
}
#: Types of 16 bits; those of bfloat16 come as integers.
_HALVES = {
    np.dtype(np.float16): int(CudaDataType.CUDA_R_16F),
    np.dtype(np.uint16): int(CudaDataType.CUDA_R_16BF),
}
#: Sums in float32, also between the parts into which a product is cut.
_SUMS, _RESULT = int(cublas.ComputeType.COMPUTE_32F), int(CudaDataType.CUDA_R_32F)
_ANY_WAY = int(cublas.GemmAlgo.DFALT)


@cache
def handle() -> int:
    """Return the library's handle of this process, bound to the compute stream.

    float32 keeps its precision unless the engine allows TF32.
    """
    made = cublas.create()
    engine = current()
    cublas.set_stream(made, engine.stream_handle)
    mode = cublas.Math.TF32_TENSOR_OP_MATH if engine.tf32 else cublas.Math.DEFAULT_MATH
    cublas.set_math_mode(made, int(mode) | int(cublas.Math.DISALLOW_REDUCED_PRECISION_REDUCTION))
    return made


@cache
def _scalar(value: float, dtype: np.dtype) -> np.ndarray:
    """Return a number in host memory that stays where it is."""
    return np.array([value], dtype)


def multiply(trans_a, trans_b, sizes, alpha, matrices, beta, starts, batch, steps) -> None:
    """Compute C = alpha op(A) op(B) + beta C as `gemm.gemm` describes it.

    sizes: (rows, columns, depth). matrices, starts, steps: of A, B and C, in elements. A and B may be 16-bit numbers.
    """
    rows, columns, depth = sizes
    dtype = matrices[2].dtype
    a, b, c = (
        address(matrix) + start * matrix.dtype.itemsize
        for matrix, start in zip(matrices, starts, strict=True)
    )
    op_a, op_b = (_TRANSPOSED if trans else _PLAIN for trans in (trans_a, trans_b))
    wide_a, wide_b = rows if trans_a else depth, depth if trans_b else columns
    factor, keep = _scalar(float(alpha), dtype).ctypes.data, _scalar(float(beta), dtype).ctypes.data
    head = handle(), op_b, op_a, columns, rows, depth, factor
    # A leading dimension is at least 1, also where there is nothing to add up.
    wide_a, wide_b = max(wide_a, 1), max(wide_b, 1)
    half = _HALVES.get(matrices[0].dtype)
    if half is not None:
        operands = b, half, wide_b, steps[1], a, half, wide_a, steps[0], keep, c, _RESULT, columns, steps[2]
        cublas.gemm_strided_batched_ex(*head, *operands, batch, _SUMS, _ANY_WAY)
        return
    one, many = _SINGLE[dtype]
    if batch == 1:
        one(*head, b, wide_b, a, wide_a, keep, c, columns)
    else:
        many(*head, b, wide_b, steps[1], a, wide_a, steps[0], keep, c, columns, steps[2], batch)
