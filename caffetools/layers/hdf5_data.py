"""HDF5Data: rows of the datasets of HDF5 files, over and over again; each top shows the dataset of its name.

    top[i]  (batch_size, ...)   rows of dataset top[i], as numbers of the net's type

`source` lists the files; the present one is held in memory. With `shuffle`, each pass takes the files, and
the rows within a file, in another order. In training with several processes row number i of the endless
sequence belongs to process i modulo their number; tests see all.

The orders depend on the layer's key and on the number of the pass, and on nothing else, so that five numbers
say where a run is.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import numpy as np

from caffetools import glog
from caffetools.blob import shape_text
from caffetools.engine.cpu.rng import mix
from caffetools.formats.hdf5_datasets import read_datasets
from caffetools.glog import check, check_ge, check_gt
from caffetools.layer import TRAIN, Layer


class HDF5DataLayer(Layer):
    exact_bottoms = 0
    min_tops = 1

    def setup(self, bottom, top):
        param = self.param.hdf5_data_param
        check(
            not self.param.HasField("transform_param"),
            "!this->layer_param_.has_transform_param()",
            f"{self.type} does not transform data. (layer '{self.name}')",
        )
        check_gt(param.batch_size, 0, "batch_size > 0", f"(layer '{self.name}')")
        self.batch_size = param.batch_size
        self.shuffle = param.shuffle
        glog.info(f"Loading list of HDF5 filenames from: {param.source}")
        self.files = _listed_files(param.source)
        glog.info(f"Number of HDF5 files: {len(self.files)}")
        words = f"Must have at least 1 HDF5 filename listed in {param.source}"
        check_ge(len(self.files), 1, "num_files_ >= 1", words)
        sharded = self.context.ranks > 1 and self.phase == TRAIN
        self.rank, self.ranks = (self.context.rank, self.context.ranks) if sharded else (0, 1)
        # One order for all processes, or some rows would be dealt out twice in a pass, and others not at all.
        self.key = int(self.context.random.key(self.rank))
        self.passes = 0  # over all files
        self.file = 0  # position in the order of this pass
        self.row = 0  # position in the order of this file; the number of rows when it is used up
        self.record = 0  # number of the row in the endless sequence, modulo ranks
        self.loaded: str | None = None
        self.row_shapes: list[tuple[int, ...]] | None = None
        self._open()
        for blob, array in zip(top, self.arrays, strict=True):
            blob.reshape((self.batch_size, *array.shape[1:]))

    def reshape(self, bottom, top):
        """Nothing to do: the shapes are those of the first file."""

    def forward(self, bottom, top):
        filled = 0
        while filled < self.batch_size:
            # Rows of other processes are passed over.
            skip = (self.rank - self.record) % self.ranks
            left = len(self.arrays[0]) - self.row
            count = min(max(0, -(-(left - skip) // self.ranks)), self.batch_size - filled)
            if count == 0:
                self.record = (self.record + left) % self.ranks
                self._next_file()
                continue
            start = self.row + skip
            end = start + (count - 1) * self.ranks + 1
            self._copy(slice(start, end, self.ranks), top, filled, count)
            self.record = (self.record + end - self.row) % self.ranks
            self.row = end
            filled += count

    def backward(self, top, propagate_down, bottom):
        """Data has no gradient."""

    def get_state(self):
        # The key as well: without a random_seed another run would take another order.
        return {
            "random": self.key,
            "pass": self.passes,
            "file": self.file,
            "row": self.row,
            "record": self.record,
        }

    def set_state(self, state):
        self.key, self.passes, self.file = state["random"], state["pass"], state["file"]
        self.row, self.record = state["row"], state["record"]
        self._open()

    def _copy(self, rows, top, start, count):
        for blob, array in zip(top, self.arrays, strict=True):
            y = blob.data[start : start + count]
            if self.order is None:
                y[...] = array[rows]
            else:
                np.take(array, self.order[rows], axis=0, out=y, mode="clip")

    def _next_file(self):
        start = perf_counter()
        self.row = 0
        self.file += 1
        if self.file == len(self.files):
            self.file = 0
            self.passes += 1
        self._open()
        self.waited_seconds += perf_counter() - start

    def _open(self):
        """Load the present file, unless it is in memory, and draw the order of its rows."""
        path = self.files[int(self._order(0, len(self.files))[self.file]) if self.shuffle else self.file]
        if path != self.loaded:
            self.arrays = None  # so that two files never take memory at once
            self.arrays = read_datasets(path, self.param.top, self.dtype)
            self.loaded = path
            self._check_shapes(path)
        self.order = self._order(1 + self.file, len(self.arrays[0])) if self.shuffle else None

    def _order(self, use, count):
        """Return the order of the files (use 0) or of a file's rows (use 1 + its position) in this pass."""
        key = mix(mix(self.key, self.passes), use)
        return np.random.Generator(np.random.Philox(key=key)).permutation(count)

    def _check_shapes(self, path):
        shapes = [array.shape[1:] for array in self.arrays]
        if self.row_shapes is None:
            self.row_shapes = shapes
        for name, shape, first in zip(self.param.top, shapes, self.row_shapes, strict=True):
            if shape != first:
                glog.fatal(
                    f"The rows of dataset '{name}' of {path} have the shape {shape_text(shape)}, those of "
                    f"the files before it {shape_text(first)}: all files of layer '{self.name}' must agree"
                )


def _listed_files(source: str) -> list[str]:
    """Return the files that a list names: one in a line, or several without blanks in their names."""
    try:
        lines = Path(source).read_text(encoding="utf-8").splitlines()
    except OSError as err:
        glog.fatal(f"Failed to open source file: {source} ({err.strerror})")
    files = []
    for line in map(str.strip, lines):
        files += [line] if Path(line).is_file() else line.split()
    return files
