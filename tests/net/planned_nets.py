"""Small nets that try what a memory plan may do, and pairs of nets of which only one has a plan."""

from __future__ import annotations

import numpy as np
from google.protobuf import text_format

from caffetools import graph, upgrade
from caffetools.engine.cpu.rng import RandomSource
from caffetools.layer import TRAIN, Context
from caffetools.net import Net
from caffetools.proto import caffe_pb2
from caffetools.tools.net_inputs import with_inputs
from tests.models.zoo import MODELS

FILLED = 'weight_filler { type: "gaussian" std: 0.3 } bias_filler { type: "gaussian" std: 0.3 }'


def convolution(outputs, kernel=3, more=""):
    sizes = f"num_output: {outputs} kernel_size: {kernel} pad: {kernel // 2}"
    return "Convolution", f"{more} convolution_param {{ {sizes} {FILLED} }}"


#: Words for a type and its settings, in the nets below.
WORDS = {
    **{f"conv{outputs}": convolution(outputs) for outputs in (2, 3, 4, 5, 6, 8)},
    "fixed": convolution(4, more="param { lr_mult: 0 } param { lr_mult: 0 }"),
    "wide": convolution(3, 5),
    "halve": ("Pooling", "pooling_param { kernel_size: 2 stride: 2 }"),
    "largest": ("Pooling", "pooling_param { kernel_size: 3 stride: 1 pad: 1 }"),
    "shift": ("Scale", "scale_param { bias_term: true }"),
    "mixed": ("Eltwise", "eltwise_param { coeff: 1 coeff: -2 coeff: 1 }"),
    "product": ("Eltwise", "eltwise_param { operation: PROD }"),
    "maximum": ("Eltwise", "eltwise_param { operation: MAX }"),
    "stack": ("Concat", "concat_param { axis: 0 }"),
    "unstack": ("Slice", "slice_param { axis: 0 }"),
    "rows": ("Reshape", "reshape_param { shape { dim: 0 dim: -1 } }"),
    "square": ("Power", "power_param { scale: 2 power: 2 }"),
    "labelled": ("Filter", "propagate_down: true propagate_down: false propagate_down: false"),
    "energy": ("Reduction", "reduction_param { operation: SUMSQ } loss_weight: 0.01"),
    "bad": ("Log", "log_param { shift: -100 }"),
    "fc": ("InnerProduct", f"inner_product_param {{ num_output: 3 {FILLED} }}"),
    "loss": ("SoftmaxWithLoss", "loss_weight: 0.7"),
}

#: Each net has "data", 2 channels of 6 x 6, and gives "last". A layer is "word: bottoms > tops".
NETS = {
    "chain": "conv4: data > a; ReLU: a > a; halve: a > b; LRN: b > c; Dropout: c > c; conv4: c > last",
    "inception": "conv4: data > a; ReLU: a > a; wide: data > b; ReLU: b > b; largest: a > c; Concat: a b c > ab;"
    "conv5: ab > d; Concat: d ab > last",
    "dense block": "conv4: data > x0; BatchNorm: x0 > n0; shift: n0 > n0; ReLU: n0 > n0; conv2: n0 > g0;"
    "Concat: x0 g0 > x1; BatchNorm: x1 > n1; shift: n1 > n1; ReLU: n1 > n1; conv2: n1 > g1; Concat: x1 g1 > last",
    "residual block": "conv4: data > x; BatchNorm: x > x; shift: x > x; ReLU: x > x; conv4: x > a; BatchNorm: a > a;"
    "Scale: a > a; ReLU: a > a; conv4: a > b; Eltwise: x b > s; ReLU: s > s; conv4: s > c; Eltwise: c s > last",
    "sums": "conv4: data > a; TanH: a > b; Sigmoid: a > c; mixed: a b c > last",
    "products": "conv4: data > a; ELU: a > b; product: a b > c; maximum: c a > last",
    "slices": "conv6: data > a; Slice: a > b c d; ReLU: c > c; TanH: d > e; Concat: b e c > last",
    "slices that stay": "conv6: data > a; Slice: a > b c; TanH: b > d; Eltwise: d c > last",
    "Concat changed in place": "conv4: data > a; conv4: a > b; Concat: a b > c; ReLU: c > c; TanH: a > d;"
    "Concat: c d > last",
    "one blob twice in a Concat": "conv4: data > a; Concat: a a > b; conv4: b > last",
    "the batch as axis": "conv4: data > a; conv4: a > b; stack: a b > c; conv4: c > d; unstack: d > e f;"
    "Eltwise: e f > last",
    "reshaped": "conv4: data > a; rows: a > b; PReLU: b > b; Flatten: a > c; Concat: b c > last",
    "five copies": "conv4: data > a; square: a > b; square: a > c; square: a > d; square: a > e; square: a > f;"
    "Concat: b c d e f > last",
    "branches that end": "conv4: data > a; TanH: a > b; Silence: b > ; conv4: a > last",
    "no gradient below": "fixed: data > a; ReLU: a > a; conv4: a > last",
}
LOSS = "; fc: last > fc; Accuracy: fc label > accuracy; loss: fc label > loss"


