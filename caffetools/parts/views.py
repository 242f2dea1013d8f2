"""What Python code sees of the engine: blobs and layers as the original's Python module shows them.

Layers that users write get these from a Python layer, and scripts get them from `caffetools.pycaffe`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import index

import numpy as np

from caffetools import blob as engine
from caffetools.engine.devices import why_no_gpu
from caffetools.glog import fatal
from caffetools.proto import caffe_pb2


class Blob:
    """A blob of a net. Its arrays are the engine's memory: what is written into them is in the net.

    An array outlives the net that it came from. It is a new one after the blob has changed its shape.
    """

    __slots__ = ("_blob",)

    def __init__(self, blob: engine.Blob):
        self._blob = blob

    @property
    def data(self) -> np.ndarray:
        """The values, an array of the blob's shape; assign to `data[...]`."""
        return self._blob.data

    @property
    def diff(self) -> np.ndarray:
        """The gradients, an array of the blob's shape; assign to `diff[...]`."""
        return self._blob.diff

    @property
    def shape(self) -> tuple[int, ...]:
        return self._blob.shape

    @property
    def count(self) -> int:
        """The number of elements."""
        return self._blob.count

    @property
    def num(self) -> int:
        """The size of axis 0, 1 where there is none. Errors: FatalError for more than four axes, as below."""
        return self._blob.legacy(0)

    @property
    def channels(self) -> int:
        """The size of axis 1."""
        return self._blob.legacy(1)

    @property
    def height(self) -> int:
        """The size of axis 2."""
        return self._blob.legacy(2)

    @property
    def width(self) -> int:
        """The size of axis 3."""
        return self._blob.legacy(3)

    @property
    def _gpu_data_ptr(self) -> int:
        """Where the GPU holds the values, for reading and writing: what the host holds is old from now on.

        Other libraries may work there on the default stream, which waits for the net's and the net's for it.
        Errors: FatalError where there is no GPU, as below.
        """
        return self._address("data")

    @property
    def _gpu_diff_ptr(self) -> int:
        """Where the GPU holds the gradients."""
        return self._address("diff")

    def _address(self, side):
        if not hasattr(self._blob.data_storage, "write_device"):
            why = why_no_gpu() or "its net computes on the CPU; call set_mode_gpu() before making it"
            fatal(f"The {side} of a blob has no address on a GPU: {why}")
        from caffetools.engine.gpu.memory import address

        return address(getattr(self._blob, f"mutable_gpu_{side}"))

    def reshape(self, *sizes: int) -> None:
        """Give the blob another shape: `reshape(10, 3, 24, 24)`; without sizes it becomes a scalar."""
        self._blob.reshape([index(size) for size in sizes])

    def __repr__(self) -> str:
        return f"<Blob {self._blob.shape_string}>"


class BlobVec(Sequence):
    """The parameter blobs of a layer. make: returns a new blob of a shape, where the layer's engine needs it."""

    def __init__(self, blobs: list[engine.Blob], make: Callable[[Sequence[int]], engine.Blob] = engine.Blob):
        self._blobs = blobs
        self._make = make

    def __len__(self) -> int:
        return len(self._blobs)

    def __getitem__(self, i):
        if isinstance(i, slice):
            return [Blob(blob) for blob in self._blobs[i]]
        return Blob(self._blobs[i])

    def add_blob(self, *sizes: int) -> None:
        """Append a blob of zeros: a learnable parameter, where a Python layer does so in its `setup`."""
        self._blobs.append(self._make([index(size) for size in sizes]))


class Layer:
    """The base of layers written in Python; a subclass defines

    setup(bottom, top)                     check `param_str` and the numbers of blobs, add parameters
    reshape(bottom, top)                   give the tops their shapes; called before every forward pass
    forward(bottom, top)                   write `top[i].data`
    backward(top, propagate_down, bottom)  write `bottom[i].diff` where `propagate_down[i]`, add to
                                           `self.blobs[i].diff`

    type: the layer's, "Python". param_str: the text from the prototxt. phase: TRAIN or TEST. blobs: the
    parameters (`BlobVec`); their arrays move when the net is complete, so take them anew in each pass.
    """

    type: str
    param_str: str
    phase: int
    blobs: BlobVec

    def __init__(self, param: caffe_pb2.LayerParameter):
        """Attributes are set afterwards; a layer that needs them begins in `setup`."""
