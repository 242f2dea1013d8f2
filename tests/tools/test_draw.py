"""`caffe draw`: what the graph says of a net, and the files."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image

from caffetools import upgrade
from caffetools.glog import FatalError
from caffetools.layer import TEST, TRAIN
from caffetools.pictures import graph_dot
from caffetools.proto import caffe_pb2
from caffetools.tools.draw import draw, known_shapes
from caffetools.tools.net_graph import describe, net_graph
from tests.cli.cli_run import ROOT, run

LENET = ROOT / "models/lenet/lenet_train_test.prototxt"
DEPLOY = ROOT / "models/lenet/lenet.prototxt"
GOOGLENET = ROOT / "models/googlenet/train_val.prototxt"
SVG = "{http://www.w3.org/2000/svg}"
needs_graphviz = pytest.mark.skipif(not graph_dot.program(), reason="needs Graphviz")


def graph_of(path, phase=None, shapes=None):
    return net_graph(upgrade.read_net_text(str(path)), phase, shapes or {})


def readers(graph):
    return {
        (graph.boxes[wire.source].name, wire.blob): [graph.boxes[target].name for target in wire.targets]
        for wire in graph.wires
    }


def layer(text):
    return text_format.Parse(text, caffe_pb2.LayerParameter())


def net(tmp_path, text):
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    return path


def test_lenet():
    graph = graph_of(LENET, TRAIN)
    assert readers(graph) == {
        ("mnist", "data"): ["conv1"],
        ("mnist", "label"): ["loss"],
        ("conv1", "conv1"): ["pool1"],
        ("pool1", "pool1"): ["conv2"],
        ("conv2", "conv2"): ["pool2"],
        ("pool2", "pool2"): ["ip1"],
        ("ip1", "ip1"): ["ip2"],
        ("ip2", "ip2"): ["loss"],
        ("loss", "loss"): ["loss"],
    }
    (ip1,) = [box for box in graph.boxes if box.name == "ip1"]
    assert ip1.stacked == [("relu1", ["ReLU"])]
    assert graph.boxes[-1].kind == "blob"


def test_both_phases_in_one_graph():
    graph = graph_of(LENET)
    data = [box.lines for box in graph.boxes if box.name == "mnist"]
    assert data == [["Data", "batch 64", "TRAIN only"], ["Data", "batch 100", "TEST only"]]
    targets = {(wire.source, wire.blob): wire.targets for wire in graph.wires}
    names = [box.name for box in graph.boxes]
    loss, accuracy = names.index("loss"), names.index("accuracy")
    assert targets[0, "label"] == [loss]
    assert sorted(targets[1, "label"]) == sorted([loss, accuracy])


STAGES = """
layer { name: "a" type: "Input" top: "x" include { stage: "deploy" } input_param { shape { dim: 1 dim: 2 } } }
layer { name: "b" type: "DummyData" top: "x" include { phase: TRAIN } }
layer { name: "c" type: "DummyData" top: "x" include { phase: TEST stage: "val" not_stage: "fast" } }
layer { name: "power" type: "Power" bottom: "x" top: "y" }
layer { name: "drop" type: "Dropout" bottom: "y" top: "y" exclude { stage: "deploy" } exclude { min_level: 2 } }
layer { name: "end" type: "Power" bottom: "y" top: "z" }
"""


def test_all_stages_in_one_graph(tmp_path):
    graph = graph_of(net(tmp_path, STAGES))
    assert readers(graph) == {
        ("a", "x"): ["power"],
        ("b", "x"): ["power"],
        ("c", "x"): ["power"],
        ("power", "y"): ["end"],
        ("end", "z"): ["z"],
    }
    rules = [box.lines[-1] for box in graph.boxes if box.name in ("a", "b", "c")]
    assert rules == ["deploy only", "TRAIN only", "TEST val not fast only"]
    (power,) = [box for box in graph.boxes if box.name == "power"]
    assert power.stacked == [("drop", ["Dropout", "ratio 0.5", "not deploy or from level 2"])]


def test_one_state(tmp_path):
    path = draw(net(tmp_path, STAGES), tmp_path / "x.svg", "TB", "TEST", engine="own", stage="val")
    texts = {element.text for element in ElementTree.parse(path).iter(f"{SVG}text")}
    assert {"c", "power", "drop"} <= texts and not {"a", "b"} & texts


def test_shapes_of_each_phase():
    param = upgrade.read_net_text(str(GOOGLENET))
    shapes = known_shapes(param, None)
    assert shapes[TRAIN, "inception_3a/output"] == (32, 256, 28, 28)
    assert shapes[TEST, "pool5/7x7_s1"] == (50, 1024, 1, 1)


def test_a_layer_in_place_whose_blob_was_read_before_stands_alone(tmp_path):
    path = net(
        tmp_path,
        """layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }
        layer { name: "early" type: "Power" bottom: "x" top: "y" }
        layer { name: "relu" type: "ReLU" bottom: "x" top: "x" }
        layer { name: "late" type: "Power" bottom: "x" top: "z" }""",
    )
    graph = graph_of(path, TEST)
    assert readers(graph)["in", "x"] == ["early", "relu"]
    assert readers(graph)["relu", "x"] == ["late"]


def test_an_unknown_bottom(tmp_path):
    path = net(tmp_path, 'layer { name: "p" type: "Power" bottom: "x" top: "y" }')
    with pytest.raises(FatalError, match=r"Unknown bottom blob 'x' \(layer 'p', bottom index 0\)"):
        draw(path, tmp_path / "x.svg")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('type: "ReLU"', ["ReLU"]),
        (
            'type: "Convolution" convolution_param { num_output: 9 kernel_h: 3 kernel_w: 5 pad: 1 stride: 2 group: 3 }',
            ["Convolution", "kernel 3×5, stride 2, pad 1", "9 outputs, 3 groups"],
        ),
        (
            'type: "Convolution" convolution_param { num_output: 9 kernel_size: 3 dilation: 2 }',
            ["Convolution", "kernel 3, stride 1, pad 0, dilation 2", "9 outputs"],
        ),
        ('type: "Pooling" pooling_param { pool: AVE global_pooling: true }', ["Pooling", "AVE, global"]),
        (
            'type: "Pooling" pooling_param { kernel_size: 3 stride_h: 2 stride_w: 1 }',
            ["Pooling", "MAX, kernel 3, stride 2×1, pad 0"],
        ),
        ('type: "Eltwise" eltwise_param { operation: MAX }', ["Eltwise", "MAX"]),
    ],
)
def test_settings(text, lines):
    assert describe(layer(text)) == lines


def test_multipliers_of_the_learning_rate():
    text = 'type: "InnerProduct" inner_product_param { num_output: 7 } param { lr_mult: 1 }'
    text += " param { lr_mult: 2 decay_mult: 0 }"
    assert describe(layer(text), learning_rates=True) == [
        "InnerProduct",
        "7 outputs",
        "lr × 1, 2; decay × 1, 0",
    ]


@pytest.mark.parametrize("model", [LENET, DEPLOY, GOOGLENET, ROOT / "models/resnet50/train_val.prototxt"])
@pytest.mark.parametrize("rankdir", ["TB", "LR"])
def test_svg_names_every_layer(model, rankdir, tmp_path):
    path = draw(model, tmp_path / "net.svg", rankdir, engine="own")
    texts = {element.text for element in ElementTree.parse(path).iter(f"{SVG}text")}
    assert {layer.name for layer in upgrade.read_net_text(str(model)).layer} <= texts


def test_svg_escapes_names(tmp_path):
    path = net(
        tmp_path,
        """layer { name: "a<b&\\"c\\"" type: "DummyData" top: "x>y" dummy_data_param { shape { dim: 2 } } }""",
    )
    root = ElementTree.parse(draw(path, tmp_path / "net.svg", engine="own")).getroot()
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert texts == ['a<b&"c"', "DummyData", "x>y", "2"]


@needs_graphviz
def test_graphviz_draws_the_same_boxes(tmp_path):
    path = draw(LENET, tmp_path / "net.svg", engine="graphviz")
    texts = {element.text.strip() for element in ElementTree.parse(path).iter(f"{SVG}text")}
    assert {"mnist", "conv1", "relu1", "loss", "20 outputs", "accuracy"} <= texts


@pytest.mark.parametrize("engine", ["own", pytest.param("graphviz", marks=needs_graphviz)])
def test_png(engine, tmp_path):
    pytest.importorskip("matplotlib")
    path = draw(DEPLOY, tmp_path / "net.png", engine=engine)
    pixels = np.asarray(Image.open(path).convert("RGB"))
    height, width, _ = pixels.shape
    assert height > 1000 and height > width > 200
    fill = [int(color, 16) for color in ("cf", "e5", "f7")]
    assert (pixels == fill).all(axis=2).mean() > 0.03  # the learnt layers' boxes


def test_command(tmp_path):
    result = run("caffe", "draw", "--rankdir=LR", str(DEPLOY), "out.svg", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, "Saved out.svg\n"), result.stderr
    assert ElementTree.parse(tmp_path / "out.svg").getroot().tag == f"{SVG}svg"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"output": "x.gif"}, "ends in .png or .svg"),
        ({"output": "nowhere/x.svg"}, "no folder nowhere"),
        ({"rankdir": "UP"}, "--rankdir=UP: it is one of TB, BT, LR, RL"),
        ({"phase": "VAL"}, "--phase=VAL"),
        ({"inputs": "dta:1"}, "no input 'dta'"),
    ],
)
def test_refused(options, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FatalError, match=words):
        draw(DEPLOY, **{"output": "x.svg", **options})


def test_without_graphviz_and_matplotlib(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    draw(DEPLOY, tmp_path / "net.svg")
    with pytest.raises(FatalError, match="pip install 'caffetools\\[plot\\]'"):
        draw(DEPLOY, tmp_path / "net.png")
    with pytest.raises(FatalError, match="install Graphviz"):
        draw(DEPLOY, tmp_path / "net.svg", engine="graphviz")
