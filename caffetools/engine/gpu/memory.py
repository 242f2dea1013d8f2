"""Memory on both sides of the bus: what a blob holds on the host and on the device, and which side is the newest.

A storage is in one of four states: nothing was written yet, the host is newer, the device is newer, or both hold the
same. Asking one side for reading copies what the other side has newer; asking for writing makes that side the newest.
A fifth state is for what a stream other than the compute stream writes: who asks for either side waits for that first.
Host memory is page-locked, so that copies run beside the computation.
"""

from __future__ import annotations

import gc
import weakref

import numpy as np
from numba import cuda

from caffetools.engine.gpu.events import Event, simulated
from caffetools.engine.out_of_memory import OutOfMemory, mebibytes

UNINITIALISED, AT_HOST, AT_DEVICE, SYNCED, ARRIVING = range(5)


def device_array(engine, count: int, dtype) -> object:
    """Return a new flat array on the device, its contents undefined.

    Errors: OutOfMemory with what was asked for and what is free when the device's memory does not suffice.
    """
    engine.counters.allocations += 1
    size = count * np.dtype(dtype).itemsize
    try:
        array = _allocate(engine, count, dtype)
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        # Nets that nobody has any longer may hold memory until the collector comes.
        gc.collect()
        try:
            array = _allocate(engine, count, dtype)
        except Exception as again:
            if not _is_out_of_memory(again):
                raise
            raise OutOfMemory(engine.index, size, engine.free_memory()) from None
    engine.held.add(size)
    weakref.finalize(array, engine.held.take, size).atexit = False
    return array


class Held:
    """How many bytes of the device arrays of this process hold."""

    def __init__(self):
        self.bytes = 0

    def add(self, size: int) -> None:
        self.bytes += size

    def take(self, size: int) -> None:
        self.bytes -= size


def _allocate(engine, count, dtype):
    engine.release()
    array = cuda.device_array(count, dtype, stream=engine.stream)
    if engine.simulated:
        # So that reading what nobody has written shows: NaN, or the largest of a type.
        array.view(np.uint8)[:] = 255
    return array


def _is_out_of_memory(error):
    return isinstance(error, MemoryError) or "OUT_OF_MEMORY" in str(error).upper()


def zero(engine, array) -> None:
    """Fill an array on the device with zeros, in the order of the compute stream."""
    if engine.simulated:
        array[:] = 0
    elif array.size:
        from numba.cuda.cudadrv.driver import device_memset

        device_memset(array, 0, array.nbytes, stream=engine.stream)


def pinned_array(engine, count: int, dtype) -> np.ndarray:
    """Return a new page-locked array of zeros on the host. Errors: MemoryError."""
    engine.counters.allocations += 1
    engine.release()
    try:
        # Zero bytes cannot be page-locked.
        array = cuda.pinned_array(max(count, 1), dtype)[:count]
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        size = mebibytes(count * np.dtype(dtype).itemsize)
        raise MemoryError(f"The system does not page-lock {size} of host memory, for copies to the GPU") from None
    array.fill(0)
    return array


def to_host(engine, array) -> np.ndarray:
    """Return a copy of a device array on the host, which waits for all that computes it."""
    values = np.empty(array.size, array.dtype)
    if values.size:
        # Into ordinary memory a copy on a stream may or may not return before it is done.
        array.copy_to_host(values, stream=engine.stream)
        engine.synchronise()
    return values


def overwrite(engine, array, values: np.ndarray) -> None:
    """Copy a flat host array to a device array, which waits until the host array has been read."""
    if values.size:
        array.copy_to_device(values, stream=engine.stream)
        engine.synchronise()


def to_device(engine, values: np.ndarray):
    """Return a copy of a host array on the device, for tables that are made once (in `reshape`)."""
    values = np.ascontiguousarray(values)
    array = device_array(engine, values.size, values.dtype)
    overwrite(engine, array, values.reshape(-1))
    return array


