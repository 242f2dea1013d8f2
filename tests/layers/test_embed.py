from __future__ import annotations

import numpy as np
import pytest

from caffetools.glog import FatalError
from tests.layers.gradient import SingleLayer, check_gradient

FILLERS = "weight_filler { type: 'gaussian' } bias_filler { type: 'gaussian' }"


def layer_text(param):
    return f'type: "Embed" embed_param {{ {param} {FILLERS} }}'


@pytest.mark.parametrize("shape", [(4, 3), (5,), (1, 1), (), (2, 0)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_rows_of_the_weights(shape, bias):
    index = np.random.default_rng(1).integers(0, 8, shape)
    text = layer_text(f"num_output: 5 input_dim: 8 bias_term: {str(bias).lower()}")
    rig = SingleLayer(text, index)
    weights, *rest = [blob.data for blob in rig.layer.blobs]
    assert [blob.shape for blob in rig.layer.blobs] == [(8, 5), (5,)][: 1 + bias]
    expected = weights[index] + (rest[0] if bias else 0)
    np.testing.assert_array_equal(rig.forward()[0], expected, strict=True)
    check_gradient(text, index, check=[])


def test_another_batch():
    rig = SingleLayer(layer_text("num_output: 2 input_dim: 4 bias_term: false"), np.zeros((2, 3)))
    rig.reshape(np.array([[3], [1]]))
    np.testing.assert_array_equal(rig.forward()[0], rig.layer.blobs[0].data[[[3], [1]]])


def test_fixed_parameters_get_no_gradient():
    rig = SingleLayer(layer_text("num_output: 2 input_dim: 4"), np.zeros(3))
    rig.layer.param_propagate_down = [False, False]
    (y,) = rig.forward()
    rig.backward(y, propagate_down=[False])
    assert not any(blob.diff.any() for blob in rig.layer.blobs)


@pytest.mark.parametrize("wrong", [-1, 8, 1e9, np.nan])
def test_an_index_without_a_row(wrong):
    rig = SingleLayer(layer_text("num_output: 5 input_dim: 8"), np.array([0, 7, wrong]))
    words = r"index < 8 the value \S+ at index 2 of the batch has no row: input_dim is 8"
    with pytest.raises(FatalError, match=words):
        rig.forward()


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ("num_output: 5", r"input_dim > 0 \(0 vs. 0\) EmbedLayer input_dim must be positive."),
        ("input_dim: 5", r"num_output > 0 \(0 vs. 0\) EmbedLayer num_output must be positive."),
    ],
)
def test_sizes_are_required(param, message):
    with pytest.raises(FatalError, match=message):
        SingleLayer(layer_text(param), np.zeros(3))


def test_the_indices_have_no_gradient():
    rig = SingleLayer(layer_text("num_output: 5 input_dim: 8"), np.zeros(3))
    (y,) = rig.forward()
    with pytest.raises(FatalError, match="Can't backpropagate to EmbedLayer input."):
        rig.backward(y)
    assert not rig.layer.allow_force_backward(0)
