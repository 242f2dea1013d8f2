"""The net's own `input` fields become an Input layer in front of all others."""

from __future__ import annotations

from caffetools.glog import fatal, note
from caffetools.proto import caffe_pb2
from caffetools.upgrade.passes import Pass, carry_over

#: An `input_dim` list has this many sizes for each input: batch, channels, height, width.
DIMS = 4


def needs_input(net: caffe_pb2.NetParameter) -> bool:
    """Whether the net has `input` fields."""
    return bool(net.input)


def upgrade_input(net: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """Return the net with its inputs as tops of a first layer ``input``.

    `input_shape` comes before `input_dim`. Without either (old weight files) the inputs are dropped. Raises
    FatalError if there are fewer shapes than inputs.
    """
    upgraded = caffe_pb2.NetParameter()
    carry_over(net, upgraded, leave=("input", "input_shape", "input_dim", "layer"))
    if net.input_shape or net.input_dim:
        layer = upgraded.layer.add(name="input", type="Input", top=net.input)
        layer.input_param.shape.extend(_shapes(net))
    else:
        note(f"No shape is given for the net's input '{net.input[0]}': it is dropped.")
    upgraded.layer.extend(net.layer)
    return upgraded


def _shapes(net: caffe_pb2.NetParameter) -> list[caffe_pb2.BlobShape]:
    count = len(net.input)
    if net.input_shape:
        if len(net.input_shape) < count:
            fatal(f"The net has {count} input but {len(net.input_shape)} input_shape; write one for each.")
        return list(net.input_shape[:count])
    if len(net.input_dim) < DIMS * count:
        fatal(
            f"The net has {count} input but {len(net.input_dim)} input_dim; "
            f"write {DIMS} for each input (batch, channels, height, width), or an input_shape."
        )
    return [caffe_pb2.BlobShape(dim=net.input_dim[DIMS * i : DIMS * (i + 1)]) for i in range(count)]


INPUT_PASS = Pass(
    needed=needs_input,
    run=upgrade_input,
    attempt="Attempting to upgrade input file specified using deprecated input fields",
    success="Successfully upgraded file specified using deprecated input fields.",
    outlook="Note that future Caffe releases will only support input layers and not input fields.",
)
