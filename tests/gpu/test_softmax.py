"""Softmax and InnerProduct on the GPU: gradients, and shapes for which other kernels run than for the recordings."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.gradient import SingleLayer, check_gradient, uniform

SHAPES = [(3, 70), (2, 130), (2, 5), (2, 3, 4), (1, 70, 2)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_softmax_against_the_cpu(shape, engine):
    x, dy = uniform(*shape, low=-5, high=5), uniform(*shape, seed=4)
    rigs = [SingleLayer('type: "Softmax"', x, engine=where) for where in (None, engine)]
    (expected,), (actual,) = (rig.forward() for rig in rigs)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    (expected,), (actual,) = (rig.backward(dy) for rig in rigs)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


def test_nan_stays_in_its_row(engine):
    x = uniform(3, 70)
    x[1, 5] = np.nan
    (y,) = SingleLayer('type: "Softmax"', x, engine=engine).forward()
    assert np.isnan(y[1]).any() and np.isfinite(y[[0, 2]]).all()


@pytest.mark.parametrize("transpose", ["true", "false"])
def test_inner_product_has_the_gradient(transpose, engine):
    param = f'num_output: 3 transpose: {transpose} weight_filler {{ type: "xavier" }}'
    text = f'type: "InnerProduct" inner_product_param {{ {param} }}'
    check_gradient(text, uniform(2, 4), engine=engine, samples=12)


@pytest.mark.parametrize("normalization", ["FULL", "VALID", "BATCH_SIZE", "NONE"])
@pytest.mark.parametrize("ignore", ["", "ignore_label: 1"])
def test_softmax_with_loss_against_the_cpu(normalization, ignore, engine):
    text = f'type: "SoftmaxWithLoss" loss_param {{ normalization: {normalization} {ignore} }}'
    x, labels = uniform(2, 3, 4), np.arange(8).reshape(2, 4) % 3
    rigs = [SingleLayer(text, x, labels, engine=where) for where in (None, engine)]
    (expected,), (actual,) = (rig.forward() for rig in rigs)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    expected, actual = (rig.backward(0.5, propagate_down=[True, False])[0] for rig in rigs)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)
