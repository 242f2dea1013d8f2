from __future__ import annotations

import numpy as np
import pytest

from caffetools.glog import FatalError
from tests.layers.gradient import SingleLayer, uniform


def run(selector, *data):
    """Build a Filter and run it as a net would: with a reshape before every forward pass."""
    rig = SingleLayer('type: "Filter"', *data, np.array(selector), tops=len(data))
    rig.layer.reshape(rig.bottom, rig.top)
    return rig, rig.forward()


@pytest.mark.parametrize("selector", [[1, 0, 1, 1], [0, 0, 0, 1], [1, 1, 1, 1], [0, -2, 0.5, 0], [0] * 4])
@pytest.mark.parametrize("selector_axes", [1, 3])
def test_keeps_the_selected_rows(selector, selector_axes):
    first, second = uniform(4, 3, 2).astype(np.float32), uniform(4).astype(np.float32)
    chosen = np.array(selector) != 0
    rig, tops = run(np.reshape(selector, (4,) + (1,) * (selector_axes - 1)), first, second)
    for top, data in zip(tops, (first, second), strict=True):
        np.testing.assert_array_equal(top, data[chosen], strict=True)
    diffs = [uniform(*top.shape, seed=i).astype(np.float32) for i, top in enumerate(tops)]
    below = rig.backward(*diffs, propagate_down=[True, True, False])
    for top_diff, diff in zip(diffs, below, strict=False):
        np.testing.assert_array_equal(diff[chosen], top_diff)
        assert not diff[~chosen].any()


def test_all_rows_count_while_the_net_is_built():
    rig = SingleLayer('type: "Filter"', np.ones((4, 3)), np.zeros(4))
    assert rig.top[0].shape == (4, 3)


def test_only_the_wanted_gradients_are_written():
    rig, tops = run([1, 0], uniform(2, 3), uniform(2, 3))
    first, second, _ = rig.backward(*tops, propagate_down=[False, True, False])
    assert np.isnan(first).all() and np.isfinite(second).all()


@pytest.mark.parametrize(
    ("data", "selector", "message"),
    [
        ((4, 3), (4, 2), r"\(2 vs. 1\) Selector blob dimensions must be singletons \(1\), except the first"),
        ((4, 3), (5,), r"\(5 vs. 4\) Each bottom should have the same 0th dimension as the selector blob"),
        ((4, 3), (), "axis 0 out of range for 0-D Blob"),
    ],
)
def test_shapes_that_do_not_fit(data, selector, message):
    with pytest.raises(FatalError, match=message):
        SingleLayer('type: "Filter"', np.ones(data), np.ones(selector))


def test_one_top_for_each_bottom_but_the_selector():
    with pytest.raises(FatalError, match=r"\(2 vs. 1\) there is one top for each bottom but the last"):
        SingleLayer('type: "Filter"', np.ones((4, 3)), np.ones(4), tops=2)


def test_the_selector_has_no_gradient():
    rig, tops = run([1, 0], uniform(2, 3))
    with pytest.raises(FatalError, match="Filter Layer cannot backpropagate to filter index inputs"):
        rig.backward(*tops)
    rig.layer.param.bottom.extend(["data", "selector"])
    assert [rig.layer.allow_force_backward(i) for i in range(2)] == [True, False]
