"""InfogainLoss: loss = - sum_items sum_c H[label, c] log max(p_c, 1e-20) / norm, where p = Softmax(bottom 0).

    dx_c = loss_weight (p_c sum_k H[label, k] - H[label, c]) / norm

H is a square matrix over the classes: a diagonal one weights the classes, the unit matrix gives
SoftmaxWithLoss. It is bottom 2, or else a BlobProto in the file `source`. Bottom 0 is seen as (outer,
classes, inner) around `axis` (1), bottom 1 has outer x inner labels; items whose label is `ignore_label`
add nothing. norm: VALID (the default) the items that count, FULL outer * inner, BATCH_SIZE outer, NONE 1;
never below 1. Top 1, if asked for, is p.
"""

from __future__ import annotations

import math

from caffetools.engine.cpu.jit import kernel
from caffetools.formats import binary
from caffetools.formats import blob as blob_format
from caffetools.glog import check, check_eq, fatal
from caffetools.layer import LossLayer
from caffetools.layers import create_layer
from caffetools.parts.loss import LOG_THRESHOLD, SOFT_TARGETS, check_label_count, normalization, refuse_label
from caffetools.proto import caffe_pb2


class InfogainLossLayer(LossLayer):
    reads = ("infogain_loss_param", "loss_param", "softmax_param")
    refuses = {
        "softmax_param": {"axis": "Write infogain_loss_param { axis: ... }"},
        "loss_param": dict.fromkeys(SOFT_TARGETS, "The matrix says what each class counts"),
    }
    exact_bottoms = None
    min_bottoms = 2
    max_bottoms = 3
    exact_tops = None
    min_tops = 1
    max_tops = 2
    backward_reads = ("bottom[1]", "bottom[2]")

    def setup(self, bottom, top):
        param, loss = self.param.infogain_loss_param, self.param.loss_param
        softmax = caffe_pb2.LayerParameter(name=self.name, type="Softmax")
        softmax.softmax_param.axis = param.axis
        # Through the factory, because the log of the original shows this layer being created.
        self.softmax = create_layer(softmax, self.context)
        self.prob = self.context.blob(bottom[0].shape)
        self.softmax.setup(bottom[:1], [self.prob])
        words = f"normalize is deprecated. use \"normalization\" (layer '{self.name}')"
        check(not loss.HasField("normalize"), "!this->layer_param_.loss_param().has_normalize()", words)
        self.normalization = normalization(loss)
        self.has_ignore_label = loss.HasField("ignore_label")
        self.ignore_label = loss.ignore_label
        words = f"The matrix is in a file, source, or in the third bottom; not both. (layer '{self.name}')"
        check(len(bottom) == 2 or not param.HasField("source"), "bottom.size() == 2 || !has_source()", words)
        self.matrix = None if len(bottom) == 3 else self._read_matrix(param)

    def _read_matrix(self, param):
        words = f"Infogain matrix source must be specified. (or a third bottom; layer '{self.name}')"
        check(param.HasField("source"), "this->layer_param_.infogain_loss_param().has_source()", words)
        matrix = blob_format.to_array(binary.read(param.source, caffe_pb2.BlobProto))
        return matrix.reshape(-1).astype(self.dtype)

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.softmax.reshape(bottom[:1], [self.prob])
        axis = bottom[0].canonical_axis(self.param.infogain_loss_param.axis)
        self.classes, self.inner = bottom[0].shape[axis], bottom[0].count_from(axis + 1)
        self.outer = bottom[0].count_from(0, axis)
        check_label_count(self, self.outer * self.inner, bottom[1], "infogain_axis")
        words = f"the infogain matrix must have a row and a column for each class. (layer '{self.name}')"
        count = self._matrix(bottom).size
        check_eq(count, self.classes**2, "infogain->count() == num_labels_*num_labels_", words)
        if len(top) > 1:
            top[1].reshape_like(bottom[0])
            top[1].share_data(self.prob)

    def _matrix(self, bottom):
        return bottom[2].flat_data if self.matrix is None else self.matrix

    def kept(self):
        return [self.prob]

    def forward(self, bottom, top):
        self.softmax.forward(bottom[:1], [self.prob])
        labels = bottom[1].flat_data
        loss, valid, wrong = infogain(
            self.prob.flat_data,
            labels,
            self._matrix(bottom),
            self.classes,
            self.inner,
            self.has_ignore_label,
            self.ignore_label,
            self.dtype.type(LOG_THRESHOLD),
        )
        if wrong >= 0:
            refuse_label(self, labels, wrong, self.classes)
        self.norm = self.normalization(self.outer, self.inner, valid)
        top[0].flat_data[0] = loss / self.norm

    def backward(self, top, propagate_down, bottom):
        self.refuse_label_gradient(propagate_down)
        if len(bottom) == 3 and propagate_down[2]:
            fatal(f"{self.type} Layer cannot backpropagate to infogain inputs. (layer '{self.name}')")
        if propagate_down[0]:
            matrix = self._matrix(bottom)
            infogain_backward(
                self.prob.flat_data,
                bottom[1].flat_data,
                matrix,
                matrix.reshape(self.classes, self.classes).sum(axis=1),
                self.inner,
                self.has_ignore_label,
                self.ignore_label,
                self.dtype.type(top[0].flat_diff[0] / self.norm),
                bottom[0].flat_diff,
            )

    def allow_force_backward(self, bottom_index):
        return bottom_index == 0


@kernel
def infogain(prob, labels, matrix, classes, inner, has_ignore_label, ignore_label, smallest):
    """Return the summed loss, the number of items that count, and the index of a label out of range or -1."""
    loss, valid = 0.0, 0
    for item in range(labels.size):
        if has_ignore_label and int(labels[item]) == ignore_label:
            continue
        # On the float, so that a NaN is refused as well.
        if not -1 < labels[item] < classes:
            return loss, valid, item
        row = int(labels[item]) * classes
        first = item // inner * classes * inner + item % inner
        for c in range(classes):
            p = prob[first + c * inner]
            # Written so that a NaN is not taken for a small p.
            loss -= matrix[row + c] * math.log(smallest if p < smallest else p)
        valid += 1
    return loss, valid, -1


@kernel
def infogain_backward(prob, labels, matrix, row_sums, inner, has_ignore_label, ignore_label, weight, dx):
    classes = row_sums.size
    zero = prob.dtype.type(0)
    for item in range(labels.size):
        label = int(labels[item])
        first = item // inner * classes * inner + item % inner
        ignored = has_ignore_label and label == ignore_label
        for c in range(classes):
            i = first + c * inner
            dx[i] = zero if ignored else weight * (prob[i] * row_sums[label] - matrix[label * classes + c])