class DeviceStorage:
    """A flat buffer with a side on the host and a side on the device, each allocated when it is first asked for.

    `array` and `at_least` are those of `blob.Storage` and give the host side for writing. writes: how often either side
    was asked for writing, for who keeps what was made of the values.
    """

    __slots__ = (
        *("dtype", "engine", "state", "size", "writes"),
        *("_host", "_device", "_landing", "_piece", "_uploaded", "_written"),
    )

    def __init__(self, dtype, engine):
        self.dtype = np.dtype(dtype)
        self.engine = engine
        self.state = UNINITIALISED
        self.size = self.writes = 0
        self._host: np.ndarray | None = None
        self._device = None
        self._landing: tuple | None = None
        self._piece: Piece | None = None
        self._uploaded: Event | None = None
        self._written: Event | None = None

    @property
    def array(self) -> np.ndarray | None:
        """The host side for writing, or None where there is none yet."""
        return None if self._host is None else self.at_least(self.size)

    def at_least(self, count: int) -> np.ndarray:
        """Return the host side for writing, of `count` elements or more; what it held is lost when it grows."""
        host = self.read_host(count)
        if self._uploaded is not None:
            # The copy to the device may still be reading what is about to be overwritten.
            if not self._uploaded.done():
                self.engine.counters.synchronisations += 1
                self._uploaded.wait()
            self._uploaded = None
        self.state = AT_HOST
        self.writes += 1
        return host

    def read_host(self, count: int) -> np.ndarray:
        """Return the host side for reading."""
        self._reserve(count)
        if self._host is None:
            self._host = self._new_host()
        if self.state == ARRIVING:
            self._hold()
        if self.state == AT_DEVICE:
            if self.size:
                self.engine.counters.downloads += 1
                self._device.copy_to_host(self._host, stream=self.engine.stream)
                self.engine.synchronise()
            self.state = SYNCED
        elif self.state == UNINITIALISED:
            self.state = AT_HOST
        return self._host

    def read_device(self, count: int):
        """Return the device side for reading: a flat array of `count` elements or more."""
        self._reserve(count)
        fresh = self._device is None
        if fresh:
            self._device = self._new_device()
        if self.state == AT_HOST:
            if self.size:
                self.engine.counters.uploads += 1
                self._device.copy_to_device(self._host, stream=self.engine.stream)
                self._uploaded = Event()
                self._uploaded.record(self.engine.stream)
            self.state = SYNCED
        elif self.state == UNINITIALISED:
            zero(self.engine, self._device)
            self.state = AT_DEVICE
        elif self.state == ARRIVING:
            self._hold()
        return self._device

    def write_device(self, count: int):
        """Return the device side for writing; it is the newest from now on."""
        device = self.read_device(count)
        self.state = AT_DEVICE
        self.writes += 1
        return device

    def written_until(self, mark: Event) -> None:
        """Say that another stream writes the device side, which is the newest then, until a mark in that stream.

        The compute stream waits for the mark when either side is asked for.
        """
        self._written = mark
        self.state = ARRIVING
        self.writes += 1

    def arrived(self) -> None:
        """Say that the compute stream waits for the mark of `written_until` already."""
        if self.state == ARRIVING:
            self.state = AT_DEVICE

    def _hold(self):
        self._written.hold(self.engine.stream)
        self.state = AT_DEVICE

    def receive(self, values: np.ndarray, stream) -> None:
        """Copy a flat array of the host to the device side, which is the newest then, in the order of a stream.

        Whoever calls this sees to it that nobody uses the device side meanwhile, and that the array stays as it is.
        """
        self._reserve(values.size)
        if self._device is None:
            self._device = self._new_device()
        landing = self._landing
        if landing is None or landing[0] is not self._device or landing[1].size != values.size:
            whole = self._device.size == values.size
            landing = self._landing = self._device, self._device if whole else self._device[: values.size]
        landing[1].copy_to_device(values, stream=stream)
        self.state = AT_DEVICE
        self.writes += 1

    def device_view(self, count: int, views: tuple | None, writing: bool) -> tuple:
        """Return (device side, its first `count` elements), `views` itself where that is still right.

        Slicing an array on the device takes longer than starting a kernel, which is why blobs keep the views.
        """
        device = self.write_device(count) if writing else self.read_device(count)
        if views is None or views[0] is not device:
            views = (device, device if device.size == count else device[:count])
        return views

    def shared_by(self, *blobs) -> None:
        """As `blob.Storage` does; here nothing is kept that was made of the values."""

    @property
    def device_bytes(self) -> int:
        """The bytes of the device side, 0 where there is none yet."""
        return 0 if self._device is None else self._device.size * self.dtype.itemsize

    def move(self, piece: Piece, count: int) -> None:
        """Live in a piece of a larger buffer from now on; the first `count` elements move along."""
        old = self.read_host(count) if self.state != UNINITIALISED else None
        self._piece, self._host, self._device = piece, piece.host(), None
        self.size = piece.size
        if old is not None:
            self._host[:count] = old[:count]
            self.state = AT_HOST
        piece.buffer.storages.append(self)

    def _reserve(self, count):
        if count > self.size:
            self.size = count
            self._host = self._device = self._piece = None
            self.state = UNINITIALISED

    def _new_host(self):
        return self._piece.host() if self._piece else pinned_array(self.engine, self.size, self.dtype)

    def _new_device(self):
        return self._piece.device() if self._piece else device_array(self.engine, self.size, self.dtype)


