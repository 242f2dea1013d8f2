"""What the data layers that read picture files share: batches made ahead by threads, and a place in the run.

Item i of the run (a picture and its label) is a function of the layer's key and of i, and of nothing else. So
any thread may make any batch, and a run is resumed by saying how many items it has seen.
"""

from __future__ import annotations

import numpy as np

from caffetools import glog
from caffetools.formats import image
from caffetools.glog import FatalError, check_gt
from caffetools.layer import Layer
from caffetools.proto import caffe_pb2
from caffetools.samples import prefetch
from caffetools.samples.batch import Batch, make_batches
from caffetools.samples.prefetch import Prefetcher


class Loader:
    """The work of a layer's threads. A subclass says what is in a batch.

    batch_size: items in a batch. key: of the random numbers.
    """

    def __init__(self, batch_size: int, key: np.uint64):
        self.batch_size = batch_size
        self.key = key
        self.sample = 0

    def go_to(self, key: np.uint64, sample: int) -> None:
        """Go on at an item of this run or of an earlier one."""
        self.key, self.sample = key, sample

    def read(self) -> np.ndarray:
        """Return the numbers (uint64) of the next items."""
        start = self.sample
        self.sample += self.batch_size
        return np.arange(start, self.sample, dtype=np.uint64)

    def fill(self, samples: np.ndarray, batch: Batch) -> None:
        """Make the batch of these items, in any thread."""
        self.load(samples, batch)
        batch.end = int(samples[-1]) + 1

    def load(self, samples: np.ndarray, batch: Batch) -> None:
        """Give the data and the labels of a batch their shapes and values."""
        raise NotImplementedError


#: The fields of data_param that other layers than Data do not read, and what to do.
ALL_BUT_PREFETCH = {
    field.name: "Of data_param it reads prefetch only; the rest stands in the message of its own"
    for field in caffe_pb2.DataParameter.DESCRIPTOR.fields
    if field.name != "prefetch"
}


class PictureDataLayer(Layer):
    """A data layer whose tops are pictures and labels. A subclass makes the loader in `setup`."""

    exact_bottoms = 0
    exact_tops = 2

    def __init__(self, param, context):
        super().__init__(param, context)
        self.prefetcher: Prefetcher | None = None
        self._waited_before = 0.0

    def start(self, loader: Loader, shape: tuple[int, ...], top, labels: tuple[int, ...] | None = None) -> None:
        """Begin to make batches.

        shape: that of the first, (batch_size, channels, height, width). labels: their shape, else (batch_size,).
        """
        # How many batches are made ahead is said in data_param, in layers of other types too.
        ahead = self.param.data_param.prefetch
        check_gt(
            loader.batch_size, 0, "batch_size > 0", f"Positive batch size required (layer '{self.name}')"
        )
        check_gt(ahead, 0, "prefetch > 0", f"(layer '{self.name}')")
        top[0].reshape(shape)
        labels = labels or shape[:1]
        top[1].reshape(labels)
        glog.info(f"output data size: {','.join(map(str, shape))}")
        self.loader = loader
        self.sample = 0
        self.batches = make_batches(self.context, ahead, (shape, labels))
        self.threads = min(ahead, prefetch.processors())
        self._start()

    def _start(self):
        name = f"prefetch {self.name}"
        self.prefetcher = Prefetcher(self.loader.read, self.loader.fill, self.batches, self.threads, name)

    def reshape(self, bottom, top):
        """Nothing to do: every batch brings its shape along."""

    def forward(self, bottom, top):
        batch = self.prefetcher.take()
        for blob, values in zip(top, (batch.data, batch.label), strict=True):
            blob.reshape_like(values)
            blob.share_data(values)
        self.sample = batch.end

    @property
    def waited_seconds(self):
        return self._waited_before + (self.prefetcher.waited_seconds if self.prefetcher else 0.0)

    def backward(self, top, propagate_down, bottom):
        """Nothing to do: data has no gradient."""

    def get_state(self):
        # With the key: where no random_seed is given, each run has another.
        return {"random": int(self.loader.key), "sample": self.sample}

    def set_state(self, state):
        self._waited_before = self.waited_seconds
        self.prefetcher.close()
        self.sample = state["sample"]
        self.loader.go_to(np.uint64(state["random"]), self.sample)
        self._start()

    def close(self):
        if self.prefetcher is not None:
            self.prefetcher.close()


def read_bytes(path: str) -> bytes:
    """Return what a picture file holds."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as err:
        glog.fatal(f"Check failed: cv_img.data Could not load {path} ({err.strerror})")


def decode(data: bytes, color: bool, path: str) -> np.ndarray:
    """Return a picture of 3 channels, or 1, as uint8 (channels, height, width). path: for messages."""
    try:
        return image.decode(data, color)
    except FatalError as err:
        raise FatalError(f"Check failed: cv_img.data Could not load {path} ({err})") from err
