"""HDF5Output: writes its bottoms to the datasets `data` and `label` of a new file, one row for each item.

Every forward pass appends its batch, so that running a net over a data source collects the whole of it. Files
of the original, which could not go beyond one pass, and files of several passes look alike to a reader, and
HDF5Data reads them. The rows have the shape of the bottom's items.
"""

from __future__ import annotations

from caffetools.formats.hdf5_datasets import RowWriter
from caffetools.glog import check, check_eq
from caffetools.layer import Layer

DATASETS = ("data", "label")


class HDF5OutputLayer(Layer):
    exact_bottoms = 2
    exact_tops = 0
    backward_reads = ()

    def __init__(self, param, context):
        super().__init__(param, context)
        self.writer: RowWriter | None = None

    def setup(self, bottom, top):
        path = self.param.hdf5_output_param.file_name
        check(path, "file_name", f"hdf5_output_param needs a file_name (layer '{self.name}')")
        self.writer = RowWriter(path)

    def reshape(self, bottom, top):
        for blob, name in zip(bottom, DATASETS, strict=True):
            check(blob.shape, "num_axes() >= 1", f"{name} of layer '{self.name}' is a scalar: it has no rows")
        check_eq(
            bottom[0].shape[0],
            bottom[1].shape[0],
            "bottom[0]->num() == bottom[1]->num()",
            f"data and label must have the same number of rows (layer '{self.name}')",
        )

    def forward(self, bottom, top):
        # The original made the datasets anew in each pass, and so failed in the second.
        for name, blob in zip(DATASETS, bottom, strict=True):
            self.writer.append(name, blob.data)

    def backward(self, top, propagate_down, bottom):
        """Nothing is learnt from what is written."""
        for blob, wanted in zip(bottom, propagate_down, strict=True):
            if wanted:
                blob.diff.fill(0)

    def close(self):
        if self.writer is not None:
            self.writer.close()
