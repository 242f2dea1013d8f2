"""HDF5Output: what its file holds after some passes."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from caffetools.glog import FatalError
from tests.layers.gradient import SingleLayer, uniform


def output(path, data, label):
    return SingleLayer(f'type: "HDF5Output" hdf5_output_param {{ file_name: "{path}" }}', data, label, tops=0)


def contents(path):
    with h5py.File(path) as file:
        return {name: dataset[...] for name, dataset in file.items()}


def test_one_pass(tmp_path):
    data, label = uniform(3, 2, 4, 5), uniform(3, 1)
    rig = output(tmp_path / "out.h5", data, label)
    rig.forward()
    rig.layer.close()
    written = contents(tmp_path / "out.h5")
    assert sorted(written) == ["data", "label"]
    assert all(array.dtype == np.float32 for array in written.values())
    np.testing.assert_array_equal(written["data"], data.astype(np.float32))
    np.testing.assert_array_equal(written["label"], label.astype(np.float32))


def test_passes_are_appended_also_with_other_batch_sizes(tmp_path):
    data, label = uniform(5, 2), np.arange(5.0)
    rig = output(tmp_path / "out.h5", data[:2], label[:2])
    rig.forward()
    rig.reshape(data[2:], label[2:])
    rig.forward()
    rig.layer.close()
    written = contents(tmp_path / "out.h5")
    np.testing.assert_array_equal(written["data"], data.astype(np.float32))
    np.testing.assert_array_equal(written["label"], label)


def test_batches_are_on_disk_after_each_pass(tmp_path):
    rig = output(tmp_path / "out.h5", uniform(2, 3), uniform(2))
    rig.forward()
    (tmp_path / "copy.h5").write_bytes((tmp_path / "out.h5").read_bytes())
    assert contents(tmp_path / "copy.h5")["data"].shape == (2, 3)
    rig.layer.close()


def test_an_older_file_is_replaced(tmp_path):
    with h5py.File(tmp_path / "out.h5", "w") as file:
        file["old"] = [1.0]
    rig = output(tmp_path / "out.h5", uniform(1, 1), uniform(1))
    rig.forward()
    rig.layer.close()
    assert sorted(contents(tmp_path / "out.h5")) == ["data", "label"]


def test_gradient_is_zero(tmp_path):
    rig = output(tmp_path / "out.h5", uniform(2, 3), uniform(2))
    rig.forward()
    assert all((diff == 0).all() for diff in rig.backward())
    rig.layer.close()


def test_rows_must_agree(tmp_path):
    with pytest.raises(FatalError, match=r"\(2 vs. 3\) data and label must have the same number of rows"):
        output(tmp_path / "out.h5", uniform(2, 3), uniform(3))


def test_rows_of_another_shape(tmp_path):
    rig = output(tmp_path / "out.h5", uniform(2, 3), uniform(2))
    rig.forward()
    rig.reshape(uniform(2, 4), uniform(2))
    with pytest.raises(FatalError, match=r"Cannot append rows of shape \(4,\) to dataset 'data' of .*out.h5"):
        rig.forward()


def test_file_name_is_needed():
    with pytest.raises(FatalError, match="needs a file_name"):
        output("", uniform(1), uniform(1))


def test_folder_that_is_not_there(tmp_path):
    with pytest.raises(FatalError, match="Failed to open HDF5 file .*none/out.h5"):
        output(tmp_path / "none" / "out.h5", uniform(1), uniform(1))
