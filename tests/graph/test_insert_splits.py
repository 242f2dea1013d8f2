"""Split layers: names, order, loss weights, versions of blobs; and the recorded net of a training run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.protobuf import text_format

from caffetools.glog import FatalError
from caffetools.graph import filter_net, insert_splits
from caffetools.proto import caffe_pb2

GOLDEN = Path(__file__).parents[1] / "golden" / "formats"


def net_of(*layers: str, head: str = "") -> caffe_pb2.NetParameter:
    """A net of layers in short form: ``name: bottom bottom -> top top=loss_weight``."""
    net = text_format.Parse(head, caffe_pb2.NetParameter())
    for text in layers:
        name, _, wires = text.partition(": ")
        bottoms, _, tops = wires.partition("->")
        layer = net.layer.add(name=name, type="T", bottom=bottoms.split())
        for top in tops.split():
            blob, _, weight = top.partition("=")
            layer.top.append(blob)
            if weight:
                layer.loss_weight.append(float(weight))
    return net


def short(net: caffe_pb2.NetParameter) -> list[str]:
    """The short form of a net's layers."""
    lines = []
    for layer in net.layer:
        weights = [f"={weight:g}" for weight in layer.loss_weight] or [""] * len(layer.top)
        tops = [f"{top}{weight}" for top, weight in zip(layer.top, weights, strict=True)]
        lines.append(f"{layer.name}: {' '.join([*layer.bottom, '->', *tops])}")
    return lines


CASES = {
    "one user, no split": (
        ["d: -> x", "a: x -> y", "b: y -> z"],
        ["d: -> x", "a: x -> y", "b: y -> z"],
    ),
    "two users": (
        ["d: -> x", "a: x -> y", "b: x -> z"],
        [
            "d: -> x",
            "x_d_0_split: x -> x_d_0_split_0 x_d_0_split_1",
            "a: x_d_0_split_0 -> y",
            "b: x_d_0_split_1 -> z",
        ],
    ),
    "second top": (
        ["d: -> x l", "a: x l -> y", "b: l -> z"],
        [
            "d: -> x l",
            "l_d_1_split: l -> l_d_1_split_0 l_d_1_split_1",
            "a: x l_d_1_split_0 -> y",
            "b: l_d_1_split_1 -> z",
        ],
    ),
    "two tops of one layer": (
        ["d: -> x l", "a: x l ->", "b: x l ->"],
        [
            "d: -> x l",
            "x_d_0_split: x -> x_d_0_split_0 x_d_0_split_1",
            "l_d_1_split: l -> l_d_1_split_0 l_d_1_split_1",
            "a: x_d_0_split_0 l_d_1_split_0 ->",
            "b: x_d_0_split_1 l_d_1_split_1 ->",
        ],
    ),
    "twice in one layer": (
        ["d: -> x", "a: x x -> y"],
        ["d: -> x", "x_d_0_split: x -> x_d_0_split_0 x_d_0_split_1", "a: x_d_0_split_0 x_d_0_split_1 -> y"],
    ),
    "in-place makes a new version": (
        ["d: -> x", "r: x -> x", "a: x -> y", "b: x -> z"],
        [
            "d: -> x",
            "r: x -> x",
            "x_r_0_split: x -> x_r_0_split_0 x_r_0_split_1",
            "a: x_r_0_split_0 -> y",
            "b: x_r_0_split_1 -> z",
        ],
    ),
    "a chain of in-place layers": (
        ["d: -> x", "r: x -> x", "s: x -> x", "a: x -> y"],
        ["d: -> x", "r: x -> x", "s: x -> x", "a: x -> y"],
    ),
    "used before it is overwritten": (
        ["d: -> x", "a: x -> y", "r: x -> x", "b: x -> z"],
        [
            "d: -> x",
            "x_d_0_split: x -> x_d_0_split_0 x_d_0_split_1",
            "a: x_d_0_split_0 -> y",
            "r: x_d_0_split_1 -> x",
            "b: x -> z",
        ],
    ),
    "a loss that nobody reads": (
        ["d: -> x", "a: x -> y=2"],
        ["d: -> x", "a: x -> y=2"],
    ),
    "a loss that one layer reads": (
        ["d: -> x", "a: x -> y=2", "b: y -> z"],
        [
            "d: -> x",
            "a: x -> y=0",
            "y_a_0_split: y -> y_a_0_split_0=2 y_a_0_split_1=0",
            "b: y_a_0_split_1 -> z",
        ],
    ),
    "a loss that two layers read": (
        ["d: -> x", "a: x -> y=0.5", "b: y -> z", "c: y -> w"],
        [
            "d: -> x",
            "a: x -> y=0",
            "y_a_0_split: y -> y_a_0_split_0=0.5 y_a_0_split_1=0 y_a_0_split_2=0",
            "b: y_a_0_split_1 -> z",
            "c: y_a_0_split_2 -> w",
        ],
    ),
    "a loss weight 0 is no user": (
        ["d: -> x", "a: x -> y=0", "b: y -> z"],
        ["d: -> x", "a: x -> y=0", "b: y -> z"],
    ),
    "the other top keeps its loss weight": (
        ["d: -> x", "a: x -> y=2 z=3", "b: y -> w"],
        [
            "d: -> x",
            "a: x -> y=0 z=3",
            "y_a_0_split: y -> y_a_0_split_0=2 y_a_0_split_1=0",
            "b: y_a_0_split_1 -> w",
        ],
    ),
    "slashes in names": (
        ["in/d: -> a/x", "p/q: a/x -> y", "r: a/x -> z"],
        [
            "in/d: -> a/x",
            "a/x_in/d_0_split: a/x -> a/x_in/d_0_split_0 a/x_in/d_0_split_1",
            "p/q: a/x_in/d_0_split_0 -> y",
            "r: a/x_in/d_0_split_1 -> z",
        ],
    ),
}


