"""Products by cuBLAS: the calls of its bindings, with a stand-in for them that computes on the host."""

from __future__ import annotations

import importlib
import sys

import numba
import numpy as np
import pytest

from tests.gpu import fake_nvmath
from tests.gpu.test_operations import PRODUCTS
from tests.gpu.test_precision import nearest
from tests.layers.gradient import uniform

pytestmark = pytest.mark.skipif(
    not numba.config.ENABLE_CUDASIM, reason="the stand-in computes in the memory of the host"
)
NAME = "caffetools.engine.gpu.cublas"


@pytest.fixture
def gemm(monkeypatch, engine):
    """`gemm.gemm` by way of the stand-in."""
    from caffetools.engine.gpu import gemm, precision

    for name, module in fake_nvmath.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    cublas = importlib.import_module(NAME)
    monkeypatch.setattr(gemm, "_product", lambda: (cublas.multiply, precision.halved))
    yield gemm.gemm
    engine.precision, engine.tf32 = "FLOAT32", False
    monkeypatch.delitem(sys.modules, NAME, raising=False)


def on_device(engine, *arrays):
    from caffetools.engine.gpu.memory import to_device

    return [to_device(engine, array) for array in arrays]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("rows", "columns", "depth", "trans_a", "trans_b", "alpha", "beta"), PRODUCTS)
def test_products(rows, columns, depth, trans_a, trans_b, alpha, beta, dtype, gemm, engine):
    a = uniform(*((depth, rows) if trans_a else (rows, depth)), seed=1).astype(dtype)
    b = uniform(*((columns, depth) if trans_b else (depth, columns)), seed=2).astype(dtype)
    c = uniform(rows, columns, seed=3).astype(dtype)
    arrays = on_device(engine, np.append(0, a).astype(dtype), b, c)
    gemm(trans_a, trans_b, rows, columns, depth, alpha, *arrays[:2], beta, arrays[2], starts=(1, 0, 0))
    expected = alpha * ((a.T if trans_a else a) @ (b.T if trans_b else b)) + beta * c
    np.testing.assert_allclose(arrays[2].copy_to_host().reshape(c.shape), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("precision", ["FLOAT32", "FLOAT16", "BFLOAT16"])
@pytest.mark.parametrize("trans_b", [False, True])
def test_batches(trans_b, precision, gemm, engine):
    engine.precision = precision
    a, b = uniform(3, 5, 6).astype(np.float32), uniform(4, 6, seed=4).astype(np.float32)
    right = b if trans_b else np.ascontiguousarray(b.T)
    c = np.ones(1 + 3 * 20, np.float32)
    arrays = on_device(engine, a, right, c)
    sizes = {"starts": (0, 0, 1), "batch": 3, "steps": (30, 0, 20)}
    gemm(False, trans_b, 5, 4, 6, 1, *arrays[:2], 1, arrays[2], **sizes)
    if precision != "FLOAT32":
        a, b = nearest(a, precision), nearest(b, precision)
    expected = a @ b.T + 1
    np.testing.assert_allclose(arrays[2].copy_to_host()[1:].reshape(expected.shape), expected, rtol=1e-5)


@pytest.mark.parametrize(("tf32", "mode"), [(False, 16), (True, 3 + 16)])
def test_tf32_is_a_mode_of_the_library(tf32, mode, gemm, engine):
    engine.tf32 = tf32
    a, b, c = on_device(engine, *[np.ones(1, np.float32)] * 3)
    gemm(False, False, 1, 1, 1, 1, a, b, 0, c)
    assert sys.modules["nvmath.bindings.cublas"].mode == mode
