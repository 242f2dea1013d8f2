"""SoftmaxWithLoss: loss = - sum log p_label / norm; p is the Softmax of bottom 0, bottom 1 holds the labels.

    dx_c = loss_weight (p_c - [c = label]) / norm

Bottom 0 is seen as (outer, classes, inner), bottom 1 has outer x inner labels. Items whose label is
`ignore_label` add nothing. norm: FULL outer * inner, VALID the number of items that count, BATCH_SIZE outer,
NONE 1; never below 1. Top 1, if asked for, is p. As in the original p is kept from zero by FLT_MIN, so that
an item's loss is at most 87.3365.

Beyond the original, `class_weighting` (SegNet's name) gives each class c a factor w_c, and `label_smoothing` a share e
of the target that all classes get alike (Szegedy et al. 2016). An item's loss is then - sum_c t_c log p_c with

    t_c = (1 - e) w_label [c = label] + e w_c / classes,   dx_c = loss_weight (p_c sum_k t_k - t_c) / norm
"""

from __future__ import annotations

import math

import numba
import numpy as np

from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.glog import check
from caffetools.layer import LossLayer
from caffetools.layers import create_layer
from caffetools.parts.loss import check_label_count, normalization, refuse_label
from caffetools.proto import caffe_pb2


class SoftmaxWithLossLayer(LossLayer):
    reads = ("softmax_param", "loss_param")
    exact_tops = None
    min_tops = 1
    max_tops = 2
    backward_reads = ("bottom[1]",)

    def setup(self, bottom, top):
        softmax = caffe_pb2.LayerParameter(
            name=self.name, type="Softmax", softmax_param=self.param.softmax_param
        )
        # Through the factory, because the log of the original shows this layer being created.
        self.softmax = create_layer(softmax, self.context)
        self.prob = self.context.blob(bottom[0].shape)
        self.softmax.setup(bottom[:1], [self.prob])
        loss = self.param.loss_param
        self.normalization = normalization(loss)
        self.has_ignore_label = loss.HasField("ignore_label")
        self.ignore_label = loss.ignore_label
        self.targets = self._read_targets(loss)

    def _read_targets(self, loss):
        """Return the classes' factors and the share of smoothing, or None where neither is given."""
        where, weights = f"(layer '{self.name}')", list(loss.class_weighting)
        words = f"it says that class_weighting is given, a factor for each class {where}"
        check(weights or not loss.weight_by_label_freqs, "class_weighting_size() > 0", words)
        words = f"label_smoothing is a share of the target {where}"
        check(0 <= loss.label_smoothing < 1, "label_smoothing >= 0 && label_smoothing < 1", words)
        if not weights and not loss.label_smoothing:
            return None
        return np.array(weights, self.dtype), self.dtype.type(loss.label_smoothing)

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.softmax.reshape(bottom[:1], [self.prob])
        self.classes, self.inner = self.softmax.classes, self.softmax.inner
        self.outer = bottom[0].count // max(1, self.classes * self.inner)
        check_label_count(self, self.outer * self.inner, bottom[1], "softmax axis")
        if self.targets is not None:
            weights, smoothing = self.targets
            words = f"class_weighting has a factor for each class (layer '{self.name}')"
            check(weights.size in (0, self.classes), f"class_weighting_size() == {self.classes}", words)
            self.targets = (weights if weights.size else np.ones(self.classes, self.dtype)), smoothing
        if len(top) > 1:
            top[1].reshape_like(bottom[0])
            top[1].share_data(self.prob)

    def kept(self):
        return [self.prob]

    def forward(self, bottom, top):
        self.softmax.forward(bottom[:1], [self.prob])
        settings = self.classes, self.inner, self.has_ignore_label, self.ignore_label
        if self.targets is None:
            loss, valid, wrong = cross_entropy(self.prob.flat_data, bottom[1].flat_data, *settings)
        else:
            loss, valid, wrong = soft_cross_entropy(
                self.prob.flat_data, bottom[1].flat_data, *settings, *self.targets
            )
        if wrong >= 0:
            refuse_label(self, bottom[1].flat_data, wrong, self.classes)
        self.norm = self.normalization(self.outer, self.inner, valid)
        top[0].flat_data[0] = loss / self.norm

    def backward(self, top, propagate_down, bottom):
        self.refuse_label_gradient(propagate_down)
        if propagate_down[0]:
            backward = cross_entropy_backward if self.targets is None else soft_cross_entropy_backward
            backward(
                self.prob.flat_data,
                bottom[1].flat_data,
                self.classes,
                self.inner,
                self.has_ignore_label,
                self.ignore_label,
                *(self.targets or ()),
                self.dtype.type(top[0].flat_diff[0] / self.norm),
                bottom[0].flat_diff,
            )


