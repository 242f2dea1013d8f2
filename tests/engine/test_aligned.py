"""Arrays at lines of the cache."""

import numpy as np
import pytest

from caffetools.blob import Blob, FlatBuffer
from caffetools.engine.aligned import LINE, PAGE, aligned_empty, aligned_zeros


@pytest.mark.parametrize("shape", [1, 7, 1000, (3, 5), (2, 100_000)])
@pytest.mark.parametrize("boundary", [LINE, PAGE])
@pytest.mark.parametrize("make", [aligned_zeros, aligned_empty])
def test_arrays_begin_at_the_boundary(make, boundary, shape):
    array = make(shape, np.float32, boundary)
    assert array.ctypes.data % boundary == 0
    assert array.shape == np.empty(shape).shape and array.dtype == np.float32 and array.flags.c_contiguous
    if make is aligned_zeros:
        assert not array.any()


@pytest.mark.parametrize("count", [1, 3, 100_000])
def test_blobs_begin_at_a_line(count):
    blobs = [Blob((count,)) for _ in range(20)]
    places = [blob.data.ctypes.data for blob in blobs] + [blob.diff.ctypes.data for blob in blobs]
    assert all(place % LINE == 0 for place in places)
    assert FlatBuffer(count, np.float32).array.ctypes.data % LINE == 0
