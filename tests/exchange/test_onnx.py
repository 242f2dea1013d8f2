"""ONNX models against onnxruntime: every layer type that can be exported, and how sizes are left open."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from caffetools.formats import prototxt
from caffetools.glog import FatalError
from caffetools.layer import TEST, Context
from caffetools.net import Net
from caffetools.proto import caffe_pb2
from caffetools.tools import export

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

PAGE = (Path(__file__).parents[2] / "docs" / "exchange.md").read_text(encoding="utf-8")

IMAGE = "4,3,7,9"
GAUSS = 'weight_filler { type: "gaussian" std: 0.5 } bias_filler { type: "gaussian" std: 0.5 }'
ONES = 'filler { type: "gaussian" std: 1 }'


def sequence(kind: str, expose: bool = False, static: bool = False) -> tuple[str, str, list[str]]:
    """A recurrent layer over 3 steps of 4 streams."""
    states = {"LSTM": ["h", "c"], "RNN": ["h"]}[kind] if expose else []
    inputs = ["x: 3,4,5", "cont: 3,4", *(["static: 4,6"] if static else []), *(f"{s}0: 1,4,2" for s in states)]
    tops = "".join(f' top: "{s}T"' for s in states)
    body = f"recurrent_param {{ num_output: 2 {GAUSS} expose_hidden: {str(expose).lower()} }}"
    return kind, tops + body, inputs


def detection(settings: str, sets: int = 1) -> tuple[str, str, list[str]]:
    """A DetectionOutput of 20 priors and 3 classes, with a box for all of them or one for each."""
    text = f"detection_output_param {{ num_classes: 3 {settings} }}"
    return "DetectionOutput", text, [f"loc: 4,{20 * sets * 4}", "conf: 4,60", "prior: 1,2,80"]


#: (type, settings and further tops, inputs as "name: sizes"); the input's first size is the batch.
CASES: list[tuple[str, str, list[str]]] = [
    ("AbsVal", "", [f"x: {IMAGE}"]),
    ("Accuracy", "", ["x: 4,5", "label: 4"]),
    ("Accuracy", "accuracy_param { top_k: 2 ignore_label: 1 }", ["x: 4,5,3,2", "label: 4,3,2"]),
    ("ArgMax", "", ["x: 4,5"]),
    ("ArgMax", "argmax_param { top_k: 3 out_max_val: true }", ["x: 4,5,2,2"]),
    ("ArgMax", "argmax_param { top_k: 2 axis: 1 }", [f"x: {IMAGE}"]),
    ("ArgMax", "argmax_param { axis: -1 out_max_val: true }", [f"x: {IMAGE}"]),
    ("BNLL", "", [f"x: {IMAGE}"]),
    ("BatchNorm", "", [f"x: {IMAGE}"]),
    ("BatchNorm", "batch_norm_param { use_global_stats: false eps: 0.01 }", [f"x: {IMAGE}"]),
    ("BatchReindex", "", ["x: 4,3,2", "index: 4"]),
    ("Bias", f"bias_param {{ {ONES} }}", [f"x: {IMAGE}"]),
    ("Bias", "bias_param { axis: 0 }", [f"x: {IMAGE}", "b: 4,3"]),
    ("Clip", "clip_param { min: -0.5 max: 0.25 }", [f"x: {IMAGE}"]),
    ("Concat", "concat_param { axis: 1 }", [f"x: {IMAGE}", "y: 4,2,7,9"]),
    ("Concat", "concat_param { axis: 0 }", [f"x: {IMAGE}", f"y: {IMAGE}"]),
    ("ContrastiveLoss", "", ["a: 4,3", "b: 4,3", "similar: 4"]),
    ("ContrastiveLoss", "contrastive_loss_param { legacy_version: true margin: 2 }",
     ["a: 4,3", "b: 4,3", "similar: 4"]),
    ("Convolution", f"convolution_param {{ num_output: 4 kernel_size: 3 pad: 1 stride: 2 {GAUSS} }}", [f"x: {IMAGE}"]),
    ("Convolution", f"convolution_param {{ num_output: 6 kernel_h: 2 kernel_w: 3 dilation: 2 group: 3 {GAUSS} }}",
     [f"x: {IMAGE}"]),
    ("Convolution", f"convolution_param {{ num_output: 2 kernel_size: 3 bias_term: false axis: 2 {GAUSS} }}",
     ["x: 4,2,3,6,5"]),
    ("Convolution", f"convolution_param {{ num_output: 2 kernel_size: 2 {GAUSS} }}", ["x: 4,3,4,3,5"]),
    ("Crop", "crop_param { axis: 2 offset: 1 offset: 2 }", [f"x: {IMAGE}", "like: 4,1,5,6"]),
    ("Deconvolution", f"convolution_param {{ num_output: 4 kernel_size: 3 stride: 2 pad: 1 {GAUSS} }}",
     [f"x: {IMAGE}"]),
    ("Deconvolution",
     f"convolution_param {{ num_output: 6 group: 3 kernel_size: 2 dilation: 2 bias_term: false {GAUSS} }}",
     [f"x: {IMAGE}"]),
    ("Dropout", "", [f"x: {IMAGE}"]),
    ("ELU", "elu_param { alpha: 0.7 }", [f"x: {IMAGE}"]),
    ("Eltwise", "", [f"x: {IMAGE}", f"y: {IMAGE}"]),
    ("Eltwise", "eltwise_param { coeff: 0.5 coeff: -2 coeff: 1 }", ["x: 4,3", "y: 4,3", "z: 4,3"]),
    ("Eltwise", "eltwise_param { operation: PROD }", ["x: 4,3", "y: 4,3"]),
    ("Eltwise", "eltwise_param { operation: MAX }", ["x: 4,3", "y: 4,3", "z: 4,3"]),
    ("Embed", f"embed_param {{ input_dim: 5 num_output: 3 {GAUSS} }}", ["index: 4,2"]),
    ("EuclideanLoss", "", ["a: 4,3,2", "b: 4,3,2"]),
    ("Exp", "exp_param { base: 2 scale: 0.5 shift: 1 }", [f"x: {IMAGE}"]),
    ("Filter", "", ["x: 4,3,2", "selector: 4"]),
    ("Flatten", "", [f"x: {IMAGE}"]),
    ("Flatten", "flatten_param { axis: 0 end_axis: 1 }", [f"x: {IMAGE}"]),
    ("HingeLoss", "", ["x: 4,5", "label: 4"]),
    ("HingeLoss", "hinge_loss_param { norm: L2 }", ["x: 4,5", "label: 4"]),
    ("Im2col", "convolution_param { kernel_size: 3 stride: 2 pad: 1 }", [f"x: {IMAGE}"]),
    ("InfogainLoss", "", ["x: 4,5,2", "label: 4,2", "h: 1,1,5,5"]),
    ("InnerProduct", f"inner_product_param {{ num_output: 6 {GAUSS} }}", [f"x: {IMAGE}"]),
    ("InnerProduct", f"inner_product_param {{ num_output: 6 axis: 2 transpose: true {GAUSS} }}", ["x: 4,3,2,5"]),
    ("InnerProduct", f"inner_product_param {{ num_output: 2 axis: -1 bias_term: false {GAUSS} }}", ["x: 4,3,5"]),
    ("LRN", "lrn_param { local_size: 3 alpha: 0.5 beta: 0.6 k: 2 }", ["x: 4,6,3,3"]),
    ("LRN", "lrn_param { local_size: 3 alpha: 0.5 norm_region: WITHIN_CHANNEL }", [f"x: {IMAGE}"]),
    ("LSTMUnit", 'top: "h"', ["c: 1,4,2", "z: 1,4,8", "cont: 1,4"]),
    sequence("LSTM"), sequence("LSTM", static=True), sequence("LSTM", expose=True), sequence("RNN"),
    sequence("RNN", expose=True, static=True),
    ("Log", "log_param { base: 10 scale: 0.1 shift: 4 }", [f"x: {IMAGE}"]),
    ("MVN", "", [f"x: {IMAGE}"]),
    ("MVN", "mvn_param { across_channels: true normalize_variance: false }", [f"x: {IMAGE}"]),
    ("MultinomialLogisticLoss", "", ["p: 4,5", "label: 4"]),
    ("PReLU", f"prelu_param {{ {ONES} }}", [f"x: {IMAGE}"]),
    ("PReLU", f"prelu_param {{ channel_shared: true {ONES} }}", ["x: 4,3"]),
    ("Pooling", "pooling_param { kernel_size: 3 stride: 2 }", [f"x: {IMAGE}"]),
    ("Pooling", "pooling_param { kernel_size: 3 stride: 2 pad: 1 }", ["x: 4,3,8,8"]),
    ("Pooling", "pooling_param { kernel_size: 2 stride: 4 }", ["x: 4,3,9,13"]),
    ("Pooling", "pooling_param { kernel_size: 3 stride: 2 round_mode: FLOOR }", ["x: 4,3,8,8"]),
    ("Pooling", 'top: "mask" pooling_param { kernel_size: 3 stride: 2 }', [f"x: {IMAGE}"]),
    ("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }", ["x: 4,3,8,8"]),
    ("Pooling", "pooling_param { pool: AVE kernel_h: 2 kernel_w: 5 stride: 3 }", [f"x: {IMAGE}"]),
    ("Pooling", "pooling_param { pool: AVE global_pooling: true }", [f"x: {IMAGE}"]),
    ("Pooling", "pooling_param { global_pooling: true }", [f"x: {IMAGE}"]),
    ("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 3 stride: 2 }", [f"x: {IMAGE}"]),
    ("Power", "power_param { power: 2 scale: 0.5 shift: 1 }", [f"x: {IMAGE}"]),
    ("Power", "", [f"x: {IMAGE}"]),
    ("RNN", f"recurrent_param {{ num_output: 2 {GAUSS} }}", ["x: 1,4,5", "cont: 1,4"]),
    ("ReLU", "", [f"x: {IMAGE}"]),
    ("ReLU", "relu_param { negative_slope: 0.1 }", [f"x: {IMAGE}"]),
    *[("Reduction", f"reduction_param {{ operation: {kind} axis: 1 coeff: 0.5 }}", [f"x: {IMAGE}"])
      for kind in ("SUM", "ASUM", "SUMSQ", "MEAN")],
    ("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 9 } }", [f"x: {IMAGE}"]),
    ("Reshape", "reshape_param { shape { dim: -1 dim: 3 } }", ["x: 4,3,2"]),
    ("SPP", "spp_param { pyramid_height: 3 }", ["x: 4,3,9,8"]),
    ("SPP", "spp_param { pyramid_height: 2 pool: AVE }", ["x: 4,3,9,8"]),
    ("Scale", f"scale_param {{ {ONES} bias_term: true bias_filler {{ type: \"gaussian\" std: 1 }} }}", [f"x: {IMAGE}"]),
    ("Scale", "scale_param { axis: 0 }", [f"x: {IMAGE}", "s: 4,3"]),
    ("Scale", f"scale_param {{ axis: 2 num_axes: 2 {ONES} }}", [f"x: {IMAGE}"]),
    ("Sigmoid", "", [f"x: {IMAGE}"]),
    ("SigmoidCrossEntropyLoss", "", ["x: 4,3,2", "t: 4,3,2"]),
    ("SigmoidCrossEntropyLoss", "loss_param { normalization: VALID ignore_label: 1 }", ["x: 4,6", "label: 4,6"]),
    ("Slice", 'top: "second" slice_param { axis: 1 slice_point: 1 }', [f"x: {IMAGE}"]),
    ("Slice", 'top: "second" slice_param { axis: 0 }', [f"x: {IMAGE}"]),
    ("Softmax", "", [f"x: {IMAGE}"]),
    ("Softmax", "softmax_param { axis: 2 }", [f"x: {IMAGE}"]),
    ("SoftmaxWithLoss", "", ["x: 4,5", "label: 4"]),
    ("SoftmaxWithLoss", 'top: "p" loss_param { ignore_label: 2 normalization: VALID }', ["x: 4,5,2,3", "label: 4,2,3"]),
    ("SoftmaxWithLoss", "softmax_param { axis: 2 } loss_param { normalization: FULL }", ["x: 4,3,5", "label: 4,3"]),
    ("SoftmaxWithLoss", "loss_param { normalize: false }", ["x: 4,5,2", "label: 4,2"]),
    ("SoftmaxWithLoss", "loss_param { label_smoothing: 0.1 class_weighting: [1, 2, 0.5] }",
     ["x: 4,3,2", "labels: 4,2"]),
    ("Axpy", "", ["a: 4,3", f"x: {IMAGE}", f"y: {IMAGE}"]),
    ("BN", 'bn_param { slope_filler { type: "uniform" } bias_filler { type: "gaussian" } }', [f"x: {IMAGE}"]),
    ("BN", 'bn_param { scale_filler { type: "uniform" } bn_mode: LEARN }', [f"x: {IMAGE}"]),
    ("BN", 'bn_param { shift_filler { type: "gaussian" } bn_mode: INFERENCE }', [f"x: {IMAGE}"]),
    ("BatchNorm", f"batch_norm_param {{ scale_bias: true scale_{ONES} bias_{ONES} }}", [f"x: {IMAGE}"]),
    ("ConvolutionDepthwise", f"convolution_param {{ num_output: 3 kernel_size: 3 {GAUSS} }}", [f"x: {IMAGE}"]),
    ("DepthwiseConvolution", f"convolution_param {{ num_output: 6 group: 3 kernel_size: 3 {GAUSS} }}",
     [f"x: {IMAGE}"]),
    detection("nms_param { nms_threshold: 0.2 }"),
    detection("code_type: CENTER_SIZE nms_param { nms_threshold: 0.45 top_k: 9 } keep_top_k: 5"),
    detection("code_type: CENTER_SIZE variance_encoded_in_target: true confidence_threshold: 0.3 keep_top_k: 200"),
    detection("code_type: CORNER_SIZE background_label_id: 2 nms_param { nms_threshold: 2 top_k: 400 }"),
    detection("share_location: false background_label_id: -1 nms_param { eta: 0.5 } keep_top_k: 7", sets=3),
    detection("share_location: false code_type: CENTER_SIZE confidence_threshold: 0.5", sets=3),
    detection("confidence_threshold: 1"),  # nothing is found
    ("Interp", "interp_param { height: 9 width: 12 }", [f"x: {IMAGE}"]),
    ("Interp", "interp_param { zoom_factor: 3 pad_beg: -1 pad_end: -2 }", [f"x: {IMAGE}"]),
    ("Normalize", 'norm_param { scale_filler { value: 20 } }', [f"x: {IMAGE}"]),
    ("Normalize", 'norm_param { across_spatial: false channel_shared: false eps: 0.1 }', [f"x: {IMAGE}"]),
    ("Permute", "permute_param { order: 0 order: 2 order: 3 order: 1 }", [f"x: {IMAGE}"]),
    ("PriorBox", "prior_box_param { min_size: 3 aspect_ratio: 2 }", ["x: 4,3,2,2", "picture: 4,3,9,9"]),
    ("ROIPooling", "roi_pooling_param { pooled_h: 2 pooled_w: 3 spatial_scale: 0.5 }", [f"x: {IMAGE}", "regions: 6,5"]),
    ("ReLU6", "", [f"x: {IMAGE}"]),
    ("ShuffleChannel", "shuffle_channel_param { group: 3 }", ["x: 4,6,3,2"]),
    ("SmoothL1Loss", "smooth_l1_loss_param { sigma: 2 }", ["a: 4,3", "b: 4,3"]),
    ("SmoothL1Loss", "", ["a: 4,3", "b: 4,3", "inside: 4,3", "outside: 4,3"]),
    ("Upsample", "upsample_param { scale: 2 }", [f"x: {IMAGE}"]),
    ("Upsample", "", ["x: 4,3,2,3", "index_in_plane: 4,3,2,3"]),
    ("Swish", "swish_param { beta: 1.5 }", [f"x: {IMAGE}"]),
    ("TanH", "", [f"x: {IMAGE}"]),
    ("Threshold", "threshold_param { threshold: 0.3 }", [f"x: {IMAGE}"]),
    ("Tile", "tile_param { axis: 2 tiles: 3 }", ["x: 4,3,2"]),
]  # fmt: skip

#: Inputs that hold integers, and how many values they have.
INTEGERS = {"label": 5, "labels": 3, "index": 4, "similar": 2, "selector": 2, "cont": 2}
POSITIVE = ("p", "h", "t")


def net_text(kind: str, settings: str, inputs: list[str]) -> str:
    """A net of one layer between inputs of the sizes given."""
    text = ""
    for line in inputs:
        name, sizes = line.split(": ")
        dims = " ".join(f"dim: {size}" for size in sizes.split(","))
        text += f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'
    bottoms = " ".join(f'bottom: "{line.split(": ")[0]}"' for line in inputs)
    return text + f'layer {{ name: "it" type: "{kind}" {bottoms} top: "out" {settings} }}\n'


def numbers(name: str, shape: tuple[int, ...], random) -> np.ndarray:
    if name in INTEGERS:
        values = random.integers(0, INTEGERS[name], shape)
        if name == "selector":
            values.flat[0] = 1
    elif name == "index_in_plane":  # each place once
        planes = [random.permutation(4 * size)[:size] for size in [int(np.prod(shape[2:]))] * (shape[0] * shape[1])]
        values = np.reshape(planes, shape)
    elif name == "regions":
        low = random.integers(0, 6, (shape[0], 2))
        item, size = random.integers(0, 4, (shape[0], 1)), random.integers(1, 9, low.shape)
        values = np.concatenate([item, low, low + size], axis=1)
    elif name == "conf":  # with many equal ones
        values = random.integers(0, 9, shape) / 8
    elif name == "prior":
        low = random.uniform(0, 0.6, (shape[-1] // 4, 2))
        boxes = np.concatenate([low, low + random.uniform(0.1, 0.4, low.shape)], axis=1)
        values = np.stack([boxes, np.full(boxes.shape, 0.2)]).reshape(shape)
    elif name in POSITIVE:
        values = random.uniform(0.05, 1, shape)
    else:
        values = random.normal(size=shape)
    return values.astype(np.float32)


def enliven(net: Net, random) -> None:
    """Give BatchNorm layers statistics as if they had been trained."""
    for layer in net.layers:
        if layer.type == "BatchNorm":
            mean, variance, factor = layer.blobs[:3]
            factor.data[...] = 2
            mean.data[...] = random.normal(scale=0.2, size=mean.shape)
            variance.data[...] = random.uniform(1, 3, variance.shape)


def exported(net: Net, folder: Path, text: str, batch: int = 0) -> Path:
    """Write a net of a prototxt with its weights and export it."""
    model, weights, output = folder / "net.prototxt", folder / "net.caffemodel", folder / "net.onnx"
    model.write_text(text)
    weights.write_bytes(net.to_proto().SerializeToString())
    export.export(str(model), str(weights), str(output), batch=batch)
    return output


def compare(net: Net, path: Path, random, twice: bool = False, tolerance: float = 1e-4) -> None:
    """Run both on the same random inputs; twice: with another batch than the net was exported with."""
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == net.inputs
    assert [value.name for value in session.get_outputs()] == net.outputs
    if twice:
        described = {value.name: value.shape for value in session.get_inputs()}
        for name in net.inputs:
            sizes = zip(net.blobs[name].shape, described[name], strict=True)
            net.blobs[name].reshape([2 * size if isinstance(known, str) else size for size, known in sizes])
    feed = {}
    for name in net.inputs:
        blob = net.blobs[name]
        feed[name] = blob.data[...] = numbers(name, blob.shape, random)
    net.forward()
    for name, value in zip(net.outputs, session.run(net.outputs, feed), strict=True):
        expected = net.blobs[name].data
        assert value.shape == expected.shape, name
        scale = max(1.0, np.abs(expected).max()) if expected.size else 1.0
        np.testing.assert_allclose(value / scale, expected / scale, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize(("kind", "settings", "inputs"), CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)])
def test_layer(kind, settings, inputs, tmp_path):
    random = np.random.default_rng(5)
    text = net_text(kind, settings, inputs)
    param = prototxt.parse(text, caffe_pb2.NetParameter)
    param.state.phase = TEST
    net = Net(param, Context(TEST))
    enliven(net, random)
    path = exported(net, tmp_path, text)
    compare(net, path, random, twice=bool(inputs[0].split(": ")[1].startswith("4")))


def test_every_type_that_can_be_exported_is_tried():
    from caffetools.exchange.onnx_model import EXPORTERS

    elsewhere = {"Parameter", "Silence", "Split"}  # in the nets below
    assert set(EXPORTERS) - elsewhere == {kind for kind, _, _ in CASES}


def test_every_type_that_cannot_be_exported_has_a_reason():
    from caffetools.exchange.onnx_model import EXPORTERS
    from caffetools.layers import built_in_types, layer_class

    table = re.search(r"^\| type \| why \|\n(.*?)\n\n", PAGE, re.M | re.S)[1]
    reasons = {name for row in table.splitlines()[1:] for name in re.findall(r"\w+", row.split("|")[1])}
    # Layers that have no bottom bring data: they become inputs.
    takers = {kind for kind in built_in_types() if layer_class(kind).exact_bottoms != 0}
    assert takers - set(EXPORTERS) == reasons & set(built_in_types())


BRANCHES = """
name: "branches"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 6 } } }
layer { name: "w" type: "Parameter" top: "w" parameter_param { shape { dim: 4 dim: 6 } } }
layer { name: "a" type: "InnerProduct" bottom: "data" top: "a" param { name: "shared" } param { name: "b" }
  inner_product_param { num_output: 6 weight_filler { type: "xavier" } bias_filler { type: "gaussian" } } }
