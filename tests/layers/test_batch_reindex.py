from __future__ import annotations

import numpy as np
import pytest

from caffetools.glog import FatalError
from tests.layers.gradient import SingleLayer, check_gradient, uniform

CASES = [((4, 3, 2), [0, 0, 3, 2, 0]), ((3,), [2, 1]), ((1, 5), [0]), ((2, 3), []), ((5, 1), [4, 3, 2, 1, 0])]


@pytest.mark.parametrize(("shape", "index"), CASES)
def test_gathers_rows_and_adds_their_gradients(shape, index):
    x = uniform(*shape)
    (y,) = SingleLayer('type: "BatchReindex"', x, np.array(index)).forward()
    np.testing.assert_array_equal(y, x[np.array(index, int)].astype(np.float32), strict=True)
    check_gradient('type: "BatchReindex"', x, np.array(index), check=[0])


def test_another_batch():
    rig = SingleLayer('type: "BatchReindex"', uniform(2, 3), np.zeros(4))
    x = uniform(5, 2)
    rig.reshape(x, np.array([4, 1]))
    np.testing.assert_array_equal(rig.forward()[0], x[[4, 1]].astype(np.float32))


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([0, -1], "Index specified for reindex layer was negative: -1 at index 1"),
        ([3, 0], "Index specified for reindex layer was greater than batch size 3: 3 at index 0"),
        ([0, np.nan], "nan at index 1"),
    ],
)
def test_an_index_out_of_range(index, message):
    rig = SingleLayer('type: "BatchReindex"', uniform(3, 2), np.array(index))
    with pytest.raises(FatalError, match=message):
        rig.forward()


def test_the_indices_have_one_axis_and_no_gradient():
    with pytest.raises(FatalError, match=r"1 == bottom\[1\]->num_axes\(\) \(1 vs. 2\)"):
        SingleLayer('type: "BatchReindex"', uniform(3, 2), np.zeros((2, 1)))
    rig = SingleLayer('type: "BatchReindex"', uniform(3, 2), np.zeros(2))
    (y,) = rig.forward()
    with pytest.raises(FatalError, match="Cannot backprop to index."):
        rig.backward(y)
    assert [rig.layer.allow_force_backward(i) for i in range(2)] == [True, False]