@kernel
def cross_entropy(prob, labels, classes, inner, has_ignore_label, ignore_label):
    """Return the sum of -log p_label, the number of items that count, and the index of a label out of range
    or -1."""
    smallest = prob.dtype.type(np.finfo(np.float32).tiny)
    loss, valid = 0.0, 0
    for item in range(labels.size):
        label = labels[item]
        if has_ignore_label and int(label) == ignore_label:
            continue
        # On the float, so that a NaN is refused as well.
        if not -1 < label < classes:
            return loss, valid, item
        p = prob[(item // inner * classes + int(label)) * inner + item % inner]
        # Written so that a NaN is not taken for a small p.
        loss -= math.log(smallest if p < smallest else p)
        valid += 1
    return loss, valid, -1


@kernel
def soft_cross_entropy(prob, labels, classes, inner, has_ignore_label, ignore_label, weights, smoothing):
    """As `cross_entropy`, with the classes' weights and smoothed targets."""
    smallest = prob.dtype.type(np.finfo(np.float32).tiny)
    one = prob.dtype.type(1)
    loss, valid = 0.0, 0
    for item in range(labels.size):
        label = labels[item]
        if has_ignore_label and int(label) == ignore_label:
            continue
        if not -1 < label < classes:
            return loss, valid, item
        for c in range(classes):
            p = prob[(item // inner * classes + c) * inner + item % inner]
            target = smoothing * weights[c] / classes
            if c == int(label):
                target += (one - smoothing) * weights[c]
            if target != 0:
                loss -= target * math.log(smallest if p < smallest else p)
        valid += 1
    return loss, valid, -1


@kernel
def soft_cross_entropy_backward(
    prob, labels, classes, inner, has_ignore_label, ignore_label, weights, smoothing, weight, dx
):
    zero, one = prob.dtype.type(0), prob.dtype.type(1)
    alike = zero
    for c in range(classes):
        alike += smoothing * weights[c] / classes
    for item in range(labels.size):
        label = int(labels[item])
        ignored = has_ignore_label and label == ignore_label
        total = zero if ignored else alike + (one - smoothing) * weights[label]
        for c in range(classes):
            i = (item // inner * classes + c) * inner + item % inner
            target = smoothing * weights[c] / classes
            if c == label:
                target += (one - smoothing) * weights[c]
            dx[i] = zero if ignored else weight * (prob[i] * total - target)


@parallel_kernel
def cross_entropy_backward(prob, labels, classes, inner, has_ignore_label, ignore_label, weight, dx):
    zero, one = prob.dtype.type(0), prob.dtype.type(1)
    # A piece is an item with all its classes or, where these are apart, a class with all the neighbours.
    size = classes if inner == 1 else inner
    for piece in numba.prange(prob.size // size):
        source, out = prob[piece * size : (piece + 1) * size], dx[piece * size : (piece + 1) * size]
        if inner == 1:
            label = int(labels[piece])
            if has_ignore_label and label == ignore_label:
                out[:] = zero
            else:
                for i in range(size):
                    out[i] = source[i] * weight
                out[label] -= weight
        else:
            own = labels[piece // classes * inner : (piece // classes + 1) * inner]
            for i in range(size):
                label = int(own[i])
                ignored = has_ignore_label and label == ignore_label
                value = source[i] - one if label == piece % classes else source[i]
                out[i] = zero if ignored else value * weight
