"""Blobs: shapes, storage that grows and is shared, views."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.blob import INT_MAX, Blob, FlatBuffer, shape_text
from caffetools.glog import FatalError


def filled(*shape, start=0):
    blob = Blob(shape)
    blob.data[...] = np.arange(start, start + blob.count).reshape(shape)
    return blob


@pytest.mark.parametrize(
    ("shape", "count", "text"),
    [
        ((64, 20, 24, 24), 737280, "64 20 24 24 (737280)"),
        ((), 1, "(1)"),
        ((5,), 5, "5 (5)"),
        ((3, 0, 2), 0, "3 0 2 (0)"),
    ],
)
def test_shape_and_count(shape, count, text):
    blob = Blob(shape)
    assert (blob.shape, blob.count, blob.shape_string, shape_text(shape)) == (shape, count, text, text)
    assert blob.data.shape == blob.diff.shape == shape
    assert blob.flat_data.shape == blob.flat_diff.shape == (count,)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_data_and_diff_begin_with_zeros_of_the_type(dtype):
    blob = Blob((2, 3), dtype)
    for array in (blob.data, blob.diff):
        assert array.dtype == dtype and not array.any()


def test_the_views_show_the_same_numbers():
    blob = filled(2, 3)
    blob.flat_data[4] = 40
    blob.data[0, 1] = 10
    assert blob.data.tolist() == [[0, 10, 2], [3, 40, 5]]
    assert blob.flat_data is blob.flat_data and not blob.diff.any()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1,) * 33, "a blob has at most 32 axes, not 33"),
        ((2, -1), r"a blob cannot have the shape 2 -1"),
        ((INT_MAX, 2), "blob size exceeds INT_MAX"),
        ((2**16, 2**16), r"blob size exceeds INT_MAX: 65536 65536 \(4294967296\)"),
    ],
)
def test_shapes_that_cannot_be(shape, message):
    with pytest.raises(FatalError, match=message):
        Blob(shape)


def test_the_largest_shape_takes_no_memory_before_it_is_used():
    assert Blob((INT_MAX,)).count == INT_MAX
    assert Blob((1,) * 32).count == 1


def test_a_blob_that_shrinks_keeps_its_memory():
    blob = filled(4, 3)
    blob.reshape((2, 3))
    assert blob.data.tolist() == [[0, 1, 2], [3, 4, 5]]
    blob.reshape((4, 3))
    assert blob.data[3].tolist() == [9, 10, 11]


def test_a_blob_that_grows_gets_more():
    blob = filled(2, 2)
    blob.reshape((3, 3))
    assert blob.data.shape == (3, 3) and blob.flat_data.size == 9


def test_reshape_like():
    blob = Blob((2,))
    blob.reshape_like(Blob((3, 4)))
    assert blob.shape == (3, 4)


def test_shared_data_show_in_both():
    owner, user = filled(2, 3), Blob((6,))
    user.share_data(owner)
    assert user.shares_data_with(owner) and user.data.tolist() == [0, 1, 2, 3, 4, 5]
    user.data[5] = 50
    assert owner.data[1, 2] == 50
    user.diff[...] = 1
    assert not owner.diff.any()


def test_shared_diffs_show_in_both():
    owner, user = filled(2, 3), Blob((3, 2))
    user.share_diff(owner)
    user.diff[2, 1] = 7
    assert owner.diff[1, 2] == 7 and not user.shares_data_with(owner)


def test_sharers_stay_together_when_the_storage_moves():
    owner, user = filled(2, 3), Blob((6,))
    user.share_data(owner)
    data, diff = FlatBuffer(10, np.float32), FlatBuffer(10, np.float32)
    data.array[:] = -1
    owner.place(data.piece(1, 8), diff.piece(1, 8))
    assert data.array.tolist() == [-1, 0, 1, 2, 3, 4, 5, -1, -1, -1], "the values move along"
    user.data[0] = 100
    owner.diff[0, 0] = 3
    assert data.array[1] == owner.data[0, 0] == 100 and diff.array[1] == 3


@pytest.mark.parametrize("share", [Blob.share_data, Blob.share_diff])
def test_only_equal_counts_are_shared(share):
    with pytest.raises(FatalError, match=r"count_ == other.count\(\) \(6 vs. 5\)"):
        share(Blob((2, 3)), Blob((5,)))


@pytest.mark.parametrize(("axis", "expected"), [(0, 0), (2, 2), (-1, 2), (-3, 0)])
def test_canonical_axis(axis, expected):
    assert Blob((2, 3, 4)).canonical_axis(axis) == expected


@pytest.mark.parametrize("axis", [3, -4])
def test_an_axis_out_of_range(axis):
    words = rf"axis {axis} out of range for 3-D Blob with shape 2 3 4 \(24\)"
    with pytest.raises(FatalError, match=words):
        Blob((2, 3, 4)).canonical_axis(axis)


def test_a_scalar_has_no_axis():
    with pytest.raises(FatalError, match=r"axis 0 out of range for 0-D Blob with shape \(1\)"):
        Blob(()).canonical_axis(0)


@pytest.mark.parametrize(
    ("bounds", "expected"), [((0,), 120), ((1,), 60), ((4,), 1), ((1, 3), 12), ((2, 2), 1), ((0, 1), 2)]
)
def test_count_from(bounds, expected):
    assert Blob((2, 3, 4, 5)).count_from(*bounds) == expected


def test_legacy_sizes():
    assert [Blob((2, 3)).legacy(axis) for axis in range(4)] == [2, 3, 1, 1]
    with pytest.raises(FatalError, match="Cannot use legacy accessors on Blobs with > 4 axes."):
        Blob((1, 2, 3, 4, 5)).legacy(0)
