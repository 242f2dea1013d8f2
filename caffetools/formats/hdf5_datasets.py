"""Named datasets of HDF5 files: what HDF5Data reads rows of and HDF5Output appends rows to."""

from __future__ import annotations

import errno
import functools
import os
import shutil
from collections.abc import Sequence

import h5py
import numpy as np
from h5py import h5t

from caffetools.formats.files import final_name
from caffetools.glog import check, check_eq, check_ge, fatal, info

NUMBERS = (h5t.INTEGER, h5t.FLOAT, h5t.ENUM)  # h5py writes booleans as an enumeration
CLASSES = {
    h5t.INTEGER: "H5T_INTEGER",
    h5t.FLOAT: "H5T_FLOAT",
    h5t.TIME: "H5T_TIME",
    h5t.STRING: "H5T_STRING",
    h5t.BITFIELD: "H5T_BITFIELD",
    h5t.OPAQUE: "H5T_OPAQUE",
    h5t.COMPOUND: "H5T_COMPOUND",
    h5t.REFERENCE: "H5T_REFERENCE",
    h5t.ENUM: "H5T_ENUM",
    h5t.VLEN: "H5T_VLEN",
    h5t.ARRAY: "H5T_ARRAY",
}


def read_datasets(path: str, names: Sequence[str], dtype) -> list[np.ndarray]:
    """Read datasets of numbers whole, as arrays of `dtype`, all of one number of rows (first axis), not 0.

    Errors: FatalError for a file that cannot be opened, a dataset that is not there, is a scalar or holds
    no numbers, and for datasets of different or no rows; each names the file and the dataset.
    """
    try:
        with h5py.File(path, "r") as file:
            arrays = [_read(path, file, name, dtype) for name in names]
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as err:
        # Damaged files make h5py raise all of these.
        fatal(f"Failed opening HDF5 file: {path} ({err})")
    rows = arrays[0].shape[0]
    for name, array in zip(names, arrays, strict=True):
        check_eq(
            array.shape[0],
            rows,
            "hdf_blobs_[i]->shape(0) == num",
            f"dataset '{name}' of {path} has another number of rows than '{names[0]}'",
        )
    check(rows > 0, "num > 0", f"the datasets of {path} have no rows")
    return arrays


def _read(path, file, name, dtype):
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        there = ", ".join(sorted(key for key, item in file.items() if isinstance(item, h5py.Dataset)))
        fatal(
            f"Failed to find HDF5 dataset {name} in {path} "
            f"(datasets are named as the tops; it has: {there or 'none'})"
        )
    kind = dataset.id.get_type().get_class()
    if kind not in NUMBERS:
        fatal(f"Unsupported datatype class: {CLASSES.get(kind, kind)} (dataset '{name}' of {path})")
    _report_class(CLASSES[kind])
    check_ge(dataset.ndim, 1, "ndims >= min_dim", f"dataset '{name}' of {path} is a scalar: it has no rows")
    array = np.empty(dataset.shape, dtype)
    if array.size:
        dataset.read_direct(array)
    return array


@functools.cache  # once for each class, as in the original
def _report_class(name):
    info(f"Datatype class: {name}")


#: Bytes of the disk that rows leave free, for HDF5's tables.
_SPARE = 1 << 20


class RowWriter:
    """Writes a new file of datasets that grow by rows. Every append is on disk before it returns.

    Errors: FatalError for a file that cannot be written and for rows of another shape than the first.
    """

    def __init__(self, path: str):
        self.path = path
        try:
            self._file = h5py.File(path, "w")
        except OSError as err:
            fatal(f"Failed to open HDF5 file {path} ({err})")

    def append(self, name: str, rows: np.ndarray) -> None:
        """Append rows, an array of shape (rows, ...), to a dataset, which the first call makes."""
        self._check_room(rows.nbytes)
        try:
            if name not in self._file:
                self._file.create_dataset(name, data=rows, maxshape=(None, *rows.shape[1:]), chunks=True)
            else:
                dataset = self._file[name]
                if dataset.shape[1:] != rows.shape[1:]:
                    fatal(
                        f"Cannot append rows of shape {rows.shape[1:]} to dataset '{name}' of {self.path}, "
                        f"whose rows have the shape {dataset.shape[1:]}"
                    )
                start = dataset.shape[0]
                dataset.resize(start + rows.shape[0], axis=0)
                dataset[start:] = rows
            self._file.flush()
        except OSError as err:
            fatal(f"Cannot write {self.path}: {err}")

    def _check_room(self, size: int) -> None:
        """Refuse to fill the disk: HDF5 cannot close a file that it cannot write, and crashes at the exit."""
        if shutil.disk_usage(os.path.dirname(os.path.abspath(self.path))).free < size + _SPARE:
            fatal(f"Cannot write {final_name(self.path)}: {os.strerror(errno.ENOSPC)}")

    def close(self) -> None:
        self._file.close()