def layers(text):
    """Return the prototxt of layers given in words."""
    result = ""
    for number, line in enumerate(filter(None, map(str.strip, text.split(";")))):
        word, _, blobs = line.partition(":")
        kind, settings = WORDS.get(word, (word, ""))
        bottoms, tops = (names.split() for names in blobs.split(">"))
        ends = " ".join([*(f'bottom: "{name}"' for name in bottoms), *(f'top: "{name}"' for name in tops)])
        result += f'layer {{ name: "{number} {word}" type: "{kind}" {ends} {settings} }}\n'
    return result


def definition(text, batch, phase=TRAIN):
    """Return a net of layers in words with the inputs "data" and, where it is used, "label"."""
    shapes = {"data": (batch, 2, 6, 6)} | ({"label": (batch,)} if "label" in text else {})
    param = caffe_pb2.NetParameter()
    param.state.phase = phase
    for name, shape in shapes.items():
        param.layer.add(name=name, type="Input", top=[name]).input_param.shape.add(dim=shape)
    param.MergeFrom(text_format.Parse(layers(text), caffe_pb2.NetParameter()))
    return param


def model(name, shape, batch, phase=TRAIN):
    """Return a net of models/ with inputs of this batch in place of its data."""
    param = upgrade.read_net_text(MODELS / f"{name}.prototxt")
    param.state.phase = phase
    param = graph.filter_net(param)
    tops = [top for layer in param.layer for top in layer.top if not layer.bottom]
    return with_inputs(param, {top: (batch, *shape) if "data" in top else (batch,) for top in tops})


def build(param, plan=True, keep=()):
    return Net(param, Context(random=RandomSource(1)), plan, keep)


def twins(param):
    """Return a net with a plan, and one whose blobs have memory of their own; the same layers run as one in both."""
    planned, plain = build(param), build(param)
    assert planned.memory_plan is not None
    assert plain.unplan()
    return planned, plain


def feed(net, seed):
    """Fill the inputs with random numbers; labels are 0 to 2."""
    random = np.random.default_rng(seed)
    for name in net.inputs:
        blob = net.blobs[name]
        labels = len(blob.shape) == 1
        blob.data[...] = random.integers(0, 3, blob.shape) if labels else random.standard_normal(blob.shape)


def assert_same(one, other, what):
    """Assert that two arrays are equal bit by bit."""
    assert one.shape == other.shape, what
    assert one.tobytes() == other.tobytes(), what


def train_alike(planned, plain, iterations=3):
    """Train both nets, and compare losses and gradients."""
    for iteration in range(iterations):
        for net in (planned, plain):
            feed(net, iteration)
            net.clear_param_diffs()
        assert planned.forward() == plain.forward()
        planned.backward()
        plain.backward()
        assert_same(planned.param_diff, plain.param_diff, f"gradients of pass {iteration}")
        for net in (planned, plain):
            net.param_diff[...] *= np.float32(0.01)
            net.update()


def choose_alike(planned, plain):
    """Run both nets, whose Filter takes items by their labels, such that shapes change within a pass, and compare."""
    for labels in ([1, 1, 1, 1], [1, 0, 1, 1], [0, 0, 1, 0], [1, 1, 1, 0], [1, 1, 1, 1]):
        for net in (planned, plain):
            feed(net, sum(labels))
            net.blobs["label"].data[...] = labels
            net.clear_param_diffs()
        assert planned.forward() == plain.forward()
        planned.backward()
        plain.backward()
        assert_same(planned.param_diff, plain.param_diff, labels)
