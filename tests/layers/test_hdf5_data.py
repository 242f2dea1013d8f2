"""HDF5Data: recorded batches, orders, sharding, resuming, and what it refuses."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from google.protobuf import text_format

from caffetools.blob import Blob
from caffetools.engine.cpu.rng import RandomSource
from caffetools.glog import FatalError
from caffetools.layer import TEST, TRAIN, Context
from caffetools.layers import layer_class
from caffetools.proto import caffe_pb2
from tests.layers.recorded_batches import check_recorded_batches


def write_files(folder, *sizes, **dtypes):
    """Write files of so many rows whose `x` counts on from file to file; return the list's path."""
    start = 0
    for i, size in enumerate(sizes):
        rows = np.arange(start, start + size)
        with h5py.File(folder / f"{i}.h5", "w") as file:
            file["x"] = rows.reshape(-1, 1).repeat(2, axis=1).astype(dtypes.get("x", "f4"))
            file["label"] = rows.astype(dtypes.get("label", "f4"))
        start += size
    (folder / "list.txt").write_text("".join(f"{folder}/{i}.h5\n" for i in range(len(sizes))))
    return folder / "list.txt"


class Reader:
    """A layer with tops x and label."""

    def __init__(self, source, batch_size, more="", tops=("x", "label"), seed=1, phase=TRAIN, **ranks):
        data = f'source: "{source}" batch_size: {batch_size} {more}'
        text = f'name: "d" type: "HDF5Data" hdf5_data_param {{ {data} }}'
        param = text_format.Parse(text, caffe_pb2.LayerParameter())
        param.top.extend(tops)
        context = Context(phase=phase, random=RandomSource(seed), **ranks)
        self.layer = layer_class("HDF5Data")(param, context)
        self.top = [Blob() for _ in tops]
        self.layer.setup([], self.top)
        self.layer.reshape([], self.top)

    def batch(self):
        """Return the labels of the next batch, having seen that the rows of x belong to them."""
        self.layer.forward([], self.top)
        x, label = (blob.data for blob in self.top)
        assert (x == label[:, np.newaxis]).all()
        return label.astype(int).tolist()

    def batches(self, count):
        return [self.batch() for _ in range(count)]


def test_recording(monkeypatch):
    check_recorded_batches("hdf5_data", monkeypatch)


def test_batches_run_over_the_ends_of_files(tmp_path):
    reader = Reader(write_files(tmp_path, 3, 1, 2), 4)
    assert reader.top[0].shape == (4, 2)
    assert reader.batches(3) == [[0, 1, 2, 3], [4, 5, 0, 1], [2, 3, 4, 5]]


def test_batch_larger_than_all_files(tmp_path):
    assert Reader(write_files(tmp_path, 2, 1), 7).batch() == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize("dtype", ["f2", "f8", "i1", "u1", "i4", "i8", "u8", ">f4", ">i2"])
def test_types_of_numbers(tmp_path, dtype):
    assert Reader(write_files(tmp_path, 5, x=dtype, label=dtype), 5).batch() == [0, 1, 2, 3, 4]


def test_booleans_are_0_and_1(tmp_path):
    assert Reader(write_files(tmp_path, 2, x="?", label="?"), 2).batch() == [0, 1]


def test_scalars_are_rows_of_their_own(tmp_path):
    reader = Reader(write_files(tmp_path, 3), 2)
    assert [blob.shape for blob in reader.top] == [(2, 2), (2,)]


def test_blanks_in_file_names(tmp_path):
    folder = tmp_path / "two words"
    folder.mkdir()
    assert Reader(write_files(folder, 2, 1), 3).batch() == [0, 1, 2]


def test_several_files_in_a_line(tmp_path):
    source = write_files(tmp_path, 2, 1)
    source.write_text(source.read_text().replace("\n", "  "))
    assert Reader(source, 3).batch() == [0, 1, 2]


class TestShuffle:
    SIZES = (4, 3, 5)
    FILES = ({0, 1, 2, 3}, {4, 5, 6}, {7, 8, 9, 10, 11})

    def passes(self, tmp_path, count, seed=1):
        """Return the order of the rows in the first passes."""
        return Reader(write_files(tmp_path, *self.SIZES), 12, "shuffle: true", seed=seed).batches(count)

    def test_every_pass_has_every_row_once(self, tmp_path):
        for order in self.passes(tmp_path, 5):
            assert sorted(order) == list(range(12))

    def test_files_stay_together_and_change_places(self, tmp_path):
        orders = []
        for rows in self.passes(tmp_path, 8):
            order = []
            while rows:
                i = next(i for i, file in enumerate(self.FILES) if rows[0] in file)
                order.append(i)
                assert set(rows[: self.SIZES[i]]) == self.FILES[i]
                rows = rows[self.SIZES[i] :]
            orders.append(tuple(order))
        assert len(set(orders)) > 1

    def test_passes_differ(self, tmp_path):
        assert len({tuple(order) for order in self.passes(tmp_path, 5)}) == 5

    def test_seed_decides(self, tmp_path):
        assert self.passes(tmp_path, 3) == self.passes(tmp_path, 3)
        assert self.passes(tmp_path, 3) != self.passes(tmp_path, 3, seed=2)

    def test_single_file_is_shuffled_anew_in_every_pass(self, tmp_path):
        orders = Reader(write_files(tmp_path, 8), 8, "shuffle: true").batches(3)
        assert all(sorted(order) == list(range(8)) for order in orders)
        assert len({tuple(order) for order in orders}) == 3


