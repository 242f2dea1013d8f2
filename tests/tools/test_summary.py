"""`caffe summary`: figures worked out by hand, by PyTorch's counter, and from the original's logs."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest
from google.protobuf import text_format

from caffetools import filler
from caffetools.blob import Blob
from caffetools.glog import FatalError
from caffetools.layer import TEST, TRAIN, Context
from caffetools.net import Net
from caffetools.proto import caffe_pb2
from caffetools.tools import summary
from caffetools.tools.summary_table import table
from tests.cli.cli_run import ROOT, run

LENET = ROOT / "models/lenet/lenet_train_test.prototxt"
VGG = ROOT / "models/vgg16/train_val.prototxt"
FLOAT = 4

#: LeNet's parameters, filters x kernel x channels + biases, and multiply-adds, for each pixel of the output.
LENET_LAYERS = {
    "conv1": (20 * 25 + 20, 20 * 25 * 24 * 24),
    "conv2": (50 * 25 * 20 + 50, 50 * 25 * 20 * 8 * 8),
    "ip1": (500 * 800 + 500, 500 * 800),
    "ip2": (10 * 500 + 10, 10 * 500),
}


def lenet(batch=64, phase="TRAIN"):
    return summary.summarize(summary.read(LENET, phase, inputs=f"data:{batch},1,28,28"))


def read(tmp_path, text, phase="TRAIN", **more):
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    return summary.read(str(path), phase, **more)


def rows(net):
    return {row.name: row for row in summary.summarize(net).rows}


def net_input(*shape, name="data"):
    sizes = " ".join(f"dim: {size}" for size in shape)
    return f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {sizes} }} }} }}\n'


@pytest.mark.parametrize("name", LENET_LAYERS)
def test_lenet_layers(name):
    (row,) = [row for row in lenet(64).rows if row.name == name]
    parameters, multiply_adds = LENET_LAYERS[name]
    assert row.parameters == parameters
    assert row.multiply_adds == 64 * multiply_adds
    assert row.weights == 2 * FLOAT * parameters


def test_lenet_totals():
    net = lenet(64)
    assert (net.name, net.phase, net.batch, net.learns) == ("LeNet", TRAIN, 64, True)
    assert net.total("parameters") == 431_080
    assert net.total("multiply_adds") == 64 * 2_293_000
    assert net.total("statistics") == 0
    assert [row.name for row in net.rows if row.in_place] == ["relu1"]
    pools = [(row.kernel, row.stride, row.pad) for row in net.rows if row.type == "Pooling"]
    assert pools == [((2, 2), (2, 2), (0, 0))] * 2


def test_lenet_memory():
    net = lenet(64)
    # The original's log says "Memory required for data: 5169924"; it counts relu1 (64 x 500) too, in place.
    assert net.total("data") == 5_169_924 - 64 * 500 * FLOAT
    # Gradients flow to all tops but the data, the labels and the loss.
    assert net.total("diffs") == net.total("data") - FLOAT * (64 * 784 + 64 + 1)
    assert net.history == 431_080 * FLOAT
    assert net.read_ahead == 4 * FLOAT * (64 * 784 + 64)
    parts = sum(net.total(field) for field in ("data", "diffs", "scratch", "weights"))
    assert net.memory == parts + net.history + net.read_ahead


def test_a_net_that_only_tests_has_no_gradients():
    net = lenet(64, "TEST")
    assert not net.learns
    assert net.total("diffs") == net.history == 0
    assert net.total("weights") == 431_080 * FLOAT
    assert "accuracy" in [row.name for row in net.rows]


def test_shared_parameters_count_once():
    path = ROOT / "models/mnist_siamese/mnist_siamese_train_test.prototxt"
    net = summary.summarize(summary.read(path, inputs="pair_data:8,2,28,28"))
    assert net.total("parameters") == 431_080 + 22
    assert net.total("multiply_adds") == 8 * 2 * (2_293_000 + 20)


def test_statistics_and_copies_of_batch_norm(tmp_path):
    text = (
        net_input(2, 3, 4, 4)
        + """
        layer { name: "conv" type: "Convolution" bottom: "data" top: "x"
                convolution_param { num_output: 5 kernel_size: 1 bias_term: false } }
        layer { name: "bn" type: "BatchNorm" bottom: "x" top: "x" }
        layer { name: "scale" type: "Scale" bottom: "x" top: "x" scale_param { bias_term: true } }
        layer { name: "loss" type: "Reduction" bottom: "x" top: "loss" loss_weight: 1 }"""
    )
    found = rows(read(tmp_path, text))
    assert (found["bn"].parameters, found["bn"].statistics) == (0, 5 + 5 + 1)
    assert (found["scale"].parameters, found["scale"].statistics) == (10, 0)
    # Both work in place and keep what they overwrite, and a few numbers for each channel.
    copy = 2 * 5 * 4 * 4 * FLOAT
    assert found["bn"].scratch - copy in range(200)
    assert found["scale"].scratch - copy in range(200)
    assert found["conv"].scratch == 0


def test_what_copies_of_a_blob_need_counts_with_its_producer(tmp_path):
    text = (
        net_input(4, 10)
        + """
        layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
                inner_product_param { num_output: 6 } }
        layer { name: "a" type: "TanH" bottom: "ip" top: "a" }
        layer { name: "b" type: "TanH" bottom: "ip" top: "b" }
        layer { name: "loss" type: "EuclideanLoss" bottom: "a" bottom: "b" top: "loss" }"""
    )
    net = read(tmp_path, text)
    found = rows(net)
    assert list(found) == ["data", "ip", "a", "b", "loss"]
    assert found["ip"].data == 4 * 6 * FLOAT  # the copies see the same values
    assert found["ip"].diffs == 3 * 4 * 6 * FLOAT  # but each user has a gradient, and their sum one
    assert found["a"].diffs == found["b"].diffs == 4 * 6 * FLOAT


def test_views_of_one_array_count_once():
    array, blob, top = np.zeros(100, np.float32), Blob((3, 5)), Blob((7,))
    layer = SimpleNamespace(
        whole=array, part=array[:50].reshape(5, 10), kept=[blob], blobs=[Blob((9,))], y=top
    )
    assert summary.own_memory(layer, [top]) == (100 + 15) * FLOAT


def test_shared_values_count_once(tmp_path):
    text = net_input(4, 2, 3) + 'layer { name: "flat" type: "Flatten" bottom: "data" top: "flat" }'
    found = rows(read(tmp_path, text))
    assert found["flat"].tops == ((4, 6),)
    assert found["flat"].data == 0


CONVOLUTIONS = [
    ("Convolution", "Conv2d", {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("Convolution", "Conv2d", {"kernel_size": 5, "dilation": 2, "padding": 2}),
    ("Convolution", "Conv2d", {"kernel_size": 3, "groups": 4}),
    ("Convolution", "Conv2d", {"kernel_size": 1, "bias": False}),
    ("Deconvolution", "ConvTranspose2d", {"kernel_size": 4, "stride": 2, "padding": 1}),
    ("Deconvolution", "ConvTranspose2d", {"kernel_size": 4, "stride": 2, "padding": 1, "groups": 4}),
]


@pytest.mark.parametrize(("kind", "torch_kind", "options"), CONVOLUTIONS)
def test_convolutions_against_torch(tmp_path, kind, torch_kind, options):
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    layer = getattr(torch.nn, torch_kind)(8, 12, **options)
    with FlopCounterMode(display=False) as counter:
        output = layer(torch.zeros(3, 8, 13, 13))
    names = {"padding": "pad", "groups": "group", "bias": "bias_term"}
    fields = " ".join(f"{names.get(key, key)}: {str(value).lower()}" for key, value in options.items())
    text = net_input(3, 8, 13, 13) + (
        f'layer {{ name: "conv" type: "{kind}" bottom: "data" top: "conv" '
        f"convolution_param {{ num_output: 12 {fields} }} }}"
    )
    row = rows(read(tmp_path, text))["conv"]
    assert row.tops == (tuple(output.shape),)
    assert row.parameters == sum(parameter.numel() for parameter in layer.parameters())
    assert row.multiply_adds == counter.get_total_flops() // 2
    assert row.kernel == layer.kernel_size
    assert row.stride == layer.stride
    assert row.pad == layer.padding
    assert row.group == layer.groups


@pytest.mark.parametrize(("axis", "transpose"), [(1, False), (2, False), (2, True)])
def test_inner_products(tmp_path, axis, transpose):
    text = net_input(3, 4, 5) + (
        'layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param '
        f"{{ num_output: 7 axis: {axis} transpose: {str(transpose).lower()} }} }}"
    )
    row = rows(read(tmp_path, text))["ip"]
    # Each of the 3 x 4 x 5 values meets the 7 weights of its place.
    assert row.multiply_adds == 3 * 4 * 5 * 7


@pytest.mark.parametrize(
    ("kind", "static", "matrices"),
    [
        ("LSTM", False, 6 * (4 * 7 * 5 + 4 * 7 * 7)),
        ("LSTM", True, 6 * (4 * 7 * 5 + 4 * 7 * 7) + 4 * 7 * 2),
        ("RNN", False, 6 * (7 * 5 + 7 * 7 + 7 * 7)),
        ("RNN", True, 6 * (7 * 5 + 7 * 7 + 7 * 7) + 7 * 2),
    ],
)
def test_recurrent_layers(tmp_path, kind, static, matrices):
    """6 steps of 3 streams with 5 inputs and 7 units; a static input of 2 joins once."""
    text = net_input(6, 3, 5) + net_input(6, 3, name="cont") + net_input(3, 2, name="static")
    bottoms = 'bottom: "data" bottom: "cont"' + (' bottom: "static"' if static else "")
    text += f'layer {{ name: "r" type: "{kind}" {bottoms} top: "r" recurrent_param {{ num_output: 7 }} }}'
    assert rows(read(tmp_path, text))["r"].multiply_adds == 3 * matrices


def test_global_pooling_has_the_plane_as_kernel(tmp_path):
    text = net_input(1, 2, 6, 9) + (
        'layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" '
        "pooling_param { pool: AVE global_pooling: true } }"
    )
    assert rows(read(tmp_path, text))["pool"].kernel == (6, 9)


def test_batch_replaces_that_of_all_inputs():
    net = summary.summarize(summary.read(LENET, inputs="data:64,1,28,28"), 10)
    assert net.batch == 10
    assert net.rows[0].tops == ((10, 1, 28, 28), (10,))
    assert net.total("multiply_adds") == 10 * 2_293_000


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("memory", [20_000_000, 1 << 30])
@pytest.mark.parametrize(("planned", "figure"), [(False, "memory"), (True, "planned_memory")])
def test_largest_batch_fits_and_one_more_does_not(phase, memory, planned, figure):
    net = summary.read(LENET, phase, inputs="data:64,1,28,28")
    batch = summary.largest_batch(net, memory, planned)
    fits, too_large = (getattr(summary.summarize(net, size), figure) for size in (batch, batch + 1))
    assert fits <= memory < too_large


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_shared_memory_is_that_of_a_planned_net(phase):
    definition = summary.read(LENET, phase, inputs="data:16,1,28,28")
    net = Net(definition.net, Context(), plan=True)
    found = summary.summarize(definition)
    assert found.shared == net.memory()["data and diffs"]
    # Where the maxima of pooling lie, and the probabilities behind the loss.
    assert found.kept == 16 * (20 * 12 * 12 + 50 * 4 * 4 + 10) * FLOAT
    apart = found.total("data") + found.total("diffs") + found.kept
    assert found.memory - found.planned_memory == apart - found.shared > 0.2 * apart


def test_largest_batch_where_even_the_weights_do_not_fit():
    assert summary.largest_batch(summary.read(LENET, inputs="data:64,1,28,28"), 1 << 20) == 0


def test_largest_batch_is_limited_by_the_size_of_a_blob():
    net = summary.read(LENET, inputs="data:64,1,28,28")
    assert summary.largest_batch(net, 1 << 50) == (2**31 - 1) // (20 * 24 * 24)


@pytest.mark.parametrize(
    "text",
    [
        'layer { name: "p" type: "Parameter" top: "p" parameter_param { shape { dim: 3 } } }',
        net_input(4, 6) + 'layer { name: "r" type: "Reshape" bottom: "data" top: "r" '
        "reshape_param { shape { dim: 8 dim: 3 } } }",
    ],
    ids=["no input", "fixed batch"],
)
def test_no_largest_batch(tmp_path, text):
    assert summary.largest_batch(read(tmp_path, text), 1 << 30) is None


def test_weights_are_not_filled(monkeypatch):
    monkeypatch.setattr(filler, "fill", lambda *_: pytest.fail("weights of 528 MB were filled"))
    net = summary.summarize(summary.read(VGG))
    assert net.total("parameters") == 138_357_544


def test_levels_and_stages(tmp_path):
    text = net_input(1, 2) + "".join(
        f'layer {{ name: "{name}" type: "ReLU" bottom: "data" top: "{name}" include {{ {rule} }} }}\n'
        for name, rule in (("a", "phase: TEST"), ("b", "min_level: 2"), ("c", 'stage: "x" stage: "y"'))
    )
    assert list(rows(read(tmp_path, text, "TEST"))) == ["data", "a"]
    assert list(rows(read(tmp_path, text, level=2))) == ["data", "b"]
    assert list(rows(read(tmp_path, text, stage="x,y"))) == ["data", "c"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"model": ""}, "Need a model definition"),
        ({"model": "nowhere.prototxt"}, "nowhere.prototxt"),
        ({"phase": "TRIAN"}, 'phase must be "TRAIN" or "TEST"'),
        ({"inputs": "dta:1,1,28,28"}, r"no input 'dta' \(it has data, label\)"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(FatalError, match=words):
        summary.read(**{"model": str(LENET), **arguments})


def test_a_negative_batch():
    with pytest.raises(FatalError, match="negative"):
        summary.summarize(summary.read(LENET, inputs="data:2,1,28,28"), -1)


def test_table():
    lines = table(lenet(64)).splitlines()
    assert lines[0] == "LeNet, phase TRAIN, batch 64"
    cells = {line.split()[0]: line.split() for line in lines if line.strip()}
    assert cells["conv2"][:6] == ["conv2", "Convolution", "64x50x8x8", "5x5", "25,050", "1,600,000"]
    assert cells["relu1"] == ["relu1", "ReLU", "in", "place"]
    assert cells["total"][:3] == ["total", "431,080", "2,293,000"]
    # No layer of LeNet has padding or groups.
    assert "pad" not in cells["layer"]
    assert "groups" not in cells["layer"]
    assert lines[-2].startswith("Memory: ")
    assert lines[-1].startswith("Memory in Python, where all blobs can be seen: ")


def test_table_of_a_net_without_a_name_and_with_scalars():
    layers = 'layer { name: "s" type: "Input" top: "s" input_param { shape { } } }'
    param = text_format.Parse(layers, caffe_pb2.NetParameter())
    param.state.phase = TEST
    assert table(summary.summarize(summary.Definition(param))).startswith("net, phase TEST, batch 0")


def test_command(tmp_path):
    arguments = (f"--model={LENET}", "--input=data:64,1,28,28", "--phase=TEST", f"--log_dir={tmp_path}")
    done = run("caffe", "summary", *arguments, GLOG_logtostderr="0")
    assert done.returncode == 0
    assert done.stderr == ""
    assert "431,080" in done.stdout
    assert "2,293,000" in done.stdout
    assert re.search(r"Largest batch for .* of free memory: [\d,]+ \([\d,]+ in Python\)", done.stdout)


def test_command_without_data():
    done = run("caffe", "summary", f"--model={LENET}", cwd="/")
    assert done.returncode == 134
    assert "--input=data:64,C,H,W" in done.stderr
    assert "Traceback" not in done.stderr
