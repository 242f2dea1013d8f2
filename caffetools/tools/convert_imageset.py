"""`convert_imageset`: picture files and their labels, as a list names them, to a database.

Keys are the number of the line and the path (`00000007_cats/3.jpg`), values are Datum messages: planes of blue,
green and red, or of gray, or with `encoded` the bytes of a picture file. Files are read, decoded and resized in
threads; what comes out does not depend on their number.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from caffetools import glog
from caffetools.engine.cpu.threads import thread_count
from caffetools.formats import datum as datum_format
from caffetools.formats import picture_encoder
from caffetools.formats.files import reason
from caffetools.glog import FatalError, check_eq, fatal
from caffetools.proto import caffe_pb2
from caffetools.samples.decode import decode
from caffetools.tools import image_list
from caffetools.tools.allocator import keep_freed_memory
from caffetools.tools.image_list import Line
from caffetools.tools.new_database import Writer, new_database
from caffetools.tools.ordered_map import ordered_map

_REPORT_EVERY = 1000  # pictures
_NAMED = 5  # skipped files that the summary names


@dataclass(frozen=True)
class Options:
    """What becomes of a picture.

    gray: one channel instead of three. resize_width, resize_height: its size in the database, if both are
    positive. encoded: store a picture file instead of pixels, of the type `encode_type` (png, jpg, ...) or else
    of its own; the file's bytes are kept where nothing is to be changed. check_size: all pictures must have as
    many values as the first.
    """

    gray: bool = False
    resize_width: int = 0
    resize_height: int = 0
    encoded: bool = False
    encode_type: str = ""
    check_size: bool = False


def convert(
    root: str,
    list_file: str,
    db: str,
    options: Options,
    *,
    backend: str = "lmdb",
    shuffle: bool = False,
    seed: int = -1,
    label_type: str = "int",
    force: bool = False,
    skip_bad: bool = False,
) -> int:
    """Make the database `db` and return the exit status: 1 if pictures had to be skipped, unless `skip_bad`.

    root: what stands before each path of the list, as text: a folder with its slash. list_file: see
    `image_list`. label_type: int, float, ints or floats; a Datum has room for one whole number, so that all
    other labels go to a database of their own, `DB_labels`, under the same keys. seed: of the order that
    `shuffle` makes; negative for a new one. force: replace databases of these names.
    Errors: FatalError for everything that concerns more than one picture; then no database is made.
    """
    keep_freed_memory()
    warnings.filterwarnings("ignore", module="PIL")  # remarks on odd files would get between the log's lines
    lines = image_list.read(list_file, label_type)
    _check_root(root, lines)
    if shuffle:
        glog.info("Shuffling data")
        lines = image_list.shuffled(lines, seed)
    glog.info(f"A total of {len(lines)} images.")
    if options.encode_type:
        picture_encoder.check_extension(options.encode_type.lower())
        if not options.encoded:
            glog.info("encode_type specified, assuming encoded=true.")
    with ExitStack() as stack:
        records = stack.enter_context(new_database(backend, db, force))
        labels = None
        if label_type != "int":
            labels = stack.enter_context(new_database(backend, f"{os.path.normpath(db)}_labels", force))
        # One thread more than processors: there is always one that waits, for a file or for the interpreter.
        pictures = ordered_map(Reader(root, options), lines, thread_count() + 1)
        stack.enter_context(closing(pictures))
        skipped = _store(lines, pictures, root, options.check_size, records, labels)
        if not records.count:
            fatal(f"None of the {len(lines)} pictures of {list_file} could be read: no database is made")
    if records.count % _REPORT_EVERY:
        glog.info(f"Processed {records.count} files.")
    return _summarise(skipped, len(lines), skip_bad)


def _store(
    lines: list[Line],
    pictures: Iterator[Picture],
    root: str,
    check_size: bool,
    records: Writer,
    labels: Writer | None,
) -> list[str]:
    """Put the pictures, and the labels that have a database of their own, under their keys; return skipped files."""
    skipped = []
    size = None
    for number, (line, picture) in enumerate(zip(lines, pictures, strict=True)):
        path = root + line.path
        if picture.problem:
            glog.error(f"Could not open or find file {path} ({picture.problem})")
            skipped.append(path)
            continue
        if check_size:
            size = picture.size if size is None else size
            _check_size(picture.size, size, path)
        key = os.fsencode(f"{number:08d}_{line.path}")
        records.put(key, picture.record)
        if labels:
            labels.put(key, datum_format.serialize_floats(_column(line.labels)))
        if records.count % _REPORT_EVERY == 0:
            glog.info(f"Processed {records.count} files.")
    return skipped


class Picture(NamedTuple):
    """A picture ready to be stored. size: its number of values. problem: why there is none, or ""."""

    record: bytes = b""
    size: int = 0
    problem: str = ""


class Reader:
    """Makes the record of a line of the list; may be called in several threads at once."""

    def __init__(self, root: str, options: Options):
        self.root = root
        self.options = options
        self.encoded = options.encoded or bool(options.encode_type)

    def __call__(self, line: Line) -> Picture:
        path, options = self.root + line.path, self.options
        try:
            with open(path, "rb") as file:
                data = file.read()
            pixels = decode(data, not options.gray, options.resize_height, options.resize_width)
            label = line.labels[0] if len(line.labels) == 1 and isinstance(line.labels[0], int) else None
            # encoded is written out in both cases, as in the original
            if self.encoded:
                datum = caffe_pb2.Datum(data=self._encode(data, pixels, path), label=label, encoded=True)
                return Picture(datum.SerializeToString(), pixels.size)
            return Picture(datum_format.serialize_bytes(pixels, label, encoded=False), pixels.size)
        except FatalError as err:
            return Picture(problem=str(err))
        except OSError as err:
            return Picture(problem=reason(err))
        except MemoryError:
            return Picture(problem="it does not fit into memory")

    def _encode(self, data, pixels, path):
        extension = os.path.splitext(path)[1].lstrip(".").lower()
        wanted = self.options.encode_type.lower() or extension
        if not wanted:
            fatal("its name has no extension that says how to encode it: use --encode_type")
        resized = self.options.resize_height > 0 and self.options.resize_width > 0
        if resized or not (extension == wanted or (extension, wanted) == ("jpeg", "jpg")):
            return picture_encoder.encode(pixels, wanted)
        return data


def _column(labels):
    return np.array(labels, np.float32).reshape(-1, 1, 1)


def _check_size(size, expected, path):
    check_eq(
        size,
        expected,
        "data.size() == data_size",
        f"Incorrect data field size {size} ({path}; without --check_size pictures may differ, and"
        " --resize_height with --resize_width makes them alike)",
    )


def _check_root(root: str, lines: list[Line]) -> None:
    """Refuse a folder without the slash at its end, the most frequent mistake."""
    first = lines[0].path
    if root.endswith(("/", os.sep)) or os.path.exists(root + first):
        return
    if os.path.exists(os.path.join(root, first)):
        fatal(
            f"ROOTFOLDER needs a slash at its end: '{root}/'. It is put before the paths of the list as it is,"
            f" and there is no '{root}{first}'"
        )


def _summarise(skipped: list[str], count: int, skip_bad: bool) -> int:
    if not skipped:
        return 0
    names = ", ".join(skipped[:_NAMED]) + (", ..." if len(skipped) > _NAMED else "")
    if skip_bad:
        glog.warning(f"{len(skipped)} of {count} pictures were skipped: {names}")
        return 0
    glog.error(
        f"{len(skipped)} of {count} pictures were skipped: {names}. The database has all others; the exit status"
        " is 1, but 0 with --skip_bad"
    )
    return 1
