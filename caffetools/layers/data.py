"""Data: the Datum records of an LMDB or LevelDB, in the order of their keys, over and over again.

    top[0]  (batch_size, channels, height, width)  pictures as `transform_param` leaves them
    top[1]  (batch_size)                           labels; this top may be left out

A batch has the shape of its first record, so that pictures of different sizes need a crop, or batches of one.
Where several processes train together, record i of the endless sequence belongs to process i modulo their
number; tests see all records. Threads read, decode and transform `prefetch` batches ahead of the net.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

from caffetools import glog
from caffetools.formats import datum as datum_format
from caffetools.formats import image
from caffetools.formats.db import Cursor, open_db
from caffetools.glog import FatalError, check_gt
from caffetools.layer import TRAIN, Layer
from caffetools.proto import caffe_pb2
from caffetools.samples import prefetch
from caffetools.samples.batch import Batch, make_batches
from caffetools.samples.mixup import finish_batch, label_shape
from caffetools.samples.prefetch import Prefetcher
from caffetools.samples.transform import MOVED, Buffer, Shape, Transformer

# Pictures are gathered up to this size and transformed together: small ones share the cost of entering a
# kernel, large ones do not pile up in memory.
_CHUNK_BYTES = 1 << 16
_UINT8 = np.dtype(np.uint8)

Record = TypeVar("Record", bound=Message)


class DataLayer(Layer):
    reads = ("data_param", "transform_param")
    refuses = {
        "data_param": MOVED
        | {
            "rand_skip": "Remove it: reading begins with the first record",
            "force_encoded_color": "Write transform_param { force_color: true }",
        }
    }
    exact_bottoms = 0
    min_tops = 1
    max_tops = 2

    def __init__(self, param, context):
        super().__init__(param, context)
        self.prefetcher = None
        self._waited_before = 0.0
        self.db = open_db(param.data_param.backend, param.data_param.source, "r")

    def setup(self, bottom, top):
        param = self.param.data_param
        check_gt(param.batch_size, 0, "batch_size > 0", f"(layer '{self.name}')")
        check_gt(param.prefetch, 0, "prefetch > 0", f"(layer '{self.name}')")
        self.loader = Loader(self.db.cursor(), param.source, param.batch_size, self.context)
        first = self.loader.peek()
        noun = "img" if first.encoded else "datum"
        transformer = Transformer(
            self.param.transform_param, self.phase, self.dtype, self.context.random.key(), noun, self.name
        )
        if not first.encoded:
            words = f"force_color and force_gray only for encoded datum, and these have {first.channels} channels"
            transformer.check_channels(first.channels, words)
        self.loader.transformer = transformer
        shape = (param.batch_size, *self.loader.output_shape(first))
        top[0].reshape(shape)
        glog.info(f"output data size: {','.join(map(str, shape))}")
        labels = label_shape(transformer.mixup, param.batch_size)
        if len(top) > 1:
            top[1].reshape(labels)
        elif transformer.mixup:
            glog.fatal(f"mixup needs a second top, for the labels (layer '{self.name}')")
        self.position = self.loader.position
        # One batch is in the net's hands while `prefetch` more are made ready.
        self.batches = make_batches(self.context, param.prefetch, (shape, labels))
        # Raw records keep one thread a little busy, decoding and augmentation can use every processor. A thread
        # sleeps while all batches are full, so that a net which computes longer than that loses little to them.
        costly = first.encoded or self.param.transform_param.HasField("augmentation")
        self.threads = min(param.prefetch, prefetch.processors()) if costly else 1
        self._start()

    def reshape(self, bottom, top):
        """Nothing to do: every batch brings its shape along."""

    def forward(self, bottom, top):
        batch = self.prefetcher.take()
        for blob, values in zip(top, (batch.data, batch.label), strict=False):
            blob.reshape_like(values)
            blob.share_data(values)
        self.position = batch.end

    @property
    def waited_seconds(self):
        return self._waited_before + (self.prefetcher.waited_seconds if self.prefetcher else 0.0)

    def backward(self, top, propagate_down, bottom):
        """Nothing to do: data has no gradient."""

    def get_state(self):
        # With the key of the random numbers: where no random_seed is given, each run has another.
        key, sample = self.position
        return {"record": key.decode("latin-1"), "sample": sample, "random": int(self.loader.transformer.key)}

    def set_state(self, state):
        position = Position(state["record"].encode("latin-1"), state["sample"])
        key = np.uint64(state["random"])
        self._waited_before = self.waited_seconds
        self.prefetcher.close()
        self.loader.seek(position)
        self.loader.transformer.key = key
        self.position = position
        self._start()

    def close(self):
        if self.prefetcher is not None:
            self.prefetcher.close()
        self.db.close()

    def _start(self):
        self.prefetcher = Prefetcher(
            self.loader.read, self.loader.fill, self.batches, self.threads, f"prefetch {self.name}"
        )


class Position(NamedTuple):
    """A place in the endless sequence of records."""

    key: bytes  # of the record there
    sample: int  # its number, counted from the start of the run


class RawBatch(NamedTuple):
    """Records as the database has them; `end` is the position after the last."""

    keys: list[bytes]
    values: list[bytes]
    samples: np.ndarray
    end: Position


class Loader:
    """The work of a Data layer's threads: walks through the database and makes batches of what is there.

    cursor: at any record. source: the database's name for messages. context: phase, rank and ranks count.
    """

    transformer: Transformer
    record_type: type[Message] = caffe_pb2.Datum

    def __init__(self, cursor: Cursor, source: str, batch_size: int, context):
        self.cursor = cursor
        self.source = source
        self.batch_size = batch_size
        self.ranks, self.rank = (context.ranks, context.rank) if context.phase == TRAIN else (1, 0)
        self.quiet = context.rank > 0
        self.sample = 0
        cursor.seek_to_first()
        if not cursor.valid():
            glog.fatal(f"{source} has no records")

    @property
    def position(self) -> Position:
        return Position(self.cursor.key(), self.sample)

    def seek(self, position: Position) -> None:
        """Go on at a position of this run or of an earlier one."""
        self.cursor.seek(position.key)
        if not self.cursor.valid() or self.cursor.key() != position.key:
            glog.fatal(
                f"Cannot resume at record '{_text(position.key)}': {self.source} is another database now. "
                f"Without the snapshot's .resume.json data starts from the beginning."
            )
        self.sample = position.sample

    def peek(self) -> Message:
        """Return the present record."""
        try:
            record = parse(self.cursor.value(), self.record_type)
            if isinstance(record, caffe_pb2.Datum) and not (record.data or record.float_data):
                self._refuse_boxes(self.cursor.value())
            return record
        except FatalError as err:
            self.name_record(err, self.cursor.key())
            raise

    def _refuse_boxes(self, value: bytes) -> None:
        """Say that a record without a picture is one of AnnotatedData, if it is."""
        if parse(value, caffe_pb2.AnnotatedDatum).HasField("datum"):
            glog.fatal("The value is an AnnotatedDatum, a picture with boxes: read it with an AnnotatedData layer")

    def output_shape(self, datum: caffe_pb2.Datum) -> Shape:
        """Return the shape (channels, height, width) to which the present record is transformed."""
        try:
            return self.transformer.output_shape(self.picture(datum)[0])
        except FatalError as err:
            self.name_record(err, self.cursor.key())
            raise

    def read(self) -> RawBatch:
        """Return the next records that belong to this process."""
        keys, values, samples = [], [], np.empty(self.batch_size, np.uint64)
        key = b""
        try:
            for i in range(self.batch_size):
                while self.sample % self.ranks != self.rank:
                    self._next()
                key = self.cursor.key()
                keys.append(key)
                values.append(self.cursor.value())
                samples[i] = self.sample
                self._next()
            return RawBatch(keys, values, samples, self.position)
        except FatalError as err:  # a damaged file, or one that cannot be read any longer
            self.name_record(err, key, "after record")
            raise

    def fill(self, raw: RawBatch, batch: Batch) -> None:
        """Parse, decode and transform the records of one batch."""
        chunk = _Chunk(0)
        mixup, labels = self.transformer.mixup, []
        expected = previous = None
        i = 0
        try:
            for i, value in enumerate(raw.values):
                datum = parse(value)
                if mixup:
                    mixup.check_label(datum.label)
                labels.append(datum.label)
                shape, picture, dtype = self.picture(datum)
                if i == 0:
                    expected = self.transformer.output_shape(shape)
                    batch.data.reshape((len(raw.values), *expected))
                if shape != previous:
                    self.transformer.check_fits(shape, expected)
                    previous = shape
                if chunk.bytes >= _CHUNK_BYTES or (chunk.pictures and dtype != chunk.dtype):
                    self._transform(chunk, raw, batch)
                    chunk = _Chunk(i)
                chunk.add(shape, picture, dtype)
        except FatalError as err:
            self.name_record(err, raw.keys[i])
            raise
        self._transform(chunk, raw, batch)
        finish_batch(mixup, batch.data, batch.label, labels, int(self.transformer.key), int(raw.samples[0]))
        batch.end = raw.end

    def _next(self) -> None:
        self.cursor.next()
        self.sample += 1
        if not self.cursor.valid():
            if not self.quiet:
                glog.info("Restarting data prefetching from start.")
            self.cursor.seek_to_first()

    def picture(self, datum: caffe_pb2.Datum) -> tuple[Shape, Buffer, np.dtype]:
        """Return the shape of a record's picture, its values, and their type (uint8 or float32)."""
        data = datum.data
        if datum.encoded:
            picture = image.decode(data, self.transformer.color)
            return picture.shape, picture, picture.dtype
        shape = (datum.channels, datum.height, datum.width)
        if data and len(data) == prod(shape):
            return shape, data, _UINT8  # the short way: no array for each record
        picture = datum_format.to_array(datum)
        return picture.shape, picture, picture.dtype

    def _transform(self, chunk: _Chunk, raw: RawBatch, batch: Batch) -> None:
        part = slice(chunk.start, chunk.start + len(chunk.pictures))
        self.transformer.transform(
            chunk.shapes, chunk.pictures, chunk.dtype, raw.samples[part], batch.data.data[part]
        )

    def name_record(self, err: FatalError, key: bytes, word: str = "record") -> None:
        """Add to an error which record of which database it is about."""
        err.args = (f"{err} ({word} '{_text(key)}' of {self.source})",)


class _Chunk:
    """Successive records of a batch that are transformed together: values of one type."""

    def __init__(self, start: int):
        self.start = start
        self.shapes: list[Shape] = []
        self.pictures: list[Buffer] = []
        self.dtype = _UINT8
        self.bytes = 0

    def add(self, shape: Shape, picture: Buffer, dtype: np.dtype) -> None:
        self.shapes.append(shape)
        self.pictures.append(picture)
        self.dtype = dtype
        self.bytes += prod(shape) * dtype.itemsize


def parse(value: bytes, record_type: type[Record] = caffe_pb2.Datum) -> Record:
    """Return a record of a database. Errors: FatalError for one that is none."""
    try:
        return record_type.FromString(value)
    except DecodeError:
        name = record_type.DESCRIPTOR.name
        glog.fatal(f"The value is no {name}, or is damaged: build the database again")


def _text(key: bytes) -> str:
    return key.decode("utf-8", "backslashreplace")