layer { name: "act" type: "ReLU" bottom: "a" top: "a" }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" param { name: "shared" } param { name: "b" }
  inner_product_param { num_output: 6 weight_filler { type: "xavier" } } }
layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "b" bottom: "w" top: "sum" }
layer { name: "copy" type: "Dropout" bottom: "sum" top: "copy" }
layer { name: "flat" type: "Flatten" bottom: "sum" top: "flat" }
layer { name: "quiet" type: "Silence" bottom: "b" }
"""


def test_branches_in_place_and_shared_weights(tmp_path):
    random = np.random.default_rng(6)
    param = prototxt.parse(BRANCHES, caffe_pb2.NetParameter)
    param.state.phase = TEST
    net = Net(param, Context(TEST))
    net.layer_by_name["w"].blobs[0].data[...] = random.normal(size=(4, 6))
    path = exported(net, tmp_path, BRANCHES, batch=4)
    stored = {tensor.name for tensor in onnx.load(path).graph.initializer}
    assert {"a.0", "a.1", "w.0"} <= stored and "b.0" not in stored
    compare(net, path, random)


def test_the_batch_can_be_fixed(tmp_path):
    text = net_text("ReLU", "", ["x: 4,3"])
    net = Net(prototxt.parse(text + "state { phase: TEST }", caffe_pb2.NetParameter), Context(TEST))
    path = exported(net, tmp_path, text, batch=7)
    dims = onnx.load(path).graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in dims] == [7, 3]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("nms_param { nms_threshold: 0.6 eta: 0.9 }", "no threshold that shrinks"),
        ("keep_top_k: 0", "nothing to be found"),
    ],
)
def test_detections_that_onnx_does_not_choose(settings, message, tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(net_text(*detection(settings)))
    with pytest.raises(FatalError, match=message):
        export.export(str(path), "", str(tmp_path / "net.onnx"))


HALF = """
class Mute(caffe.Layer):
    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data / 2


