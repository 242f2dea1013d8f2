"""A blob: an N-dimensional array of values and one of gradients, the unit of exchange between layers.

Storage is separate from shape, because several blobs may look at the same numbers (shared parameters, the test net's
weights, Reshape, Split) and because a blob that shrinks keeps its memory for the next larger batch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple
from weakref import WeakSet

import numpy as np

from caffetools.engine.aligned import aligned_zeros
from caffetools.engine.cpu.clear import clear
from caffetools.glog import check, fatal

MAX_AXES = 32
INT_MAX = 2**31 - 1


class Storage:
    """A flat buffer that is allocated and zeroed at first use and grows when a blob needs more.

    Who keeps something that was made of the values, such as packed weights, asks `version` whether they are still the
    same. Arrays that were handed out for writing may be written into for as long as somebody holds one, or a part of
    one: all of them hold a reference to `array`, which is counted.
    """

    __slots__ = ("array", "dtype", "_buffer", "_sharers", "_version", "_shown", "_held")

    def __init__(self, dtype):
        self.dtype = dtype
        self.array: np.ndarray | None = None
        self._buffer: FlatBuffer | None = None
        self._sharers: WeakSet[Blob] | None = None
        self._version, self._shown, self._held = 0, False, False

    def at_least(self, count: int) -> np.ndarray:
        """Return the flat buffer for writing, of `count` elements or more; what it held is lost when it grows."""
        self._shown = True
        return self.read_host(count)

    def read_host(self, count: int) -> np.ndarray:
        """Return the buffer for reading."""
        if self.array is None or self.array.size < count:
            self.array, self._buffer = aligned_zeros(count, self.dtype), None
            self._shown = True
        return self.array

    def move(self, piece: Piece, count: int) -> None:
        """Live in a piece of a larger buffer from now on; the first `count` elements move along."""
        place = piece.place()
        if self.array is not None:
            place[:count] = self.array[:count]
        self.array, self._buffer = place, piece.buffer
        self._shown = True

    def shared_by(self, *blobs: Blob) -> None:
        """Take note that several blobs have these values."""
        if self._sharers is None:
            self._sharers = WeakSet()
        self._sharers.update(blobs)

    def version(self, blob: Blob) -> int | None:
        """Return a number that is greater than before if the values may have changed since, or None while they may
        change at any time, because somebody holds an array of them.

        blob: one that has these values.
        """
        if self.array is None or self.array.size < blob.count:
            self.read_host(blob.count)
        held = sys.getrefcount(self.array) > ALONE
        if self._shown or self._held or held:
            self._note_changes(blob)
        of_buffer = 0 if self._buffer is None else self._buffer.version()
        return None if self._held or of_buffer is None else self._version + of_buffer

    def _note_changes(self, blob):
        changed = self._shown or self._held
        if self._shown:
            # The blobs' own arrays will be made anew when they are asked for, which shows here again.
            for each in (blob, *(self._sharers or ())):
                if each.data_storage is self:
                    each.drop_views()
            self._shown = False
        self._held = sys.getrefcount(self.array) > ALONE
        self._version += changed


class FlatBuffer:
    """One buffer of zeros in which several storages lie one behind another, as a net's parameters do."""

    def __init__(self, size: int, dtype):
        self.size = size
        self._array = aligned_zeros(size, dtype)
        self._memory = memoryview(self._array)
        self._version, self._held = 0, False
        self._alone = sys.getrefcount(self._array)

    @property
    def array(self) -> np.ndarray:
        """The whole array, for reading and writing."""
        self._version += 1
        return self._array

    def piece(self, start: int, size: int) -> Piece:
        """Return the place of a storage that is moved here."""
        return Piece(self, start, size)

    def read_host(self) -> np.ndarray:
        """Return the array for reading, which is the same where there is one side only."""
        return self.array

    def version(self) -> int | None:
        """Return a number that is greater than before if values may have changed by way of the whole array since, or
        None while somebody holds that."""
        held = sys.getrefcount(self._array) > self._alone
        self._version += self._held
        self._held = held
        return None if held else self._version

    def clear(self) -> None:
        """Set everything to zero."""
        clear(self.array)


