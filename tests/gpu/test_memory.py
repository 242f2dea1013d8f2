"""The states of storages, and the copies they cost."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from caffetools.blob import Blob


@pytest.fixture
def blob(engine):
    made = Blob((2, 3), np.float32, engine.storage)
    engine.counters.reset()
    return made


def on_device(array):
    return array.copy_to_host()


def copies(engine):
    return engine.counters.uploads, engine.counters.downloads


def test_untouched_memory_is_zero_on_both_sides(blob, engine):
    assert not on_device(blob.gpu_data).any()
    assert not blob.cpu_data.any()
    assert copies(engine) == (0, 1)
    assert not blob.diff.any()


def test_copies_are_made_once(blob, engine):
    blob.data[...] = [[1, 2, 3], [4, 5, 6]]
    for _ in range(3):
        assert on_device(blob.gpu_data).tolist() == [1, 2, 3, 4, 5, 6]
    assert copies(engine) == (1, 0)
    for _ in range(3):
        assert blob.cpu_data.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert copies(engine) == (1, 0)


def test_writing_on_one_side_makes_the_other_one_old(blob, engine):
    blob.data[...] = 1
    blob.mutable_gpu_data.copy_to_device(np.full(6, 2, np.float32))
    assert (blob.cpu_data == 2).all()
    assert copies(engine) == (1, 1)
    blob.flat_data[0] = 3
    assert on_device(blob.gpu_data).tolist() == [3, 2, 2, 2, 2, 2]
    assert copies(engine) == (2, 1)


def test_views_are_kept_and_follow_the_shape(blob):
    blob.data[...] = 1
    assert blob.gpu_data is blob.gpu_data
    blob.reshape((2,))
    assert blob.gpu_data.size == 2
    blob.reshape((4, 4))
    assert blob.gpu_data.size == 16 and not blob.cpu_data.any()


def test_sharers_see_the_same_on_both_sides(blob, engine):
    other = Blob((6,), np.float32, engine.storage)
    other.share_data(blob)
    blob.data[...] = 5
    assert on_device(other.gpu_data).tolist() == [5] * 6
    other.mutable_gpu_data.copy_to_device(np.full(6, 7, np.float32))
    assert (blob.data == 7).all()


def test_blobs_move_into_a_flat_buffer(engine):
    flat = engine.flat_buffer(8, np.float32)
    first, second = Blob((3,), np.float32, engine.storage), Blob((2, 2), np.float32, engine.storage)
    first.data[...] = 1
    second.mutable_gpu_data.copy_to_device(np.full(4, 2, np.float32))
    first.place(data=flat.piece(0, 4))
    second.place(data=flat.piece(4, 4))
    assert on_device(flat.read_device()).tolist() == [1, 1, 1, 0, 2, 2, 2, 2]
    second.data[...] = 3
    assert flat.read_host().tolist() == [1, 1, 1, 0, 3, 3, 3, 3]
    flat.write_device().copy_to_device(np.arange(8, dtype=np.float32))
    assert first.cpu_data.tolist() == [0, 1, 2] and second.cpu_data.tolist() == [[4, 5], [6, 7]]
    flat.array[...] = 9
    assert on_device(first.gpu_data).tolist() == [9] * 3
    flat.clear()
    assert not second.cpu_data.any() and not flat.read_host().any()


def test_nothing_is_allocated_again(blob, engine):
    for _ in range(2):
        blob.data[...] = 1
        _ = blob.gpu_data, blob.mutable_gpu_data, blob.cpu_data
        blob.reshape((3,))
        blob.reshape((2, 3))
        if not _:
            engine.counters.reset()
    assert engine.counters.allocations == 2


@pytest.mark.parametrize("shape", [(0,), (2, 0, 3), ()])
def test_empty_blobs_and_scalars(shape, engine):
    blob = Blob(shape, np.float32, engine.storage)
    blob.data[...] = 4
    assert blob.gpu_data.size == blob.count
    assert blob.mutable_gpu_data.size == blob.count
    assert blob.cpu_data.shape == shape


@pytest.mark.skipif(not numba.config.ENABLE_CUDASIM, reason="the device fills nothing")
def test_what_nobody_has_written_shows_in_the_simulator(engine):
    from caffetools.engine.gpu.memory import device_array

    assert np.isnan(on_device(device_array(engine, 3, np.float32))).all()
    assert on_device(device_array(engine, 0, np.float64)).size == 0
