"""Mixup against its formula, its distributions, and the objective that it stands for."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.blob import Blob
from caffetools.glog import FatalError
from caffetools.layer import TEST, TRAIN
from caffetools.proto import caffe_pb2
from caffetools.samples.mixup import Mixup, blend_rows, finish_batch, label_shape

RANDOM = np.random.default_rng(4)
KEY = 0xFEDC_BA98_7654_3210


def mixup(phase=TRAIN, **fields) -> Mixup:
    return Mixup(caffe_pb2.MixupParameter(**fields), phase)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 2, 3, 8, 33])
def test_data_and_soft_labels(count, dtype):
    x = RANDOM.random((count, 2, 3)).astype(dtype)
    labels = RANDOM.integers(0, 5, count)
    m = mixup(alpha=0.4, classes=5)
    y = x.copy()
    soft = m.apply(y, labels, KEY, 7)
    partners, shares = m.draw(count, KEY, 7)
    one_hot = np.eye(5)[labels]
    expected = [
        share * x[i] + (1 - share) * x[p] for i, (p, share) in enumerate(zip(partners, shares, strict=True))
    ]
    np.testing.assert_allclose(y, expected, rtol=1e-5)
    np.testing.assert_allclose(
        soft, shares[:, None] * one_hot + (1 - shares[:, None]) * one_hot[partners], atol=1e-6
    )
    assert soft.dtype == dtype
    assert sorted(partners) == list(range(count))


def test_integer_labels_stay():
    x = RANDOM.random((6, 4), np.float32)
    y = x.copy()
    labels = np.array([3, -1, 4, 1, 5, 900])
    m = mixup(alpha=0.4)
    np.testing.assert_array_equal(m.apply(y, labels, KEY, 0), labels)
    partners, shares = m.draw(6, KEY, 0)
    np.testing.assert_allclose(y, shares[:, None] * x + (1 - shares[:, None]) * x[partners], rtol=1e-5)


ORDERS = [[0], [1, 0], [0, 1, 2], [1, 2, 3, 0], [2, 3, 0, 1], [3, 1, 0, 2], [4, 0, 3, 2, 1]]


@pytest.mark.parametrize("order", ORDERS)
def test_any_order_is_blended_in_place(order):
    n = len(order)
    x = RANDOM.random((n, 7), np.float32)
    shares = RANDOM.random(n, np.float32)
    y = x.copy()
    blend_rows(y, np.array(order), shares, np.empty(7, np.float32), np.zeros(n, np.bool_))
    np.testing.assert_allclose(y, shares[:, None] * x + (1 - shares[:, None]) * x[order], rtol=1e-5)


@pytest.mark.parametrize(("classes", "a", "b"), [(10, 0.5, 0.5), (0, 1.5, 0.5)])
def test_distribution_of_the_shares(classes, a, b):
    m = mixup(alpha=0.5, classes=classes)
    shares = np.concatenate([m.draw(50, KEY, 50 * i)[1] for i in range(200)])
    assert abs(shares.mean() - a / (a + b)) < 0.02
    assert abs(shares.var() - a * b / ((a + b) ** 2 * (a + b + 1))) < 0.01


def test_partners_are_even():
    partners = np.array([mixup().draw(5, KEY, 5 * i)[0] for i in range(2000)])
    for place in partners.T:
        assert np.all(abs(np.bincount(place) - 400) < 5 * 20)


def test_both_forms_have_the_same_mean_loss():
    """For a loss that is linear in the label, as cross-entropy is: the mean over pairs and shares agrees."""
    count, classes = 400, 3
    labels = RANDOM.integers(0, classes, count)
    x = (np.eye(classes)[labels] + RANDOM.normal(0, 0.3, (count, classes))).astype(np.float32)

    def loss(m):
        total = 0.0
        for sample in range(0, 200 * count, count):
            y = x.copy()
            target = m.apply(y, labels, KEY, sample)
            target = target if target.ndim == 2 else np.eye(classes)[target.astype(int)]
            log_p = y - np.log(np.exp(y).sum(1, keepdims=True))
            total -= (target * log_p).sum() / count
        return total / 200

    published, integer = loss(mixup(alpha=0.8, classes=classes)), loss(mixup(alpha=0.8))
    assert published == pytest.approx(integer, rel=0.005)


def test_nothing_is_blended_in_tests():
    x = RANDOM.random((4, 3), np.float32)
    y = x.copy()
    labels = np.array([2, 0, 1, 2])
    np.testing.assert_array_equal(mixup(TEST, classes=3).apply(y, labels, KEY, 0), np.eye(3)[labels])
    np.testing.assert_array_equal(mixup(TEST).apply(y, labels, KEY, 0), labels)
    np.testing.assert_array_equal(y, x)


def test_draws_depend_on_the_key_and_the_first_sample():
    same, other_key, other_sample = (mixup().draw(20, *at)[1] for at in ((KEY, 3), (KEY + 1, 3), (KEY, 4)))
    np.testing.assert_array_equal(same, mixup().draw(20, KEY, 3)[1])
    assert len({tuple(shares) for shares in (same, other_key, other_sample)}) == 3


@pytest.mark.parametrize("label", [-1, 5])
def test_a_label_that_is_no_class(label):
    with pytest.raises(FatalError, match=f"the label {label} is none of mixup's classes: 5"):
        mixup(classes=5).check_label(label)
    mixup().check_label(label)


@pytest.mark.parametrize(
    ("m", "shape"),
    [(None, (3,)), (mixup(), (3,)), (mixup(classes=4), (3, 4)), (mixup(TEST, classes=4), (3, 4))],
)
def test_shape_of_labels(m, shape):
    data, label = Blob((3, 2)), Blob(())
    finish_batch(m, data, label, [1, 2, 3], KEY, 0)
    assert label.shape == label_shape(m, 3) == shape
    np.testing.assert_array_equal(data.data, np.zeros((3, 2)))
