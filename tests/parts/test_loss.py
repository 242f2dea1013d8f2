"""What losses have in common."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from caffetools.glog import FatalError
from caffetools.parts.loss import class_indices, normalization
from caffetools.proto import caffe_pb2

LossParameter = caffe_pb2.LossParameter
LAYER = SimpleNamespace(name="loss")

CASES = [
    ({}, 3),
    ({"normalize": True}, 3),
    ({"normalize": False}, 4),
    ({"normalization": LossParameter.FULL}, 20),
    ({"normalization": LossParameter.VALID}, 3),
    ({"normalization": LossParameter.BATCH_SIZE}, 4),
    ({"normalization": LossParameter.NONE}, 1),
    ({"normalization": LossParameter.NONE, "normalize": True}, 1),
]


@pytest.mark.parametrize(("fields", "norm"), CASES)
def test_norm(fields, norm):
    assert normalization(LossParameter(**fields))(4, 5, 3) == norm


def test_the_default_may_be_another():
    assert normalization(LossParameter(), default=LossParameter.BATCH_SIZE)(4, 5, 3) == 4
    assert normalization(LossParameter(normalize=True), default=LossParameter.BATCH_SIZE)(4, 5, 3) == 3


def test_a_norm_is_never_below_one():
    assert normalization(LossParameter())(4, 5, 0) == 1


def test_labels_become_integers():
    indices = class_indices(LAYER, np.array([0, 2, 1.0], np.float32), 3)
    assert indices.tolist() == [0, 2, 1] and indices.dtype.kind == "i"


@pytest.mark.parametrize("wrong", [-1, 3, np.nan, np.inf])
def test_labels_out_of_range_are_named(wrong):
    words = f"label {wrong:g} at index 1 of the batch is not one of the classes 0 to 2 \\(layer 'loss'\\)"
    with pytest.raises(FatalError, match=words):
        class_indices(LAYER, np.array([0, wrong, 7], np.float32), 3)
