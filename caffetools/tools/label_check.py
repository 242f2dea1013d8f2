"""The labels of a database against what a trained net says of its records.

The net is that of training and testing: its data layer's transform_param prepares the records, and its Accuracy or
loss layer tells scores from labels. Records that it is sure belong to another class are the ones to look at: they
are hard, or their labels are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from caffetools import graph, upgrade
from caffetools.formats.db import open_db
from caffetools.glog import fatal
from caffetools.layer import TEST, Context
from caffetools.net import Net, load_net
from caffetools.proto import caffe_pb2
from caffetools.tools.confusion import Confusion, Wrong
from caffetools.tools.database import Survey

#: Records that go through the net at once.
_BATCH = 64


class Suspect(NamedTuple):
    """A record whose label the net disagrees with. confidence: the probability of what it predicts."""

    key: bytes
    label: int
    predicted: int
    confidence: float
    pixels: np.ndarray | None


@dataclass
class LabelCheck:
    """right, count: predictions that are the labels, and all. suspects: the surest other predictions first."""

    right: int = 0
    count: int = 0
    suspects: list[Suspect] = field(default_factory=list)

    @property
    def text(self) -> str:
        lines = [
            f"labels      the net agrees with {self.right:,} of {self.count:,} ({self.right / self.count:.2%})"
        ]
        for suspect in self.suspects[:10]:
            lines.append(
                f"            {suspect.key.decode(errors='replace')}: label {suspect.label}, predicted"
                f" {suspect.predicted}, confidence {suspect.confidence:.2%}"
            )
        return "\n".join(lines)


def check_labels(survey: Survey, model: str, weights: str) -> LabelCheck:
    """Run a net on a whole database.

    survey: of the database. model: the prototxt of a net with a data layer in its test phase. weights: one file.
    Errors: FatalError for a net without a data layer or a comparison of scores and labels, and for labels that
    the net has no class for.
    """
    if survey.damages:
        fatal(f"{survey.path} has {survey.damages} damaged records, which a net cannot read")
    result, wrong, state = LabelCheck(count=survey.count), [], None
    for batch, batches in ((_BATCH, survey.count // _BATCH), (survey.count % _BATCH, 1)):
        if batch * batches == 0:
            continue
        net, layer = _load(model, survey, batch)
        try:
            net.copy_from(weights)
            confusion = Confusion(net)
            _check_range(survey, len(confusion.matrix), model)
            done = 0
            if state is not None:  # the rest, behind the whole batches
                net.layer_by_name[layer].set_state(state)
                done = survey.count - batch
            for _ in range(batches):
                net.forward()
                confusion.add()
            state = net.layer_by_name[layer].get_state()
        finally:
            net.close()
        result.right += int(np.trace(confusion.matrix))
        wrong += [
            Wrong(w.index + done, w.label, w.predicted, w.confidence, w.pixels) for w in confusion.wrong
        ]
    result.suspects = _with_keys(survey, wrong)
    return result


def _load(model: str, survey: Survey, batch: int) -> tuple[Net, str]:
    """The net that reads the database, and the name of its data layer."""
    param = upgrade.read_net_text(model)
    param.state.phase = TEST
    param = graph.filter_net(param)
    readers = [layer for layer in param.layer if layer.type == "Data"]
    if not readers:
        fatal(f"{model} has no layer of type Data in its test phase: give the net of training and testing")
    for layer in readers:
        layer.data_param.source = survey.path
        layer.data_param.batch_size = batch
        layer.data_param.backend = caffe_pb2.DataParameter.DB.Value(survey.backend.upper())
    return load_net(param, TEST, Context()), readers[0].name


def _check_range(survey: Survey, classes: int, model: str) -> None:
    strange = sorted(label for label in survey.labels if not 0 <= label < classes)
    if strange:
        fatal(f"{survey.path} has labels that {model}, with {classes} classes, does not know: {strange[:10]}")


def _with_keys(survey: Survey, wrong: list[Wrong]) -> list[Suspect]:
    numbers = {w.index for w in wrong}
    with open_db(survey.backend, survey.path) as db:
        keys = {number: key for number, (key, _) in enumerate(db) if number in numbers}
    suspects = [Suspect(keys[w.index], w.label, w.predicted, w.confidence, w.pixels) for w in wrong]
    return sorted(suspects, key=lambda suspect: -suspect.confidence)