class Piece(NamedTuple):
    """The part of a flat buffer from `start` on that belongs to one storage."""

    buffer: FlatBuffer
    start: int
    size: int

    def place(self) -> np.ndarray:
        """Return it as an array.

        It is made of the memory and not of the whole array, so that views of it hold a reference to it.
        """
        return np.asarray(self.buffer._memory[self.start : self.start + self.size])


def _references_to_none_but_its_own() -> int:
    storage = Storage(np.dtype(np.float32))
    storage.read_host(1)
    return sys.getrefcount(storage.array)


#: What is counted of an array that nobody holds but its storage.
ALONE = _references_to_none_but_its_own()


class Blob:
    """Values (`data`) and gradients (`diff`) of one shape.

    shape: sizes of the axes, at most 32; the empty shape is a scalar (count 1).
    dtype: float32 everywhere; float64 serves gradient checks.
    storage: makes the storage of a type; that of an engine with memory of its own has a side on the device besides.

    `data`, `diff`, `flat_data` and `flat_diff` are for reading and writing on the host. `cpu_data` and `cpu_diff` are
    for reading there, `gpu_data` and `gpu_diff` for reading on the device, `mutable_gpu_data` and `mutable_gpu_diff`
    for writing there; copies are made where the side that is asked for is not the newest.
    """

    reshapes = 0  # how often blobs have got other shapes, all together

    __slots__ = (
        "shape", "count", "dtype", "_data", "_diff", "_data_views", "_diff_views", "_on_device", "__weakref__",
    )  # fmt: skip

    def __init__(
        self, shape: Sequence[int] = (), dtype=np.float32, storage: Callable[[np.dtype], Storage] = Storage
    ):
        self.dtype = np.dtype(dtype)
        self._data = storage(self.dtype)
        self._diff = storage(self.dtype)
        self.shape: tuple[int, ...] | None = None
        self.reshape(shape)

    def reshape(self, shape: Sequence[int]) -> None:
        """Give the blob another shape; its memory is kept where it is large enough."""
        shape = tuple(shape)
        if shape == self.shape:
            return
        check(
            len(shape) <= MAX_AXES,
            "shape.size() <= kMaxBlobAxes",
            f"a blob has at most {MAX_AXES} axes, not {len(shape)}",
        )
        check(
            all(size >= 0 for size in shape),
            "shape[i] >= 0",
            f"a blob cannot have the shape {shape_text(shape)}",
        )
        count = prod(shape)
        check(
            count <= INT_MAX,
            "shape[i] <= INT_MAX / count_",
            f"blob size exceeds INT_MAX: {shape_text(shape)}",
        )
        Blob.reshapes += 1
        self.shape = shape
        self.count = count
        self._data_views = self._diff_views = None
        self._on_device = [None, None]

    def reshape_like(self, other: Blob) -> None:
        self.reshape(other.shape)

    def _views(self, storage: Storage):
        """Return a storage's array, and views that stay valid until the shape changes or somebody swaps that array."""
        array = storage.at_least(self.count)
        flat = array[: self.count]
        return array, flat.reshape(self.shape), flat

    @property
    def data(self) -> np.ndarray:
        """The values as an array of the blob's shape; writing into it writes into the blob."""
        views = self._data_views
        if views is None or views[0] is not self._data.array:
            views = self._data_views = self._views(self._data)
        return views[1]

    @data.setter
    def data(self, values) -> None:
        if values is not self.data:  # `blob.data += x` has already written into the array
            self.data[...] = values

    @property
    def diff(self) -> np.ndarray:
        """The gradients as an array of the blob's shape."""
        views = self._diff_views
        if views is None or views[0] is not self._diff.array:
            views = self._diff_views = self._views(self._diff)
        return views[1]

    @diff.setter
    def diff(self, values) -> None:
        if values is not self.diff:  # `blob.diff += x` has already written into the array
            self.diff[...] = values

    @property
    def flat_data(self) -> np.ndarray:
        """The values as one axis, for element-wise kernels."""
        views = self._data_views
        if views is None or views[0] is not self._data.array:
            views = self._data_views = self._views(self._data)
        return views[2]

    @property
    def flat_diff(self) -> np.ndarray:
        """The gradients as one axis."""
        views = self._diff_views
        if views is None or views[0] is not self._diff.array:
            views = self._diff_views = self._views(self._diff)
        return views[2]

    @property
    def data_storage(self) -> Storage:
        """The buffer behind the values; blobs that share their values have the same."""
        return self._data

    @property
    def diff_storage(self) -> Storage:
        """The buffer behind the gradients."""
        return self._diff

    def data_version(self) -> int | None:
        """Return a number that is greater than before if the values may have changed since, or None while they may
        change at any time: see `Storage.version`. `cpu_data` does not count as a change."""
        return self._data.version(self)

    @property
    def cpu_data(self) -> np.ndarray:
        """The values as an array of the blob's shape, for reading."""
        return self._data.read_host(self.count)[: self.count].reshape(self.shape)

    @property
    def cpu_diff(self) -> np.ndarray:
        """The gradients as an array of the blob's shape, for reading."""
        return self._diff.read_host(self.count)[: self.count].reshape(self.shape)

    @property
    def gpu_data(self):
        """The values as a flat array on the device, for reading."""
        views = self._on_device[0] = self._data.device_view(self.count, self._on_device[0], False)
        return views[1]

    @property
    def gpu_diff(self):
        """The gradients as a flat array on the device, for reading."""
        views = self._on_device[1] = self._diff.device_view(self.count, self._on_device[1], False)
        return views[1]

    @property
    def mutable_gpu_data(self):
        """The values as a flat array on the device, for writing."""
        views = self._on_device[0] = self._data.device_view(self.count, self._on_device[0], True)
        return views[1]

    @property
    def mutable_gpu_diff(self):
        """The gradients as a flat array on the device, for writing."""
        views = self._on_device[1] = self._diff.device_view(self.count, self._on_device[1], True)
        return views[1]

    def share_data(self, other: Blob) -> None:
        """Use the values of `other` (same count) as one's own; later changes of either show in both."""
        check(self.count == other.count, f"count_ == other.count() ({self.count} vs. {other.count})")
        self._data = other._data
        self._data.shared_by(self, other)
        self._data_views = self._on_device[0] = None

    def share_diff(self, other: Blob) -> None:
        """Use the gradients of `other` (same count) as one's own."""
        check(self.count == other.count, f"count_ == other.count() ({self.count} vs. {other.count})")
        self._diff = other._diff
        self._diff_views = self._on_device[1] = None

    def shares_data_with(self, other: Blob) -> bool:
        return self._data is other._data

    def shares_diff_with(self, other: Blob) -> bool:
        return self._diff is other._diff

    def place(self, data=None, diff=None) -> None:
        """Move the values and the gradients into pieces of flat buffers; every sharer moves along."""
        for storage, piece in ((self._data, data), (self._diff, diff)):
            if piece is not None:
                storage.move(piece, self.count)
        self.drop_views()

    def drop_views(self) -> None:
        """Let go of the arrays that were handed out last, which may be all that keeps old memory alive."""
        self._data_views = self._diff_views = None

    def canonical_axis(self, axis: int) -> int:
        """Return the index of an axis that may be counted from the end (-1 is the last)."""
        axes = len(self.shape)
        if not -axes <= axis < axes:
            fatal(f"axis {axis} out of range for {axes}-D Blob with shape {shape_text(self.shape)}")
        return axis % axes

    def count_from(self, start: int, end: int | None = None) -> int:
        """Return the number of elements of the axes from `start` up to, not including, `end`."""
        return prod(self.shape[start:end])

    def legacy(self, axis: int) -> int:
        """Return num, channels, height or width (axis 0 to 3) of a blob of at most four axes, 1 where it has fewer."""
        check(len(self.shape) <= 4, "num_axes() <= 4", "Cannot use legacy accessors on Blobs with > 4 axes.")
        return self.shape[axis] if axis < len(self.shape) else 1

    @property
    def shape_string(self) -> str:
        """The shape as the logs print it: `64 20 24 24 (737280)`."""
        return shape_text(self.shape)


def shape_text(shape: Sequence[int]) -> str:
    """Format a shape as the logs do: sizes, then the count in parentheses; `(1)` for a scalar."""
    return "".join(f"{size} " for size in shape) + f"({prod(shape)})"
