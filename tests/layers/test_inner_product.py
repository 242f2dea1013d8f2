"""InnerProduct against NumPy and numeric gradients."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.glog import FatalError
from tests.layers.gradient import SingleLayer, check_gradient, uniform

FILLERS = 'weight_filler { type: "gaussian" } bias_filler { type: "gaussian" }'
CASES = [
    ("num_output: 7", (3, 4, 2, 5), 1),
    ("num_output: 7 transpose: true", (3, 4, 2, 5), 1),
    ("num_output: 3 bias_term: false", (1, 6), 1),
    ("num_output: 3 bias_term: false transpose: true", (4, 6), 1),
    ("num_output: 1", (5, 1), 1),
    ("num_output: 17 axis: 2", (2, 3, 4), 2),
    ("num_output: 5 axis: -1", (2, 3, 33), 2),
    ("num_output: 4 axis: 0", (2, 3), 0),
    ("num_output: 4", (0, 3), 1),
]


def text_of(settings):
    return f'type: "InnerProduct" inner_product_param {{ {settings} {FILLERS} }}'


@pytest.mark.parametrize(("settings", "shape", "axis"), CASES)
def test_forward(settings, shape, axis):
    x = uniform(*shape)
    rig = SingleLayer(text_of(settings), x, dtype=np.float64)
    w, *b = (blob.data for blob in rig.layer.blobs)
    weights = w if "transpose" in settings else w.T
    expected = x.reshape(*shape[:axis], weights.shape[0]) @ weights + (b[0] if b else 0)
    assert len(b) == ("bias_term" not in settings)
    np.testing.assert_allclose(rig.forward()[0], expected, rtol=1e-12)


@pytest.mark.parametrize(("settings", "shape", "axis"), CASES)
def test_gradient(settings, shape, axis):
    check_gradient(text_of(settings), uniform(*shape), samples=40)


@pytest.mark.parametrize("wanted", [(True, False), (False, True)])
def test_frozen_parameters_get_no_gradient(wanted):
    rig = SingleLayer(text_of("num_output: 3"), uniform(2, 4))
    rig.layer.param_propagate_down = list(wanted)
    rig.backward(*rig.forward())
    assert [bool(blob.diff.any()) for blob in rig.layer.blobs] == list(wanted)


def test_other_batches_later():
    rig = SingleLayer(text_of("num_output: 3"), uniform(2, 4))
    w, b = (blob.data for blob in rig.layer.blobs)
    for rows in (5, 1):
        x = uniform(rows, 4)
        rig.reshape(x)
        np.testing.assert_allclose(rig.forward()[0], x @ w.T + b, rtol=1e-5, atol=1e-6)


def test_refuses_inputs_of_another_size():
    rig = SingleLayer(text_of("num_output: 3"), uniform(2, 4))
    with pytest.raises(
        FatalError, match="Input size incompatible with inner product parameters. .layer 'under_test'"
    ):
        rig.reshape(uniform(2, 5))


def test_refuses_no_outputs():
    with pytest.raises(FatalError, match="num_output > 0"):
        SingleLayer(text_of(""), uniform(2, 4))
