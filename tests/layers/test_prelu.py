from __future__ import annotations

import numpy as np
import pytest

from caffetools.glog import FatalError
from tests.layers.gradient import SingleLayer, away_from, check_gradient, uniform

SHAPES = [(2, 3, 5, 7), (4, 3), (2, 1, 1), (1, 1), (3, 5, 1, 2), (0, 3, 2)]
SHARED = "prelu_param { channel_shared: true }"


def formula(x, slopes):
    slopes = np.reshape(slopes, (-1,) + (1,) * (x.ndim - 2)) if np.ndim(slopes) else slopes
    return np.where(x > 0, x, slopes * x)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_formula(shape, in_place, shared):
    x = uniform(*shape).astype(np.float32)
    rig = SingleLayer(f'type: "PReLU" {SHARED if shared else ""}', x, in_place=in_place)
    assert rig.layer.blobs[0].shape == (() if shared else shape[1:2])
    slopes = rig.layer.blobs[0].data
    slopes[...] = uniform(*slopes.shape, seed=5)
    np.testing.assert_array_equal(rig.forward()[0], formula(x, slopes))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("shared", ["", SHARED])
def test_gradient(shape, in_place, shared):
    check_gradient(f'type: "PReLU" {shared}', away_from([0], *shape), in_place=in_place)


def test_slopes_start_at_a_quarter_or_where_the_filler_says():
    x = np.ones((1, 3))
    assert SingleLayer('type: "PReLU"', x).layer.blobs[0].data.tolist() == [0.25] * 3
    text = 'type: "PReLU" prelu_param { filler { value: 0.5 } }'
    assert SingleLayer(text, x).layer.blobs[0].data.tolist() == [0.5] * 3


def test_a_fixed_slope_gets_no_gradient():
    rig = SingleLayer('type: "PReLU"', uniform(2, 3))
    rig.layer.param_propagate_down = [False]
    rig.forward()
    (dx,) = rig.backward(np.ones((2, 3)))
    assert not rig.layer.blobs[0].diff.any() and np.isfinite(dx).all()


def test_the_slope_alone_may_be_wanted():
    rig = SingleLayer('type: "PReLU"', -np.ones((2, 3)))
    rig.forward()
    (dx,) = rig.backward(np.ones((2, 3)), propagate_down=[False])
    assert rig.layer.blobs[0].diff.tolist() == [-2] * 3 and np.isnan(dx).all()


def test_batches_may_change_but_channels_may_not():
    rig = SingleLayer('type: "PReLU"', uniform(2, 3, 4))
    x = uniform(5, 3, 2)
    rig.reshape(x)
    np.testing.assert_allclose(rig.forward()[0], formula(x, np.full(3, 0.25)), rtol=1e-6)
    with pytest.raises(FatalError, match=r"\(4 vs. 3\) The number of channels must not change."):
        rig.reshape(uniform(5, 4, 2))


def test_a_blob_without_channels_is_refused():
    with pytest.raises(FatalError, match=r"\(1 vs. 2\) Number of axes of bottom blob must be >=2."):
        SingleLayer('type: "PReLU"', np.ones(3))
