"""`caffe data`: what is in a database: counts, shapes, labels, records that repeat others, damaged ones."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from caffetools.formats import datum, image
from caffetools.formats.db import open_db
from caffetools.formats.db.base import kind_of
from caffetools.glog import FatalError, fatal
from caffetools.proto import caffe_pb2
from caffetools.tools.ordered_map import ordered_map

#: Records of these kinds that are remembered one by one; further ones are only counted.
REMEMBERED = 100
_CHUNK_BYTES = 1 << 18

Record = tuple[bytes, bytes]  # key and value


class Form(NamedTuple):
    """What the values of a record are: "bytes", "floats" or "encoded", and channels, height and width."""

    kind: str
    shape: tuple[int, int, int]


class Repeat(NamedTuple):
    """A record with the values of an earlier one, and both labels."""

    key: bytes
    earlier: bytes
    label: int
    earlier_label: int


class Sample(NamedTuple):
    """A record for people to look at. pixels: (channels, height, width), uint8 or float32."""

    key: bytes
    label: int
    pixels: np.ndarray


@dataclass
class Survey:
    """What is in a database.

    size: bytes of all values. forms, labels: how many records have each. repeats: of the values of an earlier
    record; contradictions: those whose labels differ as well; damaged: key and reason. Of these, `REMEMBERED` are
    listed. samples: drawn at random, in the order of the keys.
    """

    path: str
    backend: str
    count: int = 0
    size: int = 0
    first_key: bytes = b""
    last_key: bytes = b""
    forms: Counter[Form] = field(default_factory=Counter)
    labels: Counter[int] = field(default_factory=Counter)
    repeats: int = 0
    contradictions: int = 0
    repeated: list[Repeat] = field(default_factory=list)
    damages: int = 0
    damaged: list[tuple[bytes, str]] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)


def survey(path: str, backend: str = "", samples: int = 0, decode: bool = False, seed: int = 0) -> Survey:
    """Read a database from its first record to its last.

    backend: "lmdb" or "leveldb"; found out if not given. samples: how many records to draw; seed: of drawing
    them. decode: decode encoded pictures, which finds damaged ones, instead of looking at their headers.
    Errors: FatalError for a database that cannot be opened or read, or is empty.
    """
    backend = backend or find_backend(path)
    result = Survey(path, backend)
    drawn: list[Record] = []
    generator = random.Random(seed)
    known: dict[bytes, tuple[bytes, int]] = {}
    with open_db(backend, path) as db:
        for records, looks in ordered_map(lambda chunk: _look_at(chunk, decode), _chunks(iter(db))):
            for (key, value), look in zip(records, looks, strict=True):
                place = result.count if result.count < samples else generator.randrange(result.count + 1)
                if place < samples:
                    drawn[place : place + 1] = [(key, value)]
                _count(result, key, len(value), look, known)
    if not result.count:
        fatal(f"{path} is empty")
    result.samples = list(_samples(sorted(drawn)))
    return result


def find_backend(path: str) -> str:
    """Return which kind of database a folder is.

    Errors: FatalError if it is none.
    """
    kind = kind_of(path)
    if not kind:
        fatal(f"{path} is no database: it has neither a data.mdb (LMDB) nor a CURRENT (LevelDB)")
    return kind


class _Look(NamedTuple):
    """A record at a glance. digest: equal for equal values. problem: why there is none of it, or ""."""

    form: Form | None = None
    label: int = 0
    digest: bytes = b""
    problem: str = ""


def _chunks(records: Iterator[Record]) -> Iterator[list[Record]]:
    """Group records, so that small ones share the cost of being handed to a thread."""
    chunk: list[Record] = []
    size = 0
    for record in records:
        chunk.append(record)
        size += len(record[1])
        if size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    yield chunk


def _look_at(records: list[Record], decode: bool) -> tuple[list[Record], list[_Look]]:
    return records, [_look(value, decode) for _, value in records]


def _look(value: bytes, decode: bool) -> _Look:
    try:
        message = _picture_of(value)
        form = _form(message, decode)
    except DecodeError:
        return _Look(problem="it is no Datum")
    except FatalError as err:
        return _Look(problem=str(err))
    values = message.data or np.array(message.float_data, np.float32).tobytes()
    digest = hashlib.blake2b(values, digest_size=16, key=repr(form).encode()[:64]).digest()
    return _Look(form, message.label, digest)


def _picture_of(value: bytes) -> caffe_pb2.Datum:
    """Return the Datum that a record is, or that is in it where SSD put boxes beside it."""
    message = caffe_pb2.Datum.FromString(value)
    if message.data or message.float_data:
        return message
    boxed = caffe_pb2.AnnotatedDatum.FromString(value)
    return boxed.datum if boxed.HasField("datum") else message


def _form(message: caffe_pb2.Datum, decode: bool) -> Form:
    if message.encoded and not decode:
        return Form("encoded", image.shape_of(message.data))
    array = datum.to_array(message)
    kind = "encoded" if message.encoded else "bytes" if array.dtype == np.uint8 else "floats"
    return Form(kind, array.shape)


def _count(result: Survey, key: bytes, size: int, look: _Look, known: dict[bytes, tuple[bytes, int]]) -> None:
    result.first_key = result.first_key or key
    result.last_key = key
    result.count += 1
    result.size += size
    if look.problem:
        result.damages += 1
        if len(result.damaged) < REMEMBERED:
            result.damaged.append((key, look.problem))
        return
    result.forms[look.form] += 1
    result.labels[look.label] += 1
    earlier, label = known.setdefault(look.digest, (key, look.label))
    if earlier != key:
        result.repeats += 1
        result.contradictions += label != look.label
        if len(result.repeated) < REMEMBERED:
            result.repeated.append(Repeat(key, earlier, look.label, label))


def _samples(records: list[Record]) -> Iterator[Sample]:
    for key, value in records:
        try:
            message = caffe_pb2.Datum.FromString(value)
            yield Sample(key, message.label, datum.to_array(message))
        except (DecodeError, FatalError):  # counted as damaged already
            continue
