from __future__ import annotations

import numpy as np
import pytest

from caffetools.glog import FatalError
from tests.layers.gradient import SingleLayer, check_gradient, uniform

CASES = [
    ("", (2, 3, 4, 5), (2, 60)),
    ("axis: 0", (2, 3, 4), (24,)),
    ("axis: 0", (7,), (7,)),
    ("", (3, 1), (3, 1)),
    ("axis: 2", (2, 3, 4, 5), (2, 3, 20)),
    ("axis: 1 end_axis: 2", (2, 3, 4, 5), (2, 12, 5)),
    ("axis: -3 end_axis: -2", (2, 3, 4, 5), (2, 12, 5)),
    ("axis: 2 end_axis: 2", (2, 3, 4, 5), (2, 3, 4, 5)),
    ("", (0, 3, 4), (0, 12)),
]


@pytest.mark.parametrize(("param", "shape", "expected"), CASES)
def test_shape_and_values(param, shape, expected):
    x = uniform(*shape)
    rig = SingleLayer(f'type: "Flatten" flatten_param {{ {param} }}', x)
    (y,) = rig.forward()
    np.testing.assert_array_equal(y, x.reshape(expected).astype(np.float32), strict=True)
    assert rig.top[0].shares_data_with(rig.bottom[0])


def test_gradient():
    check_gradient('type: "Flatten"', uniform(2, 3, 4))


def test_another_batch():
    rig = SingleLayer('type: "Flatten"', uniform(2, 3, 4))
    for rows in (5, 1):
        x = uniform(rows, 4, 3)
        rig.reshape(x)
        np.testing.assert_array_equal(rig.forward()[0], x.reshape(rows, 12).astype(np.float32))


@pytest.mark.parametrize(
    ("param", "shape", "message"),
    [
        ("", (3,), r"axis 1 out of range for 1-D Blob with shape 3 \(3\)"),
        ("end_axis: 4", (2, 3, 4, 5), "axis 4 out of range for 4-D Blob"),
        ("axis: 3 end_axis: 1", (2, 3, 4, 5), r"start_axis <= end_axis \(3 vs. 1\)"),
    ],
)
def test_axes_that_do_not_fit(param, shape, message):
    with pytest.raises(FatalError, match=message):
        SingleLayer(f'type: "Flatten" flatten_param {{ {param} }}', np.ones(shape))


def test_not_in_place():
    with pytest.raises(FatalError, match="Flatten Layer does not allow in-place computation."):
        SingleLayer('type: "Flatten"', np.ones((2, 3)), in_place=True)
