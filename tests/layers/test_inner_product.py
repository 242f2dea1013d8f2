"""InnerProduct against NumPy and numeric gradients."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.engine.cpu import inner_product
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


@pytest.mark.parametrize("batch", [1, 3, 8, 9, 40])
@pytest.mark.parametrize(("outputs", "inputs"), [(10, 64), (97, 300), (1, 5)])
@pytest.mark.parametrize("slope", [1, 0.25])
def test_on_one_thread_and_on_many(batch, outputs, inputs, slope, monkeypatch):
    x, w, bias = uniform(batch, inputs, seed=1), uniform(outputs, inputs, seed=2), uniform(outputs, seed=3)
    x, w, bias = (values.astype(np.float32) for values in (x, w, bias))
    results = []
    for most in (0, 1 << 60):
        monkeypatch.setattr(inner_product, "SERIAL_BELOW", most)
        monkeypatch.setattr(inner_product, "SERIAL_DOTS_BELOW", most)
        results.append(np.full((batch, outputs), np.nan, np.float32))
        inner_product.inner_product(x, w, bias, results[-1], slope)
    np.testing.assert_array_equal(*results)
    expected = x.astype(np.float64) @ w.astype(np.float64).T + bias
    np.testing.assert_allclose(results[0], np.where(expected < 0, slope * expected, expected), rtol=1e-4, atol=1e-4)
