"""Products, sums and random numbers of the device against NumPy and the CPU engine."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.engine.cpu import rng as cpu_rng


def device(engine, values):
    from caffetools.engine.gpu.memory import to_device

    return to_device(engine, values)


PRODUCTS = [
    (rows, columns, depth, trans_a, trans_b, alpha, beta)
    for rows, columns, depth, alpha, beta in [(5, 7, 3, 1, 0), (4, 4, 8, 2, 0.5), (1, 9, 4, 1, 1), (3, 1, 1, -1, 0)]
    for trans_a in (False, True)
    for trans_b in (False, True)
]


@pytest.mark.parametrize(("rows", "columns", "depth", "trans_a", "trans_b", "alpha", "beta"), PRODUCTS)
@pytest.mark.parametrize("way", ["gemm", "tiled"])
def test_products(way, rows, columns, depth, trans_a, trans_b, alpha, beta, engine):
    from caffetools.engine.gpu import gemm

    random = np.random.default_rng(1)
    a = random.standard_normal((depth, rows) if trans_a else (rows, depth)).astype(np.float32)
    b = random.standard_normal((columns, depth) if trans_b else (depth, columns)).astype(np.float32)
    c = random.standard_normal((rows, columns)).astype(np.float32)
    if beta == 0:
        c[0, 0] = np.nan
    expected = alpha * ((a.T if trans_a else a) @ (b.T if trans_b else b)) + (beta * c if beta else 0)
    target = device(engine, c)
    matrices = device(engine, a), device(engine, b), target
    if way == "gemm":
        gemm.gemm(trans_a, trans_b, rows, columns, depth, alpha, *matrices[:2], beta, target)
    else:
        gemm.tiled(trans_a, trans_b, (rows, columns, depth), alpha, matrices, beta, (0, 0, 0), 1, (0, 0, 0))
    np.testing.assert_allclose(target.copy_to_host().reshape(c.shape), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("way", ["gemm", "tiled"])
def test_products_in_batches(way, engine):
    from caffetools.engine.gpu import gemm

    random = np.random.default_rng(1)
    a, b = (random.standard_normal(shape).astype(np.float32) for shape in ((2, 3, 4), (4, 5)))
    target = device(engine, np.zeros(1 + 2 * 15, np.float32))
    matrices = device(engine, a), device(engine, np.append(np.float32(0), b)), target
    starts, steps = (0, 1, 1), (12, 0, 15)
    if way == "gemm":
        gemm.gemm(False, False, 3, 5, 4, 1, *matrices[:2], 0, target, starts=starts, batch=2, steps=steps)
    else:
        gemm.tiled(False, False, (3, 5, 4), 1, matrices, 0, starts, 2, steps)
    np.testing.assert_allclose(target.copy_to_host()[1:].reshape(2, 3, 5), a @ b, rtol=1e-5)


def test_sums_of_rows_and_columns(engine):
    from caffetools.engine.gpu import vector
    from caffetools.engine.gpu.launch import launch

    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    sums = device(engine, np.ones(4, np.float32))
    launch(vector.add_column_sums, 4, device(engine, x), 3, sums)
    assert sums.copy_to_host().tolist() == (1 + x.sum(0)).tolist()
    target = device(engine, x)
    launch(vector.add_row, 12, sums, target)
    np.testing.assert_array_equal(target.copy_to_host().reshape(3, 4), x + 1 + x.sum(0))


def test_random_numbers_are_those_of_the_cpu(engine):
    from caffetools.engine.gpu import rng
    from caffetools.engine.gpu.launch import launch

    key = cpu_rng.RandomSource(7).key()
    target = device(engine, np.zeros(20, np.float32))
    launch(rng.fill_uniform, 20, key, np.uint64(5), target)
    expected = [cpu_rng.random_uniform(key, np.uint64(i)) for i in range(5, 25)]
    assert target.copy_to_host().tolist() == expected


def test_a_kernel_refuses_python_floats(engine):
    from caffetools.engine.gpu.launch import signature

    with pytest.raises(TypeError, match="typed scalars"):
        signature((1.5,))
