"""What a net is fed with: values and labels of some batches, before anything is trained with them."""

from __future__ import annotations

import math

import numpy as np

from caffetools.layer import TRAIN
from caffetools.net import Net
from caffetools.solver.settings import batch_size, record_count

#: Layers that take labels as classes of their first bottom, and the message with the axis of the classes.
_CLASSIFIERS = {
    "SoftmaxWithLoss": "softmax_param",
    "Accuracy": "accuracy_param",
    "InfogainLoss": "infogain_loss_param",
    "MultinomialLogisticLoss": None,
    "HingeLoss": None,
}
_MANY = 4  # samples of each class, from which on a rising order is hardly chance
_LARGE = 30.0  # values of this size are hardly scaled or without their mean


class InputCheck:
    """Looks at the data of a net.

    lines: what was seen. problems: what training would fail of or be worthless with. hints: what is hardly meant.
    """

    def __init__(self, net: Net):
        self.net = net
        self.lines: list[str] = []
        self.problems: list[str] = []
        self.hints: list[str] = []
        self._sources = [i for i, layer in enumerate(net.layers) if not net.bottoms[i] and layer.type != "Parameter"]
        self._labelled = [i for i, layer in enumerate(net.layers) if self._has_classes(i, layer)]
        self._values = {name: _Values() for i in self._sources for name in net.top_names[i]}
        self._labels: dict[int, _Labels] = {}

    def _has_classes(self, i, layer):
        return layer.type in _CLASSIFIERS and len(self.net.bottoms[i]) > 1 and not self._from_weights(i)

    def _from_weights(self, i):
        """Say whether the labels of layer i come from layers that learn: they are no data then."""
        return any(self.net.layers[j].blobs for j in self._ancestors(i))

    def _ancestors(self, i):
        """Return the layers that the labels of layer i are made by, in their order."""
        wanted, found = {self.net.bottom_names[i][1]}, []
        for j in range(i - 1, -1, -1):
            if wanted & set(self.net.top_names[j]):
                found.append(j)
                wanted |= set(self.net.bottom_names[j])
        return found[::-1]

    def look(self, batches: int) -> None:
        """Look at so many batches, at most one pass over the data."""
        net = self.net
        passes = [batches, *(self._batches_of(i) for i in self._sources)]
        count = min(size for size in passes if size)
        needed = sorted({*self._sources, *(j for i in self._labelled for j in self._ancestors(i))})
        for _ in range(count):
            for i in needed:
                net.forward_layer(i)
                if i in self._sources:
                    for name, blob in zip(net.top_names[i], net.tops[i], strict=True):
                        self._values[name].add(blob.cpu_data)
            for i in self._labelled:
                self._labels.setdefault(i, self._rule(i)).add(net.bottoms[i][1].cpu_data)
        self._report(count)

    def _batches_of(self, i):
        size = batch_size(self.net.layers[i], self.net.tops[i])
        records = record_count(self.net.layers[i], size * 10_000) if size else None
        return -(-records // size) if records else 0

    def _rule(self, i):
        layer, scores = self.net.layers[i], self.net.bottoms[i][0]
        message = _CLASSIFIERS[layer.type]
        axis = getattr(layer.param, message).axis if message else 1
        param = layer.param.accuracy_param if layer.type == "Accuracy" else layer.param.loss_param
        ignored = param.ignore_label if param.HasField("ignore_label") else None
        return _Labels(scores.shape[scores.canonical_axis(axis)], ignored)

    def _report(self, count):
        net = self.net
        judged = {net.bottom_names[i][1].split("_split_")[0] for i in self._labelled}
        for i in self._sources:
            for name, blob in zip(net.top_names[i], net.tops[i], strict=True):
                values = self._values[name]
                self.lines.append(f"{count} batches of '{name}' {blob.shape_string}: {values.text}")
                self.problems += [f"'{name}' (layer '{net.layers[i].name}'): {text}" for text in values.problems]
                if not any(label.startswith(name) for label in judged):
                    self.hints += [f"'{name}' (layer '{net.layers[i].name}'): {text}" for text in values.hints]
        told = set()
        for i, labels in self._labels.items():
            layer = net.layers[i]
            where = f"labels of layer '{layer.name}' ({layer.type}, {labels.classes} classes)"
            self.problems += [f"{where}: {text}" for text in labels.problems]
            if labels.text not in told:
                told.add(labels.text)
                self.lines.append(f"{where}: {labels.text}")
                self.hints += [f"{where}: {text}" for text in labels.hints(net.context.phase == TRAIN)]


class _Values:
    """Statistics of the values of a blob."""

    def __init__(self):
        self.count = self.odd = 0
        self.low, self.high = math.inf, -math.inf
        self.sum = self.squares = 0.0

    def add(self, data):
        values = data[np.isfinite(data)].astype(np.float64)
        self.odd += data.size - values.size
        if values.size:
            self.count += values.size
            self.low, self.high = min(self.low, values.min()), max(self.high, values.max())
            self.sum += values.sum()
            self.squares += np.square(values).sum()

    @property
    def mean(self):
        return self.sum / self.count if self.count else math.nan

    @property
    def deviation(self):
        return math.sqrt(max(self.squares / self.count - self.mean**2, 0.0)) if self.count else math.nan

    @property
    def text(self):
        return f"from {self.low:g} to {self.high:g}, mean {self.mean:.3g}, standard deviation {self.deviation:.3g}"

    @property
    def problems(self):
        if self.odd:
            yield f"{self.odd} of {self.count + self.odd} values are not finite"

    @property
    def hints(self):
        if self.count and self.low == self.high:
            yield f"all values are {self.low:g}"
        elif max(abs(self.low), abs(self.high)) > _LARGE:
            yield f"values from {self.low:g} to {self.high:g}: a scale and a mean usually keep them near 1"


class _Labels:
    """Labels against the number of classes."""

    def __init__(self, classes, ignored):
        self.classes, self.ignored = classes, ignored
        self.counts: dict[float, int] = {}
        self._falls = 0  # how often a sample's label is below that of the sample before
        self._last = -math.inf

    def add(self, labels):
        order = np.concatenate([[self._last], labels.ravel()])
        self._falls += int(np.count_nonzero(order[1:] < order[:-1]))
        self._last = order[-1]
        values, counts = np.unique(labels, return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            if value != self.ignored:
                self.counts[value] = self.counts.get(value, 0) + count

    @property
    def total(self):
        return sum(self.counts.values())

    @property
    def seen(self):
        return sorted(value for value in self.counts if 0 <= value < self.classes and value == int(value))

    @property
    def text(self):
        if not self.counts:
            return "none, all are ignored"
        labels = sorted(self.counts)
        return f"{self.total} labels from {labels[0]:g} to {labels[-1]:g}, {len(self.seen)} of the classes occur"

    @property
    def problems(self):
        good = set(self.seen)
        wrong = sorted(value for value in self.counts if value not in good)
        if wrong:
            count = sum(self.counts[value] for value in wrong)
            shown = ", ".join(f"{value:g}" for value in wrong[:5]) + (", ..." if len(wrong) > 5 else "")
            yield (
                f"{count} of {self.total} labels are not one of 0 to {self.classes - 1}: {shown}. The last layer needs "
                "an output for each class, and labels count from 0"
            )
        if not self.counts:
            yield "all labels are ignored, there is nothing to learn"

    def hints(self, training):
        """Yield what is hardly meant. training: whether a net learns from them, so that their order matters."""
        if len(self.counts) == 1 and self.total > 1 and self.classes > 1:
            yield "all labels that were seen are the same: is the data sorted? It should be shuffled"
        elif training and self._falls <= 1 and self.total >= _MANY * len(self.counts):  # one fall: the data begins anew
            yield "the labels come in their order: the data is sorted, and should be shuffled for training"