@pytest.mark.parametrize(("before", "after"), CASES.values(), ids=CASES)
def test_splits(before, after):
    assert short(insert_splits(net_of(*before))) == after


def test_net_inputs_are_split_in_front_under_the_name_of_an_input_layer():
    net = net_of("a: x l -> y", "b: l -> z", head='input: "x" input: "l"')
    assert short(insert_splits(net)) == [
        "l_input_1_split: l -> l_input_1_split_0 l_input_1_split_1",
        "a: x l_input_1_split_0 -> y",
        "b: l_input_1_split_1 -> z",
    ]


def test_split_layers_have_the_type_split():
    assert [layer.type for layer in insert_splits(net_of("d: -> x", "a: x x ->")).layer] == [
        "T",
        "Split",
        "T",
    ]


def test_all_else_is_kept_and_the_argument_too():
    net = net_of("d: -> x", "a: x -> y", "b: x -> z=1", head='name: "n" state { phase: TRAIN stage: "s" }')
    net.layer[1].convolution_param.num_output = 7
    before = net.SerializeToString(deterministic=True)
    split = insert_splits(net)
    assert net.SerializeToString(deterministic=True) == before
    assert (split.name, split.state) == (net.name, net.state)
    assert split.layer[2].convolution_param == net.layer[1].convolution_param


UNKNOWN = {
    "nothing like it": (
        ["x: nowhere -> y"],
        "Unknown bottom blob 'nowhere' (layer 'x', bottom index 0)",
    ),
    "misspelt": (
        ["d: -> data label", "a: data lable -> y"],
        "Unknown bottom blob 'lable' (layer 'a', bottom index 1): did you mean 'label'?",
    ),
    "made later": (
        ["d: -> x", "a: y -> z", "b: x -> y"],
        "Unknown bottom blob 'y' (layer 'a', bottom index 0): "
        "layer 'b' makes it, but comes later; move it up",
    ),
    "in place on nothing": (
        ["d: -> x", "r: y -> y"],
        "Unknown bottom blob 'y' (layer 'r', bottom index 0): "
        "the layer cannot work in place on a blob that no earlier layer makes",
    ),
}


@pytest.mark.parametrize(("layers", "message"), UNKNOWN.values(), ids=UNKNOWN)
def test_unknown_bottom(layers, message):
    with pytest.raises(FatalError) as caught:
        insert_splits(net_of(*layers))
    assert str(caught.value) == message


def test_unknown_bottom_whose_producer_was_filtered_out():
    net = net_of("d: -> x", "a: x -> y", head="state { phase: TEST }")
    net.layer[0].include.add(phase=caffe_pb2.TRAIN)
    with pytest.raises(FatalError) as caught:
        insert_splits(filter_net(net), net)
    assert str(caught.value) == (
        "Unknown bottom blob 'x' (layer 'a', bottom index 0): "
        "layer 'd' makes it, but its rules leave it out of this TEST net"
    )


def test_unknown_bottom_as_recorded():
    recorded = (GOLDEN / "log_bad_bottom.txt").read_text()
    text = re.search(r"^F.*?\] (.*)$", recorded, re.MULTILINE).group(1)
    net = text_format.Parse((GOLDEN / "bad_bottom.prototxt").read_text(), caffe_pb2.NetParameter())
    with pytest.raises(FatalError) as caught:
        insert_splits(net)
    assert str(caught.value) == text


def recorded_nets() -> list[str]:
    """The part of the log of each net that the recorded run made: one to train, one to test."""
    log = (GOLDEN / "log_train.txt").read_text()
    return re.findall(
        r"(?:Creating training|Creating test) net(.*?)Network initialization done", log, re.DOTALL
    )


@pytest.mark.parametrize(("index", "phase"), [(0, "TRAIN"), (1, "TEST")])
def test_as_recorded(index, phase, log):
    recorded = recorded_nets()[index]
    net = text_format.Parse((GOLDEN / "train_test.prototxt").read_text(), caffe_pb2.NetParameter())
    net.state.phase = caffe_pb2.Phase.Value(phase)
    split = insert_splits(filter_net(net))
    assert log() == re.findall(r"\] (The NetState .*)", recorded)
    assert [layer.name for layer in split.layer] == re.findall(r"\] Creating Layer (.*)", recorded)
    bottoms = [f"{layer.name} <- {bottom}" for layer in split.layer for bottom in layer.bottom]
    assert bottoms == re.findall(r"\] (\S+ <- .*)", recorded)
    tops = [f"{layer.name} -> {top}" for layer in split.layer for top in layer.top]
    assert tops == re.findall(r"\] (\S+ -> \S+)", recorded)
