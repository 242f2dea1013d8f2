"""A stand-in for the bindings of nvmath-python in the simulator: matrices by columns in the memory of the host."""

from __future__ import annotations

import ctypes
from enum import IntEnum
from types import ModuleType

import numpy as np

CudaDataType = IntEnum("CudaDataType", {"CUDA_R_32F": 0, "CUDA_R_16F": 2, "CUDA_R_16BF": 14})
Operation = IntEnum("Operation", {"N": 0, "T": 1})
Math = IntEnum(
    "Math", {"DEFAULT_MATH": 0, "TF32_TENSOR_OP_MATH": 3, "DISALLOW_REDUCED_PRECISION_REDUCTION": 16}
)
ComputeType = IntEnum("ComputeType", {"COMPUTE_32F": 68})
GemmAlgo = IntEnum("GemmAlgo", {"DFALT": -1})
DTYPES = {
    CudaDataType.CUDA_R_32F: np.float32,
    CudaDataType.CUDA_R_16F: np.float16,
    CudaDataType.CUDA_R_16BF: np.uint16,
}


def modules() -> dict[str, ModuleType]:
    """Return the modules by their names; the one of cuBLAS remembers the math mode."""
    cublas = ModuleType("nvmath.bindings.cublas")
    cublas.Operation, cublas.Math, cublas.ComputeType, cublas.GemmAlgo = (
        Operation,
        Math,
        ComputeType,
        GemmAlgo,
    )
    cublas.create = lambda: 7
    cublas.set_stream = lambda handle, stream: None
    cublas.mode = None

    def set_math_mode(handle, mode):
        cublas.mode = mode

    cublas.set_math_mode = set_math_mode
    for prefix, dtype in (("s", np.float32), ("d", np.float64)):
        setattr(cublas, f"{prefix}gemm", _plain(dtype))
        setattr(cublas, f"{prefix}gemm_strided_batched", _batched(dtype))
    cublas.gemm_strided_batched_ex = _mixed
    nvmath, bindings = ModuleType("nvmath"), ModuleType("nvmath.bindings")
    nvmath.CudaDataType, nvmath.bindings, bindings.cublas = CudaDataType, bindings, cublas
    return {"nvmath": nvmath, "nvmath.bindings": bindings, "nvmath.bindings.cublas": cublas}


def _plain(dtype):
    def gemm(handle, transa, transb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
        types = (dtype, dtype, dtype)
        _multiply(transa, transb, m, n, k, alpha, (a, b, c), types, (lda, ldb, ldc), beta, dtype)

    return gemm


def _batched(dtype):
    def gemm(handle, transa, transb, m, n, k, alpha, a, lda, sa, b, ldb, sb, beta, c, ldc, sc, batch):
        size = np.dtype(dtype).itemsize
        for i in range(batch):
            places = a + i * sa * size, b + i * sb * size, c + i * sc * size
            _multiply(transa, transb, m, n, k, alpha, places, (dtype,) * 3, (lda, ldb, ldc), beta, dtype)

    return gemm


def _mixed(
    handle,
    transa,
    transb,
    m,
    n,
    k,
    alpha,
    a,
    atype,
    lda,
    stride_a,
    b,
    btype,
    ldb,
    stride_b,
    beta,
    c,
    ctype,
    ldc,
    stride_c,
    batch_count,
    compute_type,
    algo,
):
    assert (compute_type, algo) == (ComputeType.COMPUTE_32F, GemmAlgo.DFALT)
    types = [DTYPES[CudaDataType(kind)] for kind in (atype, btype, ctype)]
    for i in range(batch_count):
        strides = (stride_a, stride_b, stride_c)
        places = [
            place + i * stride * np.dtype(dtype).itemsize
            for place, stride, dtype in zip((a, b, c), strides, types, strict=True)
        ]
        _multiply(transa, transb, m, n, k, alpha, places, types, (lda, ldb, ldc), beta, np.float32)


def _multiply(transa, transb, m, n, k, alpha, places, dtypes, widths, beta, scalar):
    """C (m, n) = alpha op(A) op(B) + beta C, each by columns with so many elements from one to the next."""
    shapes = ((k, m) if transa else (m, k)), ((n, k) if transb else (k, n)), (m, n)
    a, b, c = (_view(*args) for args in zip(places, dtypes, shapes, widths, strict=True))
    factor, keep = (
        ctypes.cast(at, ctypes.POINTER(np.ctypeslib.as_ctypes_type(scalar)))[0] for at in (alpha, beta)
    )
    a, b = _wide(a), _wide(b)
    product = factor * ((a.T if transa else a) @ (b.T if transb else b))
    c[...] = product + keep * c if keep else product


def _view(place, dtype, shape, width):
    rows, columns = shape
    dtype = np.dtype(dtype)
    assert width >= max(rows, 1)
    size = (width * max(columns - 1, 0) + rows) * dtype.itemsize
    buffer = (ctypes.c_char * size).from_address(place)
    return np.ndarray(shape, dtype, buffer, strides=(dtype.itemsize, width * dtype.itemsize))


def _wide(matrix):
    if matrix.dtype == np.uint16:
        return (matrix.astype(np.uint32) << 16).view(np.float32)
    return matrix.astype(np.float64)