class Half(HalfLayer, Mute):
    pass
"""


@pytest.mark.parametrize("name", ["Half", "Mute"])
def test_python_layers_write_themselves_or_are_named(name, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    example = re.search(r"^```python\n(class HalfLayer.*?)^```", PAGE, re.M | re.S)[1]
    (tmp_path / "half_of_docs.py").write_text(f"import caffetools.pycaffe as caffe\n{example}{HALF}")
    text = net_text("Python", f'python_param {{ module: "half_of_docs" layer: "{name}" }}', ["x: 4,3"])
    net = Net(prototxt.parse(text + "state { phase: TEST }", caffe_pb2.NetParameter), Context(TEST))
    if name == "Mute":
        with pytest.raises(FatalError, match=r"'it' \(Python\)\. .* method to_onnx\(step\)"):
            exported(net, tmp_path, text)
    else:
        compare(net, exported(net, tmp_path, text), np.random.default_rng(1), twice=True)


def test_layers_without_words_in_onnx_are_named(tmp_path):
    text = (
        net_text("ReLU", "", ["x: 4,3"])
        + 'layer { name: "odd" type: "HDF5Output" bottom: "out" bottom: "x" hdf5_output_param { file_name: "o.h5" } }'
    )
    path = tmp_path / "net.prototxt"
    path.write_text(text.replace("o.h5", str(tmp_path / "o.h5")))
    with pytest.raises(FatalError, match=r"no operations for: 'odd' \(HDF5Output\)"):
        export.export(str(path), "", str(tmp_path / "net.onnx"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.prototxt"]
