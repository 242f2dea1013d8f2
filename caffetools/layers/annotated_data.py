"""AnnotatedData, of SSD (Liu et al. 2016): the AnnotatedDatum records of an LMDB or LevelDB, pictures with boxes.

    top[0]  (batch_size, channels, height, width)  pictures, varied as below, less the mean
    top[1]  (1, 1, boxes, 8)  item, class, instance, xmin, ymin, xmax, ymax, difficult; -1 eight times if there are none

A picture and its boxes pass, in this order, through those steps that are set, all of `transform_param` but the sampler:

    distort_param     brightness (a summand), contrast, saturation (factors) and hue, then the order of the channels,
                      each with its probability; contrast comes after brightness or last, as a coin says
    expand_param      the picture somewhere on a plane of the mean's colour, with sides drawn up to max_expand_ratio
                      times as long
    batch_sampler     one of the parts that all samplers found together; the whole picture where they found none
    resize_param      the picture warped to a size, by one of the interpolations given
    mirror            flipped, every second one

A cut keeps the boxes that emit_constraint asks for, or all that it touches, and cuts them too. Corners are shares of
the picture's sides. `annotated_data_param` has the samplers that parts of pictures are drawn by; its label_map_file
is read for nothing but to find out whether it is one. Records, threads and processes are as in Data.
"""

from __future__ import annotations

import numpy as np

from caffetools import glog
from caffetools.engine.cpu.rng import mix
from caffetools.formats import prototxt
from caffetools.glog import FatalError, check, check_gt
from caffetools.layers.data import DataLayer, Loader, RawBatch, parse
from caffetools.proto import caffe_pb2
from caffetools.samples import prefetch
from caffetools.samples.batch import Batch, make_batches
from caffetools.samples.boxes import Boxed, BoxTransformer, Draws
from caffetools.samples.transform import WITH_BOXES, Shape, Transformer

WITHOUT_BOXES = "A crop here is one of annotated_data_param { batch_sampler }"


class AnnotatedDataLayer(DataLayer):
    reads = ("data_param", "transform_param", "annotated_data_param")
    refuses = {
        **DataLayer.refuses,
        "transform_param": {
            **dict.fromkeys(("crop_size", "crop_h", "crop_w"), WITHOUT_BOXES),
            "augmentation": "Write distort_param, expand_param and resize_param, which take the boxes along",
            "mean_file": "Write mean_value",
            "noise_param": "Noise is not there; distort_param changes colours",
        },
    }
    exact_tops = 2

    def setup(self, bottom, top):
        param, transform_param = self.param.data_param, self.param.transform_param
        annotated = self.param.annotated_data_param
        check_gt(param.batch_size, 0, "batch_size > 0", f"(layer '{self.name}')")
        check_gt(param.prefetch, 0, "prefetch > 0", f"(layer '{self.name}')")
        if annotated.label_map_file:
            check_label_map(annotated.label_map_file)
        plain = caffe_pb2.TransformationParameter()
        plain.CopyFrom(transform_param)
        for name in (*WITH_BOXES, "mirror"):
            plain.ClearField(name)
        key = self.context.random.key()
        self.loader = AnnotatedLoader(self.db.cursor(), param.source, param.batch_size, self.context)
        self.loader.transformer = Transformer(plain, self.phase, self.dtype, key, "img", self.name)
        self.loader.boxes = BoxTransformer(transform_param, annotated.batch_sampler, self.name)
        self.loader.need_type = not annotated.HasField("anno_type")
        first = self.loader.peek()
        if not first.datum.encoded:
            channels = first.datum.channels
            words = f"force_color and force_gray only for encoded datum, and these have {channels} channels"
            self.loader.transformer.check_channels(channels, words)
        shape = (param.batch_size, *self.loader.output_shape(first))
        labels = (1, 1, max(1, sum(len(group.annotation) for group in first.annotation_group)), 8)
        for blob, sizes in zip(top, (shape, labels), strict=True):
            blob.reshape(sizes)
        glog.info(f"output data size: {','.join(map(str, shape))}")
        self.position = self.loader.position
        self.batches = make_batches(self.context, param.prefetch, (shape, labels))
        self.threads = min(param.prefetch, prefetch.processors())
        self._start()


class AnnotatedLoader(Loader):
    """The work of an AnnotatedData layer's threads."""

    record_type = caffe_pb2.AnnotatedDatum
    boxes: BoxTransformer
    need_type: bool  # whether a record has to say that it has boxes

    def output_shape(self, record: caffe_pb2.AnnotatedDatum) -> Shape:
        """Return the shape (channels, height, width) that all pictures of a batch have."""
        try:
            channels, height, width = self._boxed(record).picture.shape
            size = self.boxes.size(height, width)
            words = "parts and planes drawn at random have all sizes: resize_param makes them one"
            check(size is not None or self.batch_size == 1, "has_resize_param() || batch_size == 1", words)
            return self.transformer.output_shape((channels, *(size or (height, width))))
        except FatalError as err:
            self.name_record(err, self.cursor.key())
            raise

    def fill(self, raw: RawBatch, batch: Batch) -> None:
        """Parse, decode and transform the records of one batch."""
        rows, key, i = [], int(self.transformer.key), 0
        try:
            for i, value in enumerate(raw.values):
                draws = Draws(mix(key, int(raw.samples[i])))
                boxed = self.boxes.apply(self._boxed(parse(value, caffe_pb2.AnnotatedDatum)), draws)
                shape = boxed.picture.shape
                if i == 0:
                    expected = self.transformer.output_shape(shape)
                    batch.data.reshape((len(raw.values), *expected))
                self.transformer.check_fits(shape, expected)
                y = batch.data.data[i : i + 1]
                self.transformer.transform([shape], [boxed.picture], boxed.picture.dtype, raw.samples[i : i + 1], y)
                rows += [(i, *label[:2], *box, label[2]) for label, box in zip(boxed.labels, boxed.boxes, strict=True)]
        except FatalError as err:
            self.name_record(err, raw.keys[i])
            raise
        batch.label.reshape((1, 1, max(1, len(rows)), 8))
        batch.label.data[0, 0] = rows or -1
        batch.end = raw.end

    def _boxed(self, record):
        """Return the picture of a record and its boxes."""
        words = "the record does not say that it has boxes: set annotated_data_param { anno_type: BBOX }, or use Data"
        check(not self.need_type or record.HasField("type"), "anno_datum.has_type()", words)
        shape, values, dtype = self.picture(record.datum)
        check(dtype == np.uint8, "datum.has_data()", "pictures with boxes are bytes, not floats")
        picture = np.frombuffer(values, np.uint8).reshape(shape) if isinstance(values, bytes) else values
        boxes, labels = [], []
        for group in record.annotation_group:
            for annotation in group.annotation:
                box = annotation.bbox
                boxes.append((box.xmin, box.ymin, box.xmax, box.ymax))
                labels.append((group.group_label, annotation.instance_id, box.difficult))
        return Boxed(picture, np.array(boxes, float).reshape(-1, 4), np.array(labels, float).reshape(-1, 3))


def check_label_map(path: str) -> None:
    """Refuse a file that is no LabelMap, or that gives a number twice. Errors: FatalError."""
    labels = [item.label for item in prototxt.read(path, caffe_pb2.LabelMap).item]
    for label in set(labels):
        check(labels.count(label) == 1, "label map without duplicates", f"{path} gives the label {label} twice")
