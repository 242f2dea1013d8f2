"""DummyData: the recorded batches, what is filled when, shapes, resuming, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.glog import FatalError
from tests.layers.gradient import SingleLayer
from tests.layers.recorded_batches import check_recorded_batches


def dummy(data, tops=1, **options):
    return SingleLayer(f'name: "d" type: "DummyData" dummy_data_param {{ {data} }}', tops=tops, **options)


def test_recording(monkeypatch):
    check_recorded_batches("dummy_data", monkeypatch)


def test_random_values_change_and_constant_ones_stay():
    fillers = 'data_filler { type: "gaussian" std: 1 } data_filler { type: "constant" value: 2 }'
    rig = dummy(f"shape {{ dim: 50 }} {fillers}", tops=2)
    (first, constant), (second, _) = rig.forward(), rig.forward()
    assert (first != second).all()
    assert (constant == 2).all()
    rig.top[1].data[...] = 5  # filled once: what the program writes stays
    assert (rig.forward()[1] == 5).all()


def test_zero_by_default():
    assert dummy("shape { dim: 3 }").forward()[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("data", "shapes"),
    [
        ("shape { dim: 2 dim: 3 } shape { dim: 4 }", [(2, 3), (4,)]),
        ("shape { dim: 2 dim: 3 }", [(2, 3), (2, 3)]),
        ("num: 2 channels: 3 height: 4 width: 5", [(2, 3, 4, 5)] * 2),
        (
            "num: 2 num: 6 channels: 3 channels: 7 height: 4 height: 8 width: 5 width: 9",
            [(2, 3, 4, 5), (6, 7, 8, 9)],
        ),
    ],
)
def test_shapes(data, shapes):
    assert [top.shape for top in dummy(data, tops=2).top] == shapes


def test_resume():
    data = 'shape { dim: 9 } data_filler { type: "uniform" }'
    first, resumed = dummy(data), dummy(data, seed=2)
    first.forward()
    resumed.layer.set_state(first.layer.get_state())
    for _ in range(3):
        np.testing.assert_array_equal(resumed.forward()[0], first.forward()[0])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            "shape { dim: 1 } shape { dim: 1 }",
            r"Must specify 'shape' once, or once per top blob \(3\); specified 2",
        ),
        ("", "Must specify 'shape' once, or once per top blob"),
        ("num: 1 num: 1 channels: 1 height: 1 width: 1", "Must specify 'num' once"),
        ("num: 1 shape { dim: 1 }", "Both shape and legacy fields were specified"),
        (
            "shape { dim: 1 } data_filler {} data_filler {}",
            "Number of data fillers must be 0, 1 or equal to the",
        ),
    ],
)
def test_refusals(data, words):
    with pytest.raises(FatalError, match=words):
        dummy(data, tops=3)
