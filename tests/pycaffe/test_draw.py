"""caffe.draw: what the graph says, and that every net of the repository can be drawn."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from google.protobuf import text_format

import caffetools.pycaffe as caffe
from caffetools import upgrade
from caffetools.proto import caffe_pb2
from caffetools.pycaffe import draw

MODELS = Path(__file__).parents[2] / "models"
PROTOTXTS = sorted(path for path in MODELS.glob("*/*.prototxt") if "solver" not in path.name)

NET = """
name: "net"
layer { name: "data" type: "Data" top: "x" top: "label" data_param { batch_size: 7 } include { phase: TRAIN } }
layer { name: "data" type: "Data" top: "x" top: "label" data_param { batch_size: 3 } include { phase: TEST } }
layer {
  name: "conv/1" type: "Convolution" bottom: "x" top: "conv" param { lr_mult: 0.5 }
  convolution_param { num_output: 20 kernel_h: 3 kernel_w: 5 stride: 2 }
}
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" exclude { phase: TEST } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 2 pad: 1 pool: AVE } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "pool" bottom: "label" top: "loss" include { stage: "s" } }
"""


def parsed(text=NET):
    return text_format.Parse(text, caffe_pb2.NetParameter())


def layer(text):
    return text_format.Parse(text, caffe_pb2.LayerParameter())


@pytest.fixture
def pydot():
    return pytest.importorskip("pydot")


def names(graph):
    return [node.get_name().strip('"') for node in graph.get_nodes()]


def edges(graph):
    return [
        tuple(text.strip('"') for text in (edge.get_source(), edge.get_destination(), edge.get_label()))
        for edge in graph.get_edges()
    ]


class TestTexts:
    def test_layers(self):
        conv, pool = parsed().layer[2], parsed().layer[4]
        assert draw.get_layer_label(conv, "TB") == "conv/1 (Convolution) kernel size: 3x5 stride: 2 pad: 0"
        assert draw.get_layer_label(pool, "LR") == r"pool\n(AVE Pooling)\nkernel size: 2\nstride: 1\npad: 1"
        assert draw.get_layer_label(conv, "TB", display_lrm=True).endswith("pad: 0 lr mult: 0.5")
        assert draw.get_layer_label(pool, "TB", display_lrm=True).endswith("pad: 1")

    @pytest.mark.parametrize(
        ("text", "label"),
        [
            ('type: "Data" data_param { batch_size: 9 }', "Batch 9"),
            ('type: "Convolution" convolution_param { num_output: 3 }', "3"),
            ('type: "Deconvolution" convolution_param { num_output: 4 }', "4"),
            ('type: "InnerProduct" inner_product_param { num_output: 5 }', "5"),
            ('type: "ReLU"', " "),
        ],
    )
    def test_edges(self, text, label):
        assert draw.get_edge_label(layer(text)) == label

    @pytest.mark.parametrize(
        ("text", "multiplier"),
        [
            ('type: "Convolution"', 1),
            ('type: "InnerProduct" param { lr_mult: 2 } param { lr_mult: 3 }', 2),
            ('type: "ReLU"', 0),
        ],
    )
    def test_multipliers(self, text, multiplier):
        assert draw.get_layer_lr_mult(layer(text)) == multiplier

    def test_ways_to_pool(self):
        assert draw.get_pooling_types_dict() == {0: "MAX", 1: "AVE", 2: "STOCHASTIC"}

    def test_colors(self):
        types = ["Convolution", "Pooling", "InnerProduct", "LRN"]
        assert len({draw.choose_color_by_layertype(name) for name in types}) == 4
        assert draw.choose_color_by_layertype("LRN") == draw.choose_color_by_layertype("Softmax")

    def test_characters_with_a_meaning_in_records(self):
        assert draw.get_layer_label(layer('name: "a|b<c>{d}" type: "T"'), "TB") == r"a\|b\<c\>\{d\} (T)"


class TestGraph:
    def test_edges(self, pydot):
        assert edges(draw.get_pydot_graph(parsed(), "LR", phase=caffe.TEST)) == [
            ("data_Data", "x_blob", "Batch 3"),
            ("data_Data", "label_blob", "Batch 3"),
            ("x_blob", "conv/1_Convolution", " "),
            ("conv/1_Convolution", "conv_blob", "20"),
            ("conv_blob", "pool_Pooling", " "),
            ("pool_Pooling", "pool_blob", " "),
            ("pool_blob", "loss_SoftmaxWithLoss", " "),
            ("label_blob", "loss_SoftmaxWithLoss", " "),
            ("loss_SoftmaxWithLoss", "loss_blob", " "),
        ]

    @pytest.mark.parametrize(
        ("phase", "batches", "relu"),
        [
            (None, ["3", "3", "7", "7"], True),
            (caffe.TRAIN, ["7", "7"], True),
            (caffe.TEST, ["3", "3"], False),
        ],
    )
    def test_phases(self, pydot, phase, batches, relu):
        graph = draw.get_pydot_graph(parsed(), "LR", phase=phase)
        assert sorted(label[6:] for _, _, label in edges(graph) if label.startswith("Batch")) == batches
        assert ("relu_ReLU" in names(graph)) == relu

    def test_without_labels(self, pydot):
        graph = draw.get_pydot_graph(parsed(), "TB", label_edges=False)
        assert {label for _, _, label in edges(graph)} == {" "}
        assert graph.get_rankdir() == "TB"

    @pytest.mark.parametrize("path", PROTOTXTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
    def test_nets_of_the_repository(self, pydot, path):
        net = upgrade.read_net_text(str(path))
        graph = draw.get_pydot_graph(net, "LR", display_lrm=True)
        assert len({name for name in names(graph) if not name.endswith("_blob")}) == len(
            {(layer.name, layer.type) for layer in net.layer}
        )

    def test_there_are_nets(self):
        assert len(PROTOTXTS) >= 20


class TestPictures:
    @pytest.fixture(autouse=True)
    def graphviz(self, pydot):
        if shutil.which("dot") is None:
            pytest.skip("Graphviz is not installed")

    @pytest.mark.parametrize(("ext", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("raw", b"digraph")])
    def test_formats(self, ext, start):
        assert draw.draw_net(parsed(), "LR", ext).startswith(start)

    def test_texts_arrive(self):
        svg = draw.draw_net(parsed(), "LR", "svg", display_lrm=True).decode()
        for text in (
            "conv/1",
            "(Convolution)",
            "kernel size: 3x5",
            "lr mult: 0.5",
            "Batch 7",
            ">20<",
            ">label<",
        ):
            assert text in svg

    @pytest.mark.parametrize(
        ("name", "start"), [("net.svg", b"<?xml"), ("net.png", b"\x89PNG"), ("net", b"\x89PNG")]
    )
    def test_files(self, tmp_path, name, start):
        draw.draw_net_to_file(parsed(), tmp_path / name, "TB", caffe.TRAIN)
        assert (tmp_path / name).read_bytes().startswith(start)

    def test_unknown_format(self):
        with pytest.raises(RuntimeError, match="Graphviz did not write the format nonsense"):
            draw.draw_net(parsed(), "LR", "nonsense")

    def test_without_graphviz(self, monkeypatch):
        monkeypatch.setenv("PATH", "")
        with pytest.raises(RuntimeError, match="its program dot was not found: install Graphviz"):
            draw.draw_net(parsed(), "LR", "png")


def test_without_pydot(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydot", None)
    with pytest.raises(ImportError, match="pip install pydot"):
        draw.get_pydot_graph(parsed(), "LR")
