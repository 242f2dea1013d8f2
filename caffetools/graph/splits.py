"""Give each user of a blob a copy of its own (Split layers), so that the backward pass sums their gradients.

A top that k > 1 layers read, or that k - 1 layers read while it has a loss weight, is followed by

    layer { name: "B_L_i_split" type: "Split" bottom: "B" top: "B_L_i_split_0" ... top: "B_L_i_split_{k-1}" }

for blob B, its producer L and its index i among L's tops. The names show up in logs and in `net.blobs`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from caffetools.glog import fatal
from caffetools.proto import caffe_pb2

#: Producer of the net's own inputs, as the Input layer is called that the upgrade makes of them.
INPUT = "input"


@dataclass
class _Version:
    """A blob as one layer leaves it: a layer that works in place makes a new version under the old name."""

    blob: str
    producer: str
    index: int
    users: int = 0
    loss_weight: float = 0.0
    handed_out: int = 0

    @property
    def split(self) -> str:
        return f"{self.blob}_{self.producer}_{self.index}_split"

    def next_copy(self) -> str:
        """The name under which the next user reads the blob."""
        if self.users < 2:
            return self.blob
        self.handed_out += 1
        return f"{self.split}_{self.handed_out - 1}"


@dataclass
class _Wires:
    """One layer and the versions that it reads and makes, in the order of its bottoms and tops."""

    layer: caffe_pb2.LayerParameter
    bottoms: list[_Version]
    tops: list[_Version]


def insert_splits(
    param: caffe_pb2.NetParameter, unfiltered: caffe_pb2.NetParameter | None = None
) -> caffe_pb2.NetParameter:
    """Return the net with a Split layer behind every blob that is used more than once.

    Raises FatalError for a bottom that no earlier layer makes. Given the net before `filter_net` as well
    (`unfiltered`), the error can tell that its producer was left out by its rules.
    """
    inputs = [_Version(blob, INPUT, index) for index, blob in enumerate(param.input)]
    wires = _trace(param, inputs, unfiltered or param)
    split = caffe_pb2.NetParameter()
    split.CopyFrom(param)
    del split.layer[:]
    split.layer.extend(_splits(inputs))
    for wire in wires:
        layer = split.layer.add()
        layer.CopyFrom(wire.layer)
        layer.bottom[:] = [version.next_copy() for version in wire.bottoms]
        split.layer.extend(_splits(wire.tops))
        for index, version in enumerate(wire.tops):
            if version.users > 1 and version.loss_weight:
                # The split carries it now. The original dropped the whole list here: other tops lost their
                # weights, and a loss layer fell back to the weight 1 and reported its loss twice.
                layer.loss_weight[index] = 0
    return split


def _trace(
    param: caffe_pb2.NetParameter, inputs: Iterable[_Version], unfiltered: caffe_pb2.NetParameter
) -> list[_Wires]:
    """Follow every blob from its producer to its users."""
    latest = {version.blob: version for version in inputs}
    wires = []
    for layer in param.layer:
        bottoms = []
        for index, blob in enumerate(layer.bottom):
            if blob not in latest:
                hint = _hint(blob, layer, latest, param, unfiltered)
                fatal(f"Unknown bottom blob '{blob}' (layer '{layer.name}', bottom index {index}){hint}")
            bottoms.append(latest[blob])
            latest[blob].users += 1
        tops = [_Version(blob, layer.name, index) for index, blob in enumerate(layer.top)]
        for version, weight in zip(tops, layer.loss_weight, strict=False):  # the net refuses a wrong number
            version.loss_weight = weight
            version.users += weight != 0
        latest.update((version.blob, version) for version in tops)
        wires.append(_Wires(layer, bottoms, tops))
    return wires


def _splits(versions: Iterable[_Version]) -> Iterator[caffe_pb2.LayerParameter]:
    """The Split layers behind the tops of one layer."""
    for version in versions:
        if version.users < 2:
            continue
        layer = caffe_pb2.LayerParameter(name=version.split, type="Split", bottom=[version.blob])
        layer.top.extend(f"{version.split}_{copy}" for copy in range(version.users))
        if version.loss_weight:
            layer.loss_weight.extend([version.loss_weight] + [0.0] * (version.users - 1))
            version.next_copy()  # copy 0 is the loss itself
        yield layer


def _hint(
    blob: str,
    layer: caffe_pb2.LayerParameter,
    known: Iterable[str],
    param: caffe_pb2.NetParameter,
    unfiltered: caffe_pb2.NetParameter,
) -> str:
    """What may be wrong with a layer whose bottom `blob` nobody has made so far."""
    if blob in layer.top:
        return ": the layer cannot work in place on a blob that no earlier layer makes"
    if later := _producer(param, blob):
        return f": layer '{later}' makes it, but comes later; move it up"
    if left_out := _producer(unfiltered, blob):
        phase = caffe_pb2.Phase.Name(param.state.phase)
        return f": layer '{left_out}' makes it, but its rules leave it out of this {phase} net"
    near = difflib.get_close_matches(blob, known, n=1)
    return f": did you mean '{near[0]}'?" if near else ""


def _producer(param: caffe_pb2.NetParameter, blob: str) -> str | None:
    return next((layer.name for layer in param.layer if blob in layer.top), None)
