"""gemm and inner_product against NumPy in float64."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from caffetools.engine.cpu.gemm import gemm
from caffetools.engine.cpu.inner_product import inner_product
from caffetools.glog import FatalError

TOLERANCE = {np.float32: 1e-5, np.float64: 1e-13}


def random(seed, shape, dtype):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def operands(m, n, k, trans_a, trans_b, dtype):
    a, b = random(1, (k, m) if trans_a else (m, k), dtype), random(2, (n, k) if trans_b else (k, n), dtype)
    return a, b, random(3, (m, n), dtype)


def expected(trans_a, trans_b, alpha, a, b, beta, c):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return alpha * (a.T if trans_a else a) @ (b.T if trans_b else b) + beta * c.astype(np.float64)


def assert_close(actual, wanted):
    error = np.abs(actual - wanted).max() / np.abs(wanted).max()
    assert error < TOLERANCE[actual.dtype.type]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("trans_b", [False, True])
@pytest.mark.parametrize("trans_a", [False, True])
@pytest.mark.parametrize(
    ("m", "n", "k"),
    [
        (1, 1, 1),
        (7, 3, 300),
        (13, 32, 256),
        (50, 64, 500),
        (64, 10, 500),
        (33, 17, 1),
        (100, 129, 513),
        (500, 80, 65),
        (4, 300, 100),
        (13, 70, 2000),
        (70, 600, 1024),
        (1024, 300, 40),
        (270, 33, 1024),
        (1, 300, 17),
        (3, 5, 9),
        (8, 4100, 20),  # columns in two parts
    ],
)
def test_product_of_every_shape_and_transposition(m, n, k, trans_a, trans_b, dtype):
    a, b, c = operands(m, n, k, trans_a, trans_b, dtype)
    wanted = expected(trans_a, trans_b, 0.5, a, b, 2.0, c)
    gemm(trans_a, trans_b, 0.5, a, b, 2.0, c)
    assert_close(c, wanted)


def test_few_rows_with_a_matrix_beyond_the_caches():
    a, b, c = operands(10, 2048, 2100, False, False, np.float32)
    wanted = expected(False, False, 1, a, b, 1, c)
    gemm(False, False, 1, a, b, 1, c)
    assert_close(c, wanted)


@pytest.mark.parametrize("rows", [2, 60])
@pytest.mark.parametrize(("alpha", "beta"), [(1, 0), (1, 1), (-2, 0), (0, 1), (0.25, -0.5)])
def test_alpha_and_beta(alpha, beta, rows):
    for trans_b in (False, True):
        a, b, c = operands(rows, 70, 600, False, trans_b, np.float32)
        wanted = expected(False, trans_b, alpha, a, b, beta, c)
        gemm(False, trans_b, alpha, a, b, beta, c)
        assert_close(c, wanted)


@pytest.mark.parametrize("rows", [5, 50])
def test_c_is_not_read_when_beta_is_zero(rows):
    a, b, c = operands(rows, 37, 20, False, False, np.float32)
    wanted = expected(False, False, 1, a, b, 0, c)
    c[:] = np.nan
    gemm(False, False, 1, a, b, 0, c)
    assert_close(c, wanted)


@pytest.mark.parametrize("beta", [0, 1, 3])
def test_empty_common_axis_scales_c(beta):
    c = random(0, (4, 5), np.float32)
    wanted = c * np.float32(beta)
    gemm(False, False, 1, np.empty((4, 0), np.float32), np.empty((0, 5), np.float32), beta, c)
    np.testing.assert_array_equal(c, wanted)


@pytest.mark.parametrize(
    ("special", "other", "wanted"), [(np.nan, 1, np.nan), (np.inf, 0, np.nan), (np.inf, 2, np.inf)]
)
def test_nan_and_infinity_spread_as_ieee_says(special, other, wanted):
    a, b, c = np.ones((20, 30), np.float32), np.ones((30, 40), np.float32), np.empty((20, 40), np.float32)
    a[3, 4], b[4, 5] = special, other
    gemm(False, False, 1, a, b, 0, c)
    np.testing.assert_array_equal(c[3, 5], np.float32(wanted))
    assert np.isfinite(np.delete(c, 3, axis=0)).all()


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(FatalError, match="shapes do not fit"):
        gemm(
            False,
            False,
            1,
            np.ones((2, 3), np.float32),
            np.ones((4, 5), np.float32),
            0,
            np.ones((2, 5), np.float32),
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("batch", "outputs", "inputs"),
    [
        (64, 500, 800),
        (64, 10, 500),
        (1, 7, 3),
        (150, 33, 1100),
        (16, 1, 1),
        (3, 9, 16),
        (2, 50, 77),
        (1, 4, 40),
        (4, 130, 5000),
        (7, 101, 1300),
        (8, 200, 2100),
        (9, 64, 30),
        (260, 300, 20),
        (330, 50, 100),  # a job for each tile of the batch
    ],
)
def test_inner_product(batch, outputs, inputs, dtype):
    x, w, bias = (
        random(1, (batch, inputs), dtype),
        random(2, (outputs, inputs), dtype),
        random(3, outputs, dtype),
    )
    y = np.full((batch, outputs), np.nan, dtype)
    wanted = x.astype(np.float64) @ w.T.astype(np.float64)
    inner_product(x, w, bias, y)
    assert_close(y, wanted + bias)
    inner_product(x, w, None, y)
    assert_close(y, wanted)
    inner_product(x, w, bias, y, slope=0.25)
    assert_close(y, np.where(wanted + bias < 0, 0.25 * (wanted + bias), wanted + bias))


@pytest.mark.parametrize("batch", [2, 20])
def test_inner_product_of_nothing_is_the_bias(batch):
    bias, y = random(1, 3, np.float32), np.full((batch, 3), np.nan, np.float32)
    inner_product(np.empty((batch, 0), np.float32), np.empty((3, 0), np.float32), bias, y)
    np.testing.assert_array_equal(y, np.tile(bias, (batch, 1)))


def test_inner_product_spreads_nan_along_its_row_only():
    x, w, y = np.ones((3, 40), np.float32), np.ones((5, 40), np.float32), np.empty((3, 5), np.float32)
    x[1, 7] = np.nan
    inner_product(x, w, None, y)
    np.testing.assert_array_equal(np.isnan(y), [[False] * 5, [True] * 5, [False] * 5])


@pytest.mark.parametrize(
    ("m", "n", "k", "trans_a", "trans_b"),
    [
        (130, 200, 700, False, True),
        (130, 2000, 50, False, False),  # no copy of B
        (400, 1024, 1024, False, False),  # rows of A that fall on the same lines
        (100, 1024, 1024, False, False),  # a copy of A
        (700, 1024, 90, True, False),
        (5, 1100, 400, False, False),
        (5, 300, 900, False, True),
        (300, 260, 100, False, True),
        (330, 50, 300, False, True),
    ],
)
def test_results_do_not_depend_on_the_number_of_threads(m, n, k, trans_a, trans_b):
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("one thread only")
    a, b, start = operands(m, n, k, trans_a, trans_b, np.float32)
    results = []
    for threads in (1, 2):
        numba.set_num_threads(threads)
        c, y = start.copy(), np.empty((m, n), np.float32)
        gemm(trans_a, trans_b, 1, a, b, 1, c)
        if trans_b:
            inner_product(a, b, None, y)
            results.append((c, y))
        else:
            results.append((c,))
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("threads", [3, 16, 64])
@pytest.mark.parametrize(
    ("m", "n", "k", "trans_a", "trans_b"),
    [
        (1, 1500, 600, False, False),
        (600, 1000, 1, True, False),
        (300, 200, 90, False, True),
        (70, 900, 300, False, False),
        (200, 64, 1300, True, False),
    ],
)
def test_cuts_for_many_threads_give_the_same_bits(m, n, k, trans_a, trans_b, threads, monkeypatch):
    rng = np.random.default_rng(8)
    a = rng.standard_normal((k, m) if trans_a else (m, k), np.float32)
    b = rng.standard_normal((n, k) if trans_b else (k, n), np.float32)
    results = []
    for count in (1, threads):
        monkeypatch.setattr(numba, "get_num_threads", lambda count=count: count)
        results.append(np.ones((m, n), np.float32))
        gemm(trans_a, trans_b, 1, a, b, 1, results[-1])
    np.testing.assert_array_equal(*results)
