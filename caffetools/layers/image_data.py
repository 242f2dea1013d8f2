"""ImageData: pictures and labels that a text file lists, over and over again.

    top[0]  (batch_size, channels, height, width)  pictures as `transform_param` leaves them
    top[1]  (batch_size)                           labels

A line of the list is `path label`. Pictures are resized where new_height and new_width say so; a batch has
the shape of its first picture. With `shuffle` each pass takes another order; with `rand_skip` the first one
begins at a random line below it. Processes that train together all see the whole list, each in its own order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from caffetools import glog
from caffetools.engine.cpu.rng import mix
from caffetools.glog import FatalError, check, check_gt
from caffetools.layer import TRAIN
from caffetools.samples.mixup import finish_batch, label_shape
from caffetools.samples.picture_data import (
    ALL_BUT_PREFETCH,
    Batch,
    Loader,
    PictureDataLayer,
    decode,
    read_bytes,
)
from caffetools.samples.resize import resize
from caffetools.samples.transform import MOVED, Transformer

# Keys that are derived from the layer's: one for `rand_skip`, one for each pass.
_SKIP, _FIRST_PASS = 0, 1


class Line(NamedTuple):
    """A line of the list."""

    path: str
    label: int


class ImageDataLayer(PictureDataLayer):
    reads = ("image_data_param", "transform_param", "data_param")
    refuses = {"image_data_param": MOVED, "data_param": ALL_BUT_PREFETCH}

    def setup(self, bottom, top):
        param, context = self.param.image_data_param, self.context
        check(
            bool(param.new_height) == bool(param.new_width),
            "(new_height == 0 && new_width == 0) || (new_height > 0 && new_width > 0)",
            "Current implementation requires new_height and new_width to be set at the same time. "
            f"(layer '{self.name}')",
        )
        glog.info(f"Opening file {param.source}")
        lines = read_list(param.source)
        if param.shuffle:
            glog.info("Shuffling data")
        elif self.phase == TRAIN and context.ranks > 1 and context.rank == 0 and not param.rand_skip:
            glog.warning("Shuffling or skipping recommended for multi-GPU")
        glog.info(f"A total of {len(lines)} images.")
        key = context.random.key()
        transformer = Transformer(self.param.transform_param, self.phase, self.dtype, key, "img", self.name)
        color = str(param.is_color).lower()
        words = f"pictures are decoded as image_data_param {{ is_color: {color} }} says"
        transformer.check_channels(3 if param.is_color else 1, words)
        if param.new_height and self.param.transform_param.augmentation.resize_short:
            glog.fatal(f"Give new_height and new_width or resize_short, not both (layer '{self.name}')")
        loader = ImageLoader(lines, param, transformer)
        if param.rand_skip:
            glog.info(f"Skipping first {loader.skip} data points.")
            check_gt(len(lines), loader.skip, "lines_.size() > skip", "Not enough points to skip")
        labels = label_shape(transformer.mixup, param.batch_size)
        self.start(loader, (param.batch_size, *loader.first_shape()), top, labels)


class ImageLoader(Loader):
    """Reads, resizes and transforms the pictures of a list."""

    def __init__(self, lines: list[Line], param, transformer: Transformer):
        super().__init__(param.batch_size, transformer.key)
        self.lines = lines
        self.root_folder = param.root_folder
        self.shuffle = param.shuffle
        self.rand_skip = param.rand_skip
        self.new_size = (param.new_height, param.new_width)
        self.color = param.is_color
        self.transformer = transformer
        self._order: tuple[tuple[int, int], np.ndarray] | None = None

    def go_to(self, key, sample):
        super().go_to(key, sample)
        self.transformer.key = key

    @property
    def skip(self) -> int:
        """The line at which the first pass begins."""
        return mix(int(self.key), _SKIP) % self.rand_skip if self.rand_skip else 0

    def line(self, sample: int) -> Line:
        """Return the line that item `sample` of the run is."""
        number, place = divmod(self.skip + sample, len(self.lines))
        if not self.shuffle:
            return self.lines[place]
        return self.lines[self._order_of(number)[place]]

    def _order_of(self, number):
        # Kept until another pass is asked for; a thread that draws it once more gets the same.
        wanted = (int(self.key), number)
        kept = self._order
        if kept is None or kept[0] != wanted:
            random = np.random.Generator(np.random.Philox(key=mix(wanted[0], _FIRST_PASS + number)))
            self._order = kept = (wanted, random.permutation(len(self.lines)))
        return kept[1]

    def first_shape(self):
        """Return the shape to which the first picture is transformed."""
        line = self.line(0)
        picture = self._picture(line)
        with naming(line):
            return self.transformer.output_shape(picture.shape)

    def load(self, samples, batch: Batch):
        lines = [self.line(int(sample)) for sample in samples]
        mixup = self.transformer.mixup
        for i, line in enumerate(lines):
            picture = self._picture(line)
            with naming(line):
                if i == 0:
                    expected = self.transformer.output_shape(picture.shape)
                    batch.data.reshape((len(lines), *expected))
                self.transformer.check_fits(picture.shape, expected)
                if mixup:
                    mixup.check_label(line.label)
            place = slice(i, i + 1)
            out = batch.data.data[place]
            self.transformer.transform([picture.shape], [picture], picture.dtype, samples[place], out)
        labels = [line.label for line in lines]
        finish_batch(mixup, batch.data, batch.label, labels, int(self.transformer.key), int(samples[0]))

    def _picture(self, line):
        path = self.root_folder + line.path
        picture = decode(read_bytes(path), self.color, path)
        return np.ascontiguousarray(resize(picture, *self.new_size)) if all(self.new_size) else picture


@contextmanager
def naming(line: Line) -> Iterator[None]:
    """Add to an error which picture it is about."""
    try:
        yield
    except FatalError as err:
        err.args = (f"{err} (picture {line.path})",)
        raise


def read_list(source: str) -> list[Line]:
    """Return the lines of a list. The label stands behind the last blank, since paths may have blanks.

    A line of a path alone has the label 0, as in the original. Errors: FatalError for a list that cannot be
    read or is empty, and for a label that is no whole number.
    """
    try:
        text = Path(source).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as err:
        glog.fatal(f"Failed to open source file: {source} ({err.strerror})")
    lines = []
    for number, line in enumerate(map(str.rstrip, text.split("\n")), 1):
        if line:
            path, _, label = line.rpartition(" ")
            lines.append(Line(path.rstrip(), _label(label, source, number)) if path else Line(line, 0))
    check(lines, "!lines_.empty()", f"File is empty: {source}")
    return lines


def _label(text, source, number):
    try:
        return int(text)
    except ValueError:
        glog.fatal(
            f"{source}, line {number}: the label behind the last blank is no whole number but '{text}'"
        )
