"""The seven fillers: bounds, moments, distributions, structure, errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from caffetools.filler import FILLERS, fill
from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2

Filler = caffe_pb2.FillerParameter
SHAPE = (64, 40, 5, 5)
FAN_IN, FAN_OUT = 40 * 25, 64 * 25
FANS = [(Filler.FAN_IN, FAN_IN), (Filler.FAN_OUT, FAN_OUT), (Filler.AVERAGE, (FAN_IN + FAN_OUT) / 2)]


def filled(shape=SHAPE, seed=1, dtype=np.float32, **param):
    array = np.full(shape, np.nan, dtype)
    fill(Filler(**param), array, np.random.Generator(np.random.Philox(key=seed)))
    return array


def assert_uniform(values, low, high):
    assert low <= values.min() and values.max() <= high
    assert_distributed(values, lambda x: (x - low) / (high - low))


def assert_normal(values, mean, std):
    error = std / np.sqrt(values.size)
    assert abs(values.mean() - mean) < 4 * error
    assert abs(values.std() - std) < 4 * error
    erf = np.vectorize(math.erf)
    assert_distributed(values, lambda x: (1 + erf((x - mean) / (std * math.sqrt(2)))) / 2)


def assert_distributed(values, distribution):
    """Kolmogorov's and Smirnov's test at the level of 0.5 %."""
    expected = distribution(np.sort(values, axis=None).astype(np.float64))
    steps = np.arange(values.size + 1) / values.size
    distance = max(np.abs(expected - steps[1:]).max(), np.abs(expected - steps[:-1]).max())
    assert distance * np.sqrt(values.size) < 1.73


@pytest.mark.parametrize("value", [0, 0.25, -3])
def test_constant(value):
    np.testing.assert_array_equal(filled(type="constant", value=value), np.full(SHAPE, value))


def test_zero_is_the_default():
    assert not filled().any()


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.3, 0.3), (2, 5)])
def test_uniform(low, high):
    assert_uniform(filled(type="uniform", min=low, max=high), np.float32(low), np.float32(high))


@pytest.mark.parametrize(("mean", "std"), [(0, 1), (0, 0.01), (-2, 3)])
def test_gaussian(mean, std):
    assert_normal(filled(type="gaussian", mean=mean, std=std), mean, std)


@pytest.mark.parametrize("sparse", [0, 1, 15, 64])
def test_sparse_gaussian_keeps_a_share_of_the_weights(sparse):
    values = filled(type="gaussian", std=2, sparse=sparse)
    share = sparse / SHAPE[0]
    error = np.sqrt(share * (1 - share) / values.size)
    assert abs((values != 0).mean() - share) <= 4 * error
    if sparse:
        assert_normal(values[values != 0], 0, 2)


@pytest.mark.parametrize(("norm", "fan"), FANS)
def test_xavier(norm, fan):
    a = np.sqrt(3 / fan)
    assert_uniform(filled(type="xavier", variance_norm=norm), -a * (1 + 1e-6), a * (1 + 1e-6))


@pytest.mark.parametrize(("norm", "fan"), FANS)
def test_msra(norm, fan):
    assert_normal(filled(type="msra", variance_norm=norm), 0, np.sqrt(2 / fan))


def test_the_fan_in_is_the_default():
    np.testing.assert_array_equal(filled(type="xavier"), filled(type="xavier", variance_norm=Filler.FAN_IN))


@pytest.mark.parametrize(
    ("shape", "norm", "fan"),
    [
        ((300, 200), Filler.FAN_IN, 200),
        ((300, 200), Filler.FAN_OUT, 300),
        ((50_000,), Filler.FAN_IN, 1),
        ((50_000,), Filler.FAN_OUT, 50_000),
        ((20, 10, 7, 7, 7), Filler.FAN_IN, 3430),
    ],
)
def test_fans_of_other_shapes(shape, norm, fan):
    assert_normal(filled(shape, type="msra", variance_norm=norm), 0, np.sqrt(2 / fan))


@pytest.mark.parametrize("shape", [(10, 200), (3, 4, 5, 6), (7,), (1, 1), ()], ids=str)
def test_positive_unitball_has_rows_of_sum_one(shape):
    values = filled(shape, type="positive_unitball")
    assert (values >= 0).all()
    rows = values.reshape(shape[0] if shape else 1, -1)
    np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=1e-5)


def test_positive_unitball_is_uniform_before_it_is_scaled():
    values = filled((1, 50_000), type="positive_unitball")
    assert_uniform(values / values.max(), 0, 1)


@pytest.mark.parametrize(
    ("size", "tent"),
    [
        (1, [1]),
        (2, [0.5, 0.5]),
        (3, [0.5, 1, 0.5]),
        (4, [0.25, 0.75, 0.75, 0.25]),
        (5, [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3]),
    ],
)
def test_bilinear(size, tent):
    values = filled((2, 3, size, size), type="bilinear")
    np.testing.assert_allclose(values, np.broadcast_to(np.outer(tent, tent), (2, 3, size, size)), rtol=1e-6)


@pytest.mark.parametrize("kind", FILLERS)
def test_the_seed_decides(kind):
    first, again, other = (filled((4, 3, 5, 5), seed, type=kind) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.array_equal(first, other) == (kind in ("constant", "bilinear"))


@pytest.mark.parametrize("kind", FILLERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_element_is_written(kind, dtype):
    assert np.isfinite(filled((2, 3, 4, 4), dtype=dtype, type=kind)).all()


@pytest.mark.parametrize("kind", [kind for kind in FILLERS if kind != "bilinear"])
@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0)], ids=str)
def test_small_and_empty_shapes(kind, shape):
    assert np.isfinite(filled(shape, type=kind)).all()


@pytest.mark.parametrize(
    ("param", "shape", "message"),
    [
        ({"type": "Xavier"}, (3, 4), r"Unknown filler name: Xavier \(known fillers: bilinear, constant, "),
        ({"type": "uniform", "sparse": 3}, (3, 4), r"Sparsity not supported by this Filler. \(uniform\)"),
        ({"type": "constant", "sparse": 0}, (3, 4), r"sparse\(\) == -1 Sparsity not supported"),
        ({"type": "gaussian", "sparse": -2}, (3, 4), r"sparse >= -1 \(-2 vs. -1\)"),
        ({"type": "gaussian", "sparse": 1}, (), r"blob->num_axes\(\) >= 1 \(0 vs. 1\)"),
        ({"type": "bilinear"}, (3, 4, 4), "Blob must be 4 dim."),
        ({"type": "bilinear"}, (3, 1, 4, 5), "Filter must be square"),
    ],
)
def test_what_cannot_be(param, shape, message):
    with pytest.raises(FatalError, match=message):
        filled(shape, **param)