class TestRanks:
    @pytest.mark.parametrize("more", ["", "shuffle: true"])
    @pytest.mark.parametrize("ranks", [2, 3, 5])
    def test_training_rows_are_dealt_out(self, tmp_path, ranks, more):
        source = write_files(tmp_path, 4, 1, 6)
        sequence = sum(Reader(source, 6, more).batches(10), [])
        for rank in range(ranks):
            # Each process has a seed of its own.
            mine = sum(Reader(source, 2, more, seed=1 + rank, rank=rank, ranks=ranks).batches(5), [])
            assert mine == sequence[rank::ranks][:10]

    def test_tests_see_all_rows(self, tmp_path):
        source = write_files(tmp_path, 4)
        assert Reader(source, 4, rank=1, ranks=2, phase=TEST).batch() == [0, 1, 2, 3]


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("shuffle", ["", "shuffle: true"])
@pytest.mark.parametrize("before", range(8))
def test_resume(tmp_path, before, shuffle, ranks):
    source = write_files(tmp_path, 3, 2, 4)
    first = Reader(source, 2, shuffle, ranks=ranks)
    first.batches(before)
    resumed = Reader(source, 2, shuffle, ranks=ranks, seed=99)
    resumed.batch()
    resumed.layer.set_state(first.layer.get_state())
    assert resumed.batches(12) == first.batches(12)


class TestRefusals:
    def test_transform_param(self, tmp_path):
        text = 'name: "d" type: "HDF5Data" top: "x" transform_param { scale: 2 }'
        layer = layer_class("HDF5Data")(text_format.Parse(text, caffe_pb2.LayerParameter()), Context())
        with pytest.raises(FatalError, match="HDF5Data does not transform data."):
            layer.setup([], [Blob()])

    def test_missing_list(self, tmp_path):
        with pytest.raises(FatalError, match="Failed to open source file: .*none.txt"):
            Reader(tmp_path / "none.txt", 1)

    def test_empty_list(self, tmp_path):
        with pytest.raises(FatalError, match="Must have at least 1 HDF5 filename listed in"):
            Reader(write_files(tmp_path), 1)

    def test_missing_file(self, tmp_path):
        (tmp_path / "list.txt").write_text("gone.h5\n")
        with pytest.raises(FatalError, match="Failed opening HDF5 file: gone.h5"):
            Reader(tmp_path / "list.txt", 1)

    def test_no_hdf5_file(self, tmp_path):
        source = write_files(tmp_path, 1)
        (tmp_path / "0.h5").write_text("something else")
        with pytest.raises(FatalError, match="Failed opening HDF5 file: .*0.h5"):
            Reader(source, 1)

    def test_damaged_file_after_a_good_one(self, tmp_path):
        source = write_files(tmp_path, 4, 400)
        contents = bytearray((tmp_path / "1.h5").read_bytes())
        (tmp_path / "1.h5").write_bytes(contents[: len(contents) // 2])
        reader = Reader(source, 4)
        reader.batch()
        with pytest.raises(FatalError, match="Failed opening HDF5 file: .*1.h5"):
            reader.batch()

    def test_damaged_table_of_contents(self, tmp_path):
        """h5py opens such a file and fails later, with an error of another kind."""
        source = write_files(tmp_path, 4)
        contents = (tmp_path / "0.h5").read_bytes()
        assert b"HEAP" in contents
        (tmp_path / "0.h5").write_bytes(contents.replace(b"HEAP", b"XXXX"))
        with pytest.raises(FatalError, match="Failed opening HDF5 file: .*0.h5 .*heap"):
            Reader(source, 1)

    def test_missing_dataset_lists_those_that_are_there(self, tmp_path):
        with pytest.raises(FatalError, match="Failed to find HDF5 dataset y in .*0.h5 .*label, x"):
            Reader(write_files(tmp_path, 1), 1, tops=("x", "y"))

    def test_unequal_rows(self, tmp_path):
        source = write_files(tmp_path, 3)
        with h5py.File(tmp_path / "0.h5", "a") as file:
            file["y"] = np.zeros(2)
        with pytest.raises(FatalError, match=r"\(2 vs. 3\) dataset 'y' of .*0.h5"):
            Reader(source, 1, tops=("x", "y"))

    def test_no_rows(self, tmp_path):
        with pytest.raises(FatalError, match="have no rows"):
            Reader(write_files(tmp_path, 0), 1)

    def test_text(self, tmp_path):
        source = write_files(tmp_path, 3)
        with h5py.File(tmp_path / "0.h5", "a") as file:
            file["words"] = ["a", "b", "c"]
        with pytest.raises(FatalError, match="Unsupported datatype class: H5T_STRING .*'words'"):
            Reader(source, 1, tops=("words",))

    def test_scalar(self, tmp_path):
        source = write_files(tmp_path, 3)
        with h5py.File(tmp_path / "0.h5", "a") as file:
            file["one"] = 1.0
        with pytest.raises(FatalError, match="'one' of .* is a scalar"):
            Reader(source, 1, tops=("one",))

    def test_later_file_of_another_shape(self, tmp_path):
        source = write_files(tmp_path, 1, 1)
        with h5py.File(tmp_path / "1.h5", "w") as file:
            file["x"], file["label"] = np.zeros((1, 3)), np.zeros(1)
        with pytest.raises(FatalError, match=r"'x' of .*1.h5 have the shape 3 \(3\), .* 2 \(2\)"):
            Reader(source, 2).batch()

    def test_batch_size_zero(self, tmp_path):
        with pytest.raises(FatalError, match="batch_size > 0"):
            Reader(write_files(tmp_path, 1), 0)