class FlatBuffer:
    """One buffer on each side in which several storages lie one behind another (a net's parameters, their history).

    The storages keep their states; the buffer as a whole is asked for like one of them. `array` is the host side for
    writing, as with `blob.FlatBuffer`.
    """

    def __init__(self, size: int, dtype, engine):
        self.size = size
        self.dtype = np.dtype(dtype)
        self.engine = engine
        self.storages: list[DeviceStorage] = []
        self._host: np.ndarray | None = None
        self._device = None

    def piece(self, start: int, size: int) -> Piece:
        """Return the place of a storage that is moved here."""
        return Piece(self, start, size)

    @property
    def missing_bytes(self) -> int:
        """The bytes that the device side will take, 0 where it is there."""
        return 0 if self._device is not None else self.size * self.dtype.itemsize

    @property
    def array(self) -> np.ndarray:
        """The host side for writing."""
        for storage in self.storages:
            storage.at_least(storage.size)
        return self._whole_host()

    def read_host(self) -> np.ndarray:
        """Return the host side for reading."""
        for storage in self.storages:
            storage.read_host(storage.size)
        return self._whole_host()

    def read_device(self):
        """Return the device side for reading."""
        for storage in self.storages:
            storage.read_device(storage.size)
        return self._whole_device()

    def write_device(self):
        """Return the device side for writing."""
        for storage in self.storages:
            storage.write_device(storage.size)
        return self._whole_device()

    def device_part(self, start: int, stop: int):
        """Return a piece of the device side, whatever the states of the storages in it say; to be kept by who asks."""
        return self._whole_device()[start:stop]

    def clear(self) -> None:
        """Set everything to zero on the device; what the host holds newer is not copied first."""
        for storage in self.storages:
            if storage.state == ARRIVING:
                storage._hold()
        zero(self.engine, self._whole_device())
        for storage in self.storages:
            if storage._device is None:
                storage._device = storage._new_device()
            storage.state = AT_DEVICE
            storage.writes += 1

    def _whole_host(self):
        if self._host is None:
            self._host = pinned_array(self.engine, self.size, self.dtype)
        return self._host

    def _whole_device(self):
        if self._device is None:
            self._device = device_array(self.engine, self.size, self.dtype)
            zero(self.engine, self._device)
        return self._device


class Piece:
    """The part of a flat buffer from `start` on that belongs to one storage."""

    __slots__ = ("buffer", "start", "size")

    def __init__(self, buffer: FlatBuffer, start: int, size: int):
        self.buffer, self.start, self.size = buffer, start, size

    def host(self) -> np.ndarray:
        return self.buffer._whole_host()[self.start : self.start + self.size]

    def device(self):
        return self.buffer._whole_device()[self.start : self.start + self.size]


def address(array) -> int:
    """Return where a device array begins in the device's memory, for libraries."""
    return host_view(array).ctypes.data if simulated() else array.device_ctypes_pointer.value


def host_view(array) -> np.ndarray:
    """Return the numbers of a device array in the simulator, where they are on the host."""
    assert simulated()
    return array._ary
