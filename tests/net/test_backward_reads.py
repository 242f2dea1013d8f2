"""What layers declare about the arrays they read, over all recordings: whatever else they could reach is NaN.

Forward must not read the data that tops held before, backward not the data that `backward_reads` leaves out, nor the
diffs that bottoms held before. If a layer did, the NaNs would show in its results.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffetools.engine.cpu.rng import RandomSource
from caffetools.formats import prototxt
from caffetools.layer import Context, Layer
from caffetools.layers import built_in_types, layer_class
from caffetools.net import load_net
from caffetools.proto import caffe_pb2

RECORDINGS = sorted((Path(__file__).parents[1] / "golden" / "layers").glob("*.npz"))
#: What the recordings leave out, with the shapes of the inputs.
PLANES = [(2, 3, 4, 4)]
EXTRA = {
    "MVN in place": ('type: "MVN" bottom: "x" top: "x"', PLANES),
    "BatchNorm in place": ('type: "BatchNorm" bottom: "x" top: "x"', PLANES),
    "Scale in place": ('type: "Scale" bottom: "x" top: "x"', PLANES),
    "PReLU in place": ('type: "PReLU" bottom: "x" top: "x"', PLANES),
    "Swish in place": ('type: "Swish" bottom: "x" top: "x"', PLANES),
    "a leaky ReLU": ('type: "ReLU" bottom: "x" top: "y" relu_param { negative_slope: 0.1 }', PLANES),
    "a negative slope": ('type: "ReLU" bottom: "x" top: "y" relu_param { negative_slope: -0.5 }', PLANES),
    "one in place": ('type: "ReLU" bottom: "x" top: "x" relu_param { negative_slope: -0.5 }', PLANES),
    "a negative alpha": ('type: "ELU" bottom: "x" top: "y" elu_param { alpha: -1 }', PLANES),
    "Dropout": ('type: "Dropout" bottom: "x" top: "y"', PLANES),
    "STOCHASTIC": (
        'type: "Pooling" bottom: "x" top: "y" pooling_param { pool: STOCHASTIC kernel_size: 2 stride: 2 }',
        PLANES,
    ),
    "LSTMUnit": (
        'type: "LSTMUnit" bottom: "x" bottom: "x1" bottom: "x2" top: "y" top: "z"',
        [(1, 2, 3), (1, 2, 12), (1, 2)],
    ),
    "Silence": ('type: "Silence" bottom: "x"', [(2, 3)]),
    "Axpy": ('type: "Axpy" bottom: "x" bottom: "x1" bottom: "x2" top: "y"', [(2, 3), (2, 3, 4, 4), (2, 3, 4, 4)]),
    "BN": ('type: "BN" bottom: "x" top: "y"', PLANES),
    "BN in place": ('type: "BN" bottom: "x" top: "x"', PLANES),
    "BN that is frozen": ('type: "BN" bottom: "x" top: "y" bn_param { frozen: true }', PLANES),
    "BN of SegNet": ('type: "BN" bottom: "x" top: "y" bn_param { bn_mode: INFERENCE }', PLANES),
    "scale_bias": ('type: "BatchNorm" bottom: "x" top: "y" batch_norm_param { scale_bias: true }', PLANES),
    "scale_bias in place": ('type: "BatchNorm" bottom: "x" top: "x" batch_norm_param { scale_bias: true }', PLANES),
    "ConvolutionDepthwise": (
        'type: "ConvolutionDepthwise" bottom: "x" top: "y" convolution_param { num_output: 3 kernel_size: 2 }',
        [(2, 3, 5, 4)],
    ),
    "DepthwiseConvolution": (
        'type: "DepthwiseConvolution" bottom: "x" top: "y" convolution_param { num_output: 3 kernel_size: 2 group: 3 }',
        [(2, 3, 5, 4)],
    ),
    "Interp": ('type: "Interp" bottom: "x" top: "y" interp_param { zoom_factor: 2 }', PLANES),
    "Normalize": ('type: "Normalize" bottom: "x" top: "y"', PLANES),
    "Permute": ('type: "Permute" bottom: "x" top: "y" permute_param { order: 1 }', PLANES),
    "ReLU6": ('type: "ReLU6" bottom: "x" top: "x"', PLANES),
    "ROIPooling": (
        'type: "ROIPooling" bottom: "x" bottom: "x1" top: "y" roi_pooling_param { pooled_h: 1 pooled_w: 1 }',
        [(1, 2, 4, 4), (3, 5)],
    ),
    "ShuffleChannel": (
        'type: "ShuffleChannel" bottom: "x" top: "y" shuffle_channel_param { group: 2 }', [(2, 4, 3, 3)]
    ),
    "SmoothL1Loss": ('type: "SmoothL1Loss" bottom: "x" bottom: "x1" bottom: "x2" top: "y"', [(4, 3)] * 3),
    "Upsample": ('type: "Upsample" bottom: "x" bottom: "x1" top: "y"', [(1, 2, 2, 2), (1, 2, 2, 2)]),
    "a constant": ('type: "Power" bottom: "x" top: "y" power_param { power: 0 }', [(2, 3)]),
}


def poison(layer, i, net):
    """Fill what a layer does not declare with NaN before its backward pass; return what was there."""
    saved = []
    read = set()
    for end, blobs in (("bottom", net.bottoms[i]), ("top", net.tops[i])):
        for j, blob in enumerate(blobs):
            if end in layer.backward_reads or f"{end}[{j}]" in layer.backward_reads:
                read.add(id(blob.data_storage))
    read |= {id(blob.data_storage) for blob in (*layer.kept(), *layer.blobs)}
    for blob in (*net.bottoms[i], *net.tops[i]):
        if id(blob.data_storage) not in read:
            saved.append((blob, blob.data.copy()))
            blob.data[...] = np.nan
    return saved


def clear_before_writing(net, i):
    """Fill the tops that a layer is about to write with NaN."""
    inputs = {id(blob.data_storage) for blob in net.bottoms[i]}
    kept = {id(blob.data_storage) for blob in net.layers[i].blobs}
    for blob in net.tops[i]:
        if net.bottoms[i] and id(blob.data_storage) not in inputs | kept:
            blob.data[...] = np.nan


def run(net, top_diffs, poisoned):
    """Run forward, and backward from these diffs unless they are None, layer by layer.

    Return copies of the tops, and of the gradients of bottoms and parameters.
    """
    results = []
    for i in range(len(net.layers)):
        if poisoned:
            clear_before_writing(net, i)
        net.forward_layer(i)
        results += [blob.data.copy() for blob in net.tops[i]]
    net.clear_param_diffs()
    for name, values in (top_diffs or {}).items():
        net.blobs[name].diff[...] = values
    for i in reversed(range(0 if top_diffs is None else len(net.layers))):
        layer = net.layers[i]
        if not net.layer_needs_backward[i]:
            continue
        saved = poison(layer, i, net) if poisoned else []
        below = {id(blob.diff_storage) for blob in net.tops[i]}
        for blob, wanted in zip(net.bottoms[i], net.bottom_needs_backward[i], strict=True):
            if poisoned and wanted and id(blob.diff_storage) not in below:
                blob.diff[...] = np.nan
        net.backward_layer(i)
        for blob, values in saved:
            blob.data[...] = values
        results += [b.diff.copy() for b, w in zip(net.bottoms[i], net.bottom_needs_backward[i], strict=True) if w]
        results += [b.diff.copy() for b, w in zip(layer.blobs, layer.param_propagate_down, strict=True) if w]
    return results


def check(make):
    plain, poisoned = (run(*make(), poisoned) for poisoned in (False, True))
    assert len(plain) == len(poisoned)
    for one, other in zip(plain, poisoned, strict=True):
        np.testing.assert_array_equal(one, other)


def recorded_net(path):
    recording = {tuple(key.split("/")): values for key, values in np.load(path).items()}
    param = prototxt.parse(str(recording[("prototxt",)]), caffe_pb2.NetParameter)
    net = load_net(param, caffe_pb2.Phase.Value(str(recording[("phase",)])), Context(random=RandomSource(1)))
    for (kind, *name), values in recording.items():
        if kind == "in":
            net.blobs[name[0]].data[...] = values
        elif kind == "param":
            net.layer_by_name[name[0]].blobs[int(name[1])].data[...] = values
    goes_backward = any(kind in ("din", "dparam") for kind, *_ in recording)
    top_diffs = {name[0]: values for (kind, *name), values in recording.items() if kind == "dout"}
    return net, top_diffs if goes_backward else None


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_a_recorded_layer_reads_what_it_declares(path):
    check(lambda: recorded_net(path))


def made_up_net(text, shapes):
    names = ["x", "x1", "x2"]
    inputs = "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ '
        + " ".join(f"dim: {size}" for size in shape)
        + " } } }\n"
        for name, shape in zip(names, shapes, strict=False)
    )
    param = prototxt.parse(f'force_backward: true\n{inputs}layer {{ name: "l" {text} }}', caffe_pb2.NetParameter)
    net = load_net(param, caffe_pb2.TRAIN, Context(random=RandomSource(1)))
    random = np.random.default_rng(2)
    for name in net.inputs:
        net.blobs[name].data[...] = random.uniform(0.1, 1, net.blobs[name].shape)
    return net, {name: random.standard_normal(net.blobs[name].shape) for name in net.top_names[-1]}


@pytest.mark.parametrize(("text", "shapes"), EXTRA.values(), ids=EXTRA)
def test_others_read_what_they_declare(text, shapes):
    check(lambda: made_up_net(text, shapes))


def test_every_type_that_narrows_its_declaration_is_tested():
    tested = set()
    for path in RECORDINGS:
        tested |= {layer.type for layer in prototxt.parse(str(np.load(path)["prototxt"]), caffe_pb2.NetParameter).layer}
    tested |= {text.split('"')[1] for text, _ in EXTRA.values()}
    narrowed = {kind for kind in built_in_types() if layer_class(kind).backward_reads != Layer.backward_reads}
    # HDF5Output writes a file, two layers of SSD have no gradient, and MultiBoxLoss, which needs true boxes,
    # keeps its gradients from the forward pass.
    assert narrowed - tested <= {"HDF5Output", "DetectionEvaluate", "DetectionOutput", "MultiBoxLoss", "PriorBox"}
