"""Mixup (Zhang et al. 2018): the samples of a batch blended in pairs.

    y_i = l_i x_i + (1 - l_i) x_p(i)      p: a random order of the batch

Labels are classes. The loss that is meant is l_i loss(y_i, t_i) + (1 - l_i) loss(y_i, t_p(i)), for which a net
has two forms:

`classes: 0`: the label stays the integer t_i, l_i ~ Beta(alpha + 1, alpha). This is the same objective in the
mean: a pair is as likely as its reverse, so both terms have the same mean, and the loss becomes that of
2 l loss(y, t_i) with l ~ Beta(alpha, alpha); 2 l times this density is the density of Beta(alpha + 1, alpha)
(Huszar 2017). Any loss and Accuracy work as they are.

`classes: K`: l_i ~ Beta(alpha, alpha) as published, and the label becomes a row of K shares, l_i at t_i and
1 - l_i at t_p(i), for SigmoidCrossEntropyLoss. In tests nothing is blended and the row has a single 1.

A weight for each sample as another top would fit no loss: losses have weights for whole batches only.

The random numbers of a batch depend on the layer's key and on the number of the batch's first sample.
"""

from __future__ import annotations

import numpy as np

from caffetools.blob import Blob
from caffetools.engine.cpu.jit import kernel
from caffetools.engine.cpu.rng import mix
from caffetools.glog import fatal
from caffetools.layer import TRAIN
from caffetools.proto import caffe_pb2

_BATCH = 1 << 20  # which of the first sample's random numbers makes the batch's


class Mixup:
    """Applies a MixupParameter: blends in training, and gives labels their form in both phases."""

    def __init__(self, param: caffe_pb2.MixupParameter, phase: int):
        self.alpha = param.alpha
        self.classes = param.classes
        self.blends = phase == TRAIN

    def check_label(self, label: int) -> None:
        """Refuse a label that is none of the classes."""
        if self.classes and not 0 <= label < self.classes:
            fatal(f"the label {label} is none of mixup's classes: {self.classes}")

    def draw(self, count: int, key: int, sample: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the partner (int64) and the share (float64) of each of `count` samples.

        key: of the layer. sample: the number of the first.
        """
        random = np.random.Generator(np.random.Philox(key=mix(mix(key, sample), _BATCH)))
        partners = random.permutation(count)
        return partners, random.beta(self.alpha if self.classes else self.alpha + 1, self.alpha, count)

    def apply(self, data: np.ndarray, labels: np.ndarray, key: int, sample: int) -> np.ndarray:
        """Blend data (samples, ...) in place and return the labels in their new form, of data's type.

        labels: int64, one for each sample.
        """
        count = len(labels)
        shares = np.ones(count, data.dtype)
        partners = np.arange(count)
        if self.blends:
            partners, drawn = self.draw(count, key, sample)
            shares[:] = drawn
            rows = data.reshape(count, -1)
            blend_rows(rows, partners, shares, np.empty_like(rows[0]), np.zeros(count, np.bool_))
        if not self.classes:
            return labels.astype(data.dtype)
        soft = np.zeros((count, self.classes), data.dtype)
        np.add.at(soft, (np.arange(count), labels), shares)
        np.add.at(soft, (np.arange(count), labels[partners]), 1 - shares)
        return soft


def label_shape(mixup: Mixup | None, count: int) -> tuple[int, ...]:
    """Return the shape of a batch's labels."""
    return (count, mixup.classes) if mixup and mixup.classes else (count,)


def finish_batch(
    mixup: Mixup | None, data: Blob, label: Blob, labels: list[int], key: int, sample: int
) -> None:
    """Give a batch, whose data are there, its labels, and blend it where that is asked for."""
    label.reshape(label_shape(mixup, len(labels)))
    label.data[...] = mixup.apply(data.data, np.array(labels), key, sample) if mixup else labels


@kernel
def blend_rows(x, partners, shares, first, done):
    """Replace the rows of x by their blends, along the cycles of `partners`: only one row has to be kept."""
    for start in range(len(partners)):
        if done[start] or partners[start] == start:
            continue
        first[:] = x[start]
        i = start
        while not done[i]:
            done[i] = True
            other = first if partners[i] == start else x[partners[i]]
            share, rest = shares[i], x.dtype.type(1) - shares[i]
            for k in range(x.shape[1]):
                x[i, k] = share * x[i, k] + rest * other[k]
            i = partners[i]
