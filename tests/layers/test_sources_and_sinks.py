"""Input, DummyData, Split and Silence."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.glog import FatalError
from tests.layers.gradient import SingleLayer, check_gradient, uniform


def input_text(*shapes):
    return (
        f'type: "Input" input_param {{ {" ".join(f"shape {{ dim: {list(shape)} }}" for shape in shapes)} }}'
    )


def test_input_is_zero_and_then_what_was_written():
    rig = SingleLayer(input_text((2, 3)))
    assert rig.forward()[0].tolist() == [[0, 0, 0], [0, 0, 0]]
    rig.top[0].data[...] = 5
    assert (rig.forward()[0] == 5).all()


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [([(2, 3)], [(2, 3), (2, 3)]), ([(2, 3), (4,)], [(2, 3), (4,)]), ([], [(), ()]), ([()], [(), ()])],
)
def test_input_shapes(shapes, expected):
    assert [blob.shape for blob in SingleLayer(input_text(*shapes), tops=2).top] == expected


def test_input_keeps_a_shape_that_was_given_later():
    rig = SingleLayer(input_text((2, 3)))
    rig.top[0].reshape((5, 3))
    rig.reshape()
    assert rig.forward()[0].shape == (5, 3)


def test_input_refuses_a_wrong_number_of_shapes():
    with pytest.raises(
        FatalError, match="Must specify 'shape' once, once per top blob, or not at all: 3 tops vs. 2"
    ):
        SingleLayer(input_text((1,), (2,)), tops=3)


def dummy_text(settings):
    return f'type: "DummyData" dummy_data_param {{ {settings} }}'


GAUSSIAN = 'data_filler { type: "gaussian" std: 2 }'
CONSTANT = 'data_filler { type: "constant" value: 7 }'


def test_dummy_data_is_zero_without_a_filler():
    assert not SingleLayer(dummy_text("shape { dim: 2 dim: 3 }")).forward()[0].any()


@pytest.mark.parametrize(
    ("settings", "shapes"),
    [
        ("shape { dim: 2 dim: 3 }", [(2, 3), (2, 3)]),
        ("shape { dim: 2 } shape { dim: 4 dim: 1 }", [(2,), (4, 1)]),
        ("num: 2 channels: 3 height: 4 width: 5", [(2, 3, 4, 5), (2, 3, 4, 5)]),
        ("num: [2, 6] channels: 3 height: 4 width: [5, 1]", [(2, 3, 4, 5), (6, 3, 4, 1)]),
    ],
)
def test_dummy_data_shapes(settings, shapes):
    assert [top.shape for top in SingleLayer(dummy_text(settings), tops=2).forward()] == shapes


def test_dummy_data_fills_constants_once_and_the_rest_in_every_pass():
    rig = SingleLayer(dummy_text(f"shape {{ dim: 50 dim: 50 }} {CONSTANT} {GAUSSIAN}"), tops=2)
    assert (rig.top[0].data == 7).all()
    rig.top[0].data[0] = 1
    first, second = rig.forward(), rig.forward()
    assert first[0][0, 0] == 1  # not filled again
    assert (first[1] != second[1]).all()
    for constant, random in (first, second):
        assert (constant[1:] == 7).all()
        assert abs(random.std() - 2) < 0.1


def test_dummy_data_shares_one_filler():
    first, second = SingleLayer(dummy_text(f"shape {{ dim: 9 }} {GAUSSIAN}"), tops=2).forward()
    assert (first != second).all()


def test_dummy_data_resumes():
    rig = SingleLayer(dummy_text(f"shape {{ dim: 9 }} {GAUSSIAN}"), seed=1)
    rig.forward()
    state = rig.layer.get_state()
    expected = rig.forward()[0]
    other = SingleLayer(dummy_text(f"shape {{ dim: 9 }} {GAUSSIAN}"), seed=2)
    other.layer.set_state(state)
    np.testing.assert_array_equal(other.forward()[0], expected)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("", "Must specify 'shape' once, or once per top blob (3); specified 0."),
        (
            "shape { dim: 1 } shape { dim: 1 }",
            "Must specify 'shape' once, or once per top blob (3); specified 2.",
        ),
        ("num: 1 channels: 1 height: 1", "Must specify 'width' once, or once per top blob (3); specified 0."),
        ("num: 1 shape { dim: 1 }", "Both shape and legacy fields were specified"),
        (
            f"shape {{ dim: 1 }} {CONSTANT} {CONSTANT}",
            "Number of data fillers must be 0, 1 or equal to the number",
        ),
    ],
)
def test_dummy_data_refuses(settings, words):
    with pytest.raises(FatalError) as error:
        SingleLayer(dummy_text(settings), tops=3)
    assert words in str(error.value)


@pytest.mark.parametrize("tops", [1, 2, 3, 5])
def test_split_gives_the_bottom_and_sums_the_gradients(tops):
    rig = SingleLayer('type: "Split"', uniform(2, 3), tops=tops)
    for top in rig.forward():
        np.testing.assert_array_equal(top, rig.bottom[0].data)
    assert all(top.shares_data_with(rig.bottom[0]) for top in rig.top)
    check_gradient('type: "Split"', uniform(2, 3), tops=tops)


def test_split_follows_a_bottom_that_moves():
    rig = SingleLayer('type: "Split"', uniform(2, 3), tops=2)
    other = SingleLayer(input_text((2, 3))).top[0]
    other.data[...] = 4
    rig.bottom[0].share_data(other)
    rig.layer.forward(rig.bottom, rig.top)
    assert all((top.data == 4).all() for top in rig.top)


def test_silence_takes_everything_and_gives_zero_gradients():
    rig = SingleLayer('type: "Silence"', uniform(2, 3), uniform(4), tops=0)
    assert rig.forward() == []
    first, second = rig.backward(propagate_down=[True, False])
    assert not first.any()
    assert np.isnan(second).all()  # as it was
