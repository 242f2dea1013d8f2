"""MemoryData: pictures and labels that the program hands over, batch by batch, over and over again.

    top[0]  (batch_size, channels, height, width)
    top[1]  (batch_size)

`reset` takes arrays as they are; `add_datum_vector` and `add_mat_vector` take pictures and put them through
`transform_param`. Nothing can be added while something that was added before has not been used up.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffetools import glog
from caffetools.blob import shape_text
from caffetools.formats import datum as datum_format
from caffetools.formats import image
from caffetools.glog import check, check_eq, check_gt
from caffetools.layer import Layer
from caffetools.proto import caffe_pb2
from caffetools.samples.transform import Transformer


class MemoryDataLayer(Layer):
    reads = ("memory_data_param", "transform_param")
    exact_bottoms = 0
    exact_tops = 2

    def setup(self, bottom, top):
        param = self.param.memory_data_param
        self.batch_size = param.batch_size
        self.item_shape = (param.channels, param.height, param.width)
        check_gt(
            self.batch_size * param.channels * param.height * param.width,
            0,
            "batch_size_ * size_ > 0",
            "batch_size, channels, height, and width must be specified and positive in memory_data_param "
            f"(layer '{self.name}')",
        )
        key = self.context.random.key()
        transform_param = self.param.transform_param
        self.transformer = Transformer(transform_param, self.phase, self.dtype, key, layer=self.name)
        words = f"MemoryData has no mixup (layer '{self.name}')"
        check(self.transformer.mixup is None, "!has_mixup", words)
        self.sample = 0  # number of the next picture that is transformed
        self.data: np.ndarray | None = None
        self.position = 0
        self.has_new_data = False
        self.reshape(bottom, top)

    def reshape(self, bottom, top):
        top[0].reshape((self.batch_size, *self.item_shape))
        top[1].reshape((self.batch_size,))

    def forward(self, bottom, top):
        words = f"MemoryDataLayer needs to be initialized by calling Reset (layer '{self.name}')"
        check(self.data is not None, "data_", words)
        self.reshape(bottom, top)
        end = self.position + self.batch_size
        # Copied, where the original's tops looked at the caller's memory: a layer that works in place must
        # not change what the next round sees.
        np.copyto(top[0].data, self.data[self.position : end])
        np.copyto(top[1].data, self.labels[self.position : end])
        self.position = end % len(self.data)
        if self.position == 0:
            self.has_new_data = False

    def backward(self, top, propagate_down, bottom):
        """Data has no gradient."""

    def reset(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Go on with these arrays, which are read at every pass until the next call.

        data: n items of channels * height * width values, n a multiple of the batch size. labels: n values.
        """
        self._check_multiple(len(labels), "n % batch_size_ == 0", "n must be a multiple of batch size")
        if self.param.HasField("transform_param"):
            glog.warning(f"{self.type} does not transform array data on Reset() (layer '{self.name}')")
        self._take(data, labels)

    def add_datum_vector(self, datums: Sequence[caffe_pb2.Datum]) -> None:
        """Transform records, a multiple of the batch size, and go on with them and their labels."""
        self._check_new(len(datums), "data", "datum")
        pictures = list(map(self._picture, datums))
        self._add(pictures, [datum.label for datum in datums], "datum")

    def _picture(self, datum):
        if datum.encoded:
            return image.decode(datum.data, self.transformer.color)
        words = f"force_color and force_gray only for encoded datum, and this one has {datum.channels} channels"
        self.transformer.check_channels(datum.channels, words)
        return datum_format.to_array(datum)

    def add_mat_vector(self, pictures: Sequence[np.ndarray], labels: Sequence[float]) -> None:
        """Transform pictures, a multiple of the batch size, and go on with them.

        pictures: as OpenCV has them, uint8, height x width x channels or height x width.
        """
        self._check_new(len(pictures), "mat", "mat")
        check_eq(len(pictures), len(labels), "mat_vector.size() == labels.size()", f"(layer '{self.name}')")
        for picture in pictures:
            check_eq(
                picture.dtype, np.dtype(np.uint8), "depth() == CV_8U", "Image data type must be unsigned byte"
            )
        pictures = [np.atleast_3d(picture).transpose(2, 0, 1) for picture in pictures]
        for picture in pictures:
            words = f"a picture is added as it is, with {len(picture)} channels"
            self.transformer.check_channels(len(picture), words)
        self._add(pictures, labels, "img")

    def set_batch_size(self, size: int) -> None:
        """Give out batches of another size from the next pass on."""
        words = f"Can't change batch_size until current data has been consumed. (layer '{self.name}')"
        check(not self.has_new_data, "!has_new_data_", words)
        self.batch_size = size

    def get_state(self):
        # The data are the program's; what belongs to the layer is where its random crops and flips go on.
        return {"random": int(self.transformer.key), "sample": self.sample}

    def set_state(self, state):
        self.sample = state["sample"]
        self.transformer.key = np.uint64(state["random"])

    def _check_new(self, count, what, item):
        words = f"Can't add {what} until current data has been consumed. (layer '{self.name}')"
        check(not self.has_new_data, "!has_new_data_", words)
        check_gt(count, 0, "num > 0", f"There is no {item} to add. (layer '{self.name}')")
        words = "The added data must be a multiple of the batch size."
        self._check_multiple(count, "num % batch_size_ == 0", words)

    def _check_multiple(self, count, expression, words):
        check_eq(count % self.batch_size, 0, expression, f"{words} ({count} items, layer '{self.name}')")

    def _add(self, pictures, labels, noun):
        transformer = self.transformer
        transformer.noun = noun
        data = np.empty((len(pictures), *self.item_shape), self.dtype)
        samples = np.arange(self.sample, self.sample + len(pictures), dtype=np.uint64)
        for i, picture in enumerate(pictures):
            self._check_shape(transformer.output_shape(picture.shape))
            transformer.check_fits(picture.shape, self.item_shape)
            pixels = np.ascontiguousarray(picture)
            transformer.transform(
                [picture.shape], [pixels], pixels.dtype, samples[i : i + 1], data[i : i + 1]
            )
        self.sample += len(pictures)
        self._take(data, np.array(labels, self.dtype))
        self.has_new_data = True

    def _check_shape(self, shape):
        if shape != self.item_shape:
            glog.fatal(
                f"A picture of {shape_text(shape)} values was added to layer '{self.name}', whose "
                f"memory_data_param says {shape_text(self.item_shape)}"
            )

    def _take(self, data, labels):
        self.data = data.reshape(-1, *self.item_shape)
        self.labels = labels.reshape(-1)
        check_eq(
            len(self.data),
            len(self.labels),
            "n",
            f"there must be a label for each item (layer '{self.name}')",
        )
        self.position = 0
