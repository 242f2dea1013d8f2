"""V0: the place of every parameter, parameters without a place, padding layers."""

from __future__ import annotations

import pytest
from google.protobuf import text_format

from caffetools import upgrade
from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2


def net_of(text: str) -> caffe_pb2.NetParameter:
    return text_format.Parse(text, caffe_pb2.NetParameter())


def upgraded_layer(layer_type: str, fields: str) -> caffe_pb2.LayerParameter:
    """Today's form of one V0 layer."""
    net = net_of(f'layers {{ layer {{ name: "l" type: "{layer_type}" {fields} }} top: "t" }}')
    (layer,) = upgrade.run_passes(upgrade.NET_PASSES, net, "f").message.layer
    return layer


TYPES = """
accuracy Accuracy, bnll BNLL, concat Concat, conv Convolution, data Data, dropout Dropout,
euclidean_loss EuclideanLoss, flatten Flatten, hdf5_data HDF5Data, hdf5_output HDF5Output, im2col Im2col,
images ImageData, infogain_loss InfogainLoss, innerproduct InnerProduct, lrn LRN,
multinomial_logistic_loss MultinomialLogisticLoss, pool Pooling, relu ReLU, sigmoid Sigmoid, softmax Softmax,
softmax_loss SoftmaxWithLoss, split Split, tanh TanH, window_data WindowData
"""


@pytest.mark.parametrize("pair", TYPES.split(","), ids=str.strip)
def test_type(pair):
    old, new = pair.split()
    assert upgraded_layer(old, "").type == new


PLACES = [
    ("conv", "num_output: 3", "convolution_param { num_output: 3 }"),
    ("conv", "biasterm: false", "convolution_param { bias_term: false }"),
    ("conv", "weight_filler { std: 2 }", "convolution_param { weight_filler { std: 2 } }"),
    ("conv", "bias_filler { value: 2 }", "convolution_param { bias_filler { value: 2 } }"),
    ("conv", "pad: 2", "convolution_param { pad: 2 }"),
    ("conv", "kernelsize: 5", "convolution_param { kernel_size: 5 }"),
    ("conv", "group: 2", "convolution_param { group: 2 }"),
    ("conv", "stride: 2", "convolution_param { stride: 2 }"),
    ("innerproduct", "num_output: 3", "inner_product_param { num_output: 3 }"),
    ("innerproduct", "biasterm: true", "inner_product_param { bias_term: true }"),
    ("innerproduct", "weight_filler { std: 2 }", "inner_product_param { weight_filler { std: 2 } }"),
    ("innerproduct", "bias_filler { value: 2 }", "inner_product_param { bias_filler { value: 2 } }"),
    ("pool", "pool: MAX", "pooling_param { pool: MAX }"),
    ("pool", "pool: AVE", "pooling_param { pool: AVE }"),
    ("pool", "pool: STOCHASTIC", "pooling_param { pool: STOCHASTIC }"),
    ("pool", "pad: 1", "pooling_param { pad: 1 }"),
    ("pool", "kernelsize: 3", "pooling_param { kernel_size: 3 }"),
    ("pool", "stride: 2", "pooling_param { stride: 2 }"),
    ("dropout", "dropout_ratio: 0.25", "dropout_param { dropout_ratio: 0.25 }"),
    ("lrn", "local_size: 3", "lrn_param { local_size: 3 }"),
    ("lrn", "alpha: 0.5", "lrn_param { alpha: 0.5 }"),
    ("lrn", "beta: 0.5", "lrn_param { beta: 0.5 }"),
    ("lrn", "k: 2", "lrn_param { k: 2 }"),
    ("data", 'source: "s"', 'data_param { source: "s" }'),
    ("hdf5_data", 'source: "s"', 'hdf5_data_param { source: "s" }'),
    ("images", 'source: "s"', 'image_data_param { source: "s" }'),
    ("window_data", 'source: "s"', 'window_data_param { source: "s" }'),
    ("infogain_loss", 'source: "s"', 'infogain_loss_param { source: "s" }'),
    ("data", "batchsize: 4", "data_param { batch_size: 4 }"),
    ("hdf5_data", "batchsize: 4", "hdf5_data_param { batch_size: 4 }"),
    ("images", "batchsize: 4", "image_data_param { batch_size: 4 }"),
    ("window_data", "batchsize: 4", "window_data_param { batch_size: 4 }"),
    ("data", "scale: 0.5", "transform_param { scale: 0.5 }"),
    ("data", 'meanfile: "m"', 'transform_param { mean_file: "m" }'),
    ("images", "cropsize: 7", "transform_param { crop_size: 7 }"),
    ("window_data", "mirror: true", "transform_param { mirror: true }"),
    ("data", "rand_skip: 3", "data_param { rand_skip: 3 }"),
    ("images", "rand_skip: 3", "image_data_param { rand_skip: 3 }"),
    ("images", "shuffle_images: true", "image_data_param { shuffle: true }"),
    ("images", "new_height: 9", "image_data_param { new_height: 9 }"),
    ("images", "new_width: 9", "image_data_param { new_width: 9 }"),
    ("concat", "concat_dim: 2", "concat_param { concat_dim: 2 }"),
    ("window_data", "det_fg_threshold: 0.25", "window_data_param { fg_threshold: 0.25 }"),
    ("window_data", "det_bg_threshold: 0.25", "window_data_param { bg_threshold: 0.25 }"),
    ("window_data", "det_fg_fraction: 0.5", "window_data_param { fg_fraction: 0.5 }"),
    ("window_data", "det_context_pad: 2", "window_data_param { context_pad: 2 }"),
    ("window_data", 'det_crop_mode: "square"', 'window_data_param { crop_mode: "square" }'),
    ("hdf5_output", 'hdf5_output_param { file_name: "o" }', 'hdf5_output_param { file_name: "o" }'),
    ("conv", "blobs { num: 1 data: 2 }", "blobs { num: 1 data: 2 }"),
    ("conv", "blobs_lr: 1 blobs_lr: 2", "param { lr_mult: 1 } param { lr_mult: 2 }"),
    ("conv", "weight_decay: 1 weight_decay: 0", "param { decay_mult: 1 } param { decay_mult: 0 }"),
    (
        "conv",
        "blobs_lr: 2 weight_decay: 1 weight_decay: 0",
        "param { lr_mult: 2 decay_mult: 1 } param { decay_mult: 0 }",
    ),
]


@pytest.mark.parametrize(("layer_type", "old", "new"), PLACES)
def test_place(layer_type, old, new, log):
    layer = upgraded_layer(layer_type, old)
    kind = dict(pair.split() for pair in TYPES.split(","))[layer_type]
    expected = f'name: "l" type: "{kind}" top: "t" {new}'
    assert layer == text_format.Parse(expected, caffe_pb2.LayerParameter())
    assert "Successfully upgraded file specified using deprecated V0LayerParameter" in log()


NO_PLACE = [
    ("relu", "num_output: 3", "num_output"),
    ("pool", "num_output: 3", "num_output"),
    ("pool", "biasterm: true", "biasterm"),
    ("relu", "weight_filler { }", "weight_filler"),
    ("relu", "bias_filler { }", "bias_filler"),
    ("innerproduct", "pad: 2", "pad"),
    ("innerproduct", "kernelsize: 5", "kernelsize"),
    ("pool", "group: 2", "group"),
    ("lrn", "stride: 2", "stride"),
    ("conv", "pool: MAX", "pool"),
    ("relu", "dropout_ratio: 0.25", "dropout_ratio"),
    ("pool", "local_size: 3", "local_size"),
    ("conv", "alpha: 0.5", "alpha"),
    ("conv", "beta: 0.5", "beta"),
    ("conv", "k: 2", "k"),
    ("conv", 'source: "s"', "source"),
    ("infogain_loss", "batchsize: 4", "batchsize"),
    ("window_data", "rand_skip: 3", "rand_skip"),
    ("data", "shuffle_images: true", "shuffle"),
    ("window_data", "new_height: 9", "new_height"),
    ("window_data", "new_width: 9", "new_width"),
    ("images", "new_num: 9", "new_num"),
    ("images", "new_channels: 9", "new_channels"),
    ("conv", "concat_dim: 2", "concat_dim"),
    ("images", "det_fg_threshold: 0.25", "det_fg_threshold"),
    ("images", "det_bg_threshold: 0.25", "det_bg_threshold"),
    ("images", "det_fg_fraction: 0.5", "det_fg_fraction"),
    ("images", "det_context_pad: 2", "det_context_pad"),
    ("images", 'det_crop_mode: "square"', "det_crop_mode"),
    ("hdf5_data", 'hdf5_output_param { file_name: "o" }', "hdf5_output_param"),
]


@pytest.mark.parametrize(("layer_type", "fields", "name"), NO_PLACE)
def test_parameter_without_a_place(layer_type, fields, name, log):
    net = net_of(f'layers {{ layer {{ name: "l" type: "{layer_type}" {fields} }} }}')
    outcome = upgrade.run_passes(upgrade.NET_PASSES, net, "f")
    lines = log()
    assert lines[:3] == [
        "Attempting to upgrade input file specified using deprecated V0LayerParameter: f",
        f"Unknown parameter {name} for layer type {layer_type}",
        "Warning: had one or more problems upgrading V0NetParameter to NetParameter (see above); "
        "continuing anyway.",
    ]
    assert "Successfully upgraded file specified using deprecated V0LayerParameter" not in lines
    assert not outcome.complete
    (layer,) = outcome.message.layer
    assert [field.name for field, _ in layer.ListFields()] == ["name", "type"]


def test_every_v0_parameter_is_tested():
    fields = {fields.split()[0].rstrip(":") for _, fields, _ in PLACES + NO_PLACE}
    assert fields | {"name", "type"} == set(caffe_pb2.V0LayerParameter.DESCRIPTOR.fields_by_name)


def test_unknown_type():
    with pytest.raises(FatalError) as caught:
        upgraded_layer("convolve", "")
    assert str(caught.value) == "Unknown layer name: convolve (layer 'l'; did you mean conv?)"


def test_v1_layers_among_v0_layers_stay():
    net = net_of('layers { layer { name: "a" type: "relu" } } layers { name: "b" type: TANH }')
    assert [(layer.name, layer.type) for layer in upgrade.upgrade_net(net, "f").layer] == [
        ("a", "ReLU"),
        ("b", "TanH"),
    ]


PAD = 'layers { layer { name: "p" type: "padding" pad: 2 } bottom: "x" top: "p" }'


def test_padding_is_folded_into_every_user(log):
    net = net_of(
        f"""
        input: "x" input_shape {{ dim: 1 }} {PAD}
        layers {{ layer {{ name: "c" type: "conv" kernelsize: 5 }} bottom: "p" top: "c" }}
        layers {{ layer {{ name: "m" type: "pool" pool: MAX }} bottom: "p" top: "m" }}
        """
    )
    _, conv, pool = upgrade.upgrade_net(net, "f").layer
    assert (list(conv.bottom), list(conv.convolution_param.pad)) == (["x"], [2])
    assert (list(pool.bottom), pool.pooling_param.pad) == (["x"], 2)
    assert not [line for line in log() if "Unknown parameter" in line]


def test_padding_adds_to_the_pad_of_the_convolution():
    net = net_of(
        f'input: "x" {PAD} layers {{ layer {{ name: "c" type: "conv" pad: 1 }} bottom: "p" top: "c" }}'
    )
    (conv,) = upgrade.upgrade_net(net, "f").layer
    assert list(conv.convolution_param.pad) == [3]


def test_padding_ends_where_its_blob_is_made_anew():
    net = net_of(
        f"""
        input: "x" {PAD}
        layers {{ layer {{ name: "c" type: "conv" }} bottom: "p" top: "p" }}
        layers {{ layer {{ name: "d" type: "conv" }} bottom: "p" top: "d" }}
        """
    )
    first, second = upgrade.upgrade_net(net, "f").layer
    assert (list(first.bottom), list(first.convolution_param.pad)) == (["x"], [2])
    assert (list(second.bottom), list(second.convolution_param.pad)) == (["p"], [])


REFUSED = {
    "other type behind it": (
        'layers { layer { name: "r" type: "relu" } bottom: "p" top: "r" }',
        "Padding layer input to non-convolutional / non-pooling layer type relu",
    ),
    "padding of padding": (
        'layers { layer { name: "q" type: "padding" pad: 1 } bottom: "p" top: "q" }',
        "Padding layer input to non-convolutional / non-pooling layer type padding",
    ),
    "two bottoms": (
        'layers { layer { name: "c" type: "conv" } bottom: "p" bottom: "x" top: "c" }',
        "(2 vs. 1) Conv Layer takes a single blob as input. (layer 'c')",
    ),
    "unknown blob": (
        'layers { layer { name: "c" type: "conv" } bottom: "q" top: "c" }',
        "Unknown blob input q to layer 1 ('c')",
    ),
}


@pytest.mark.parametrize(("layer", "message"), REFUSED.values(), ids=REFUSED)
def test_padding_is_refused(layer, message):
    with pytest.raises(FatalError) as caught:
        upgrade.upgrade_net(net_of(f'input: "x" {PAD} {layer}'), "f")
    assert str(caught.value).endswith(message)


@pytest.mark.parametrize(
    ("wires", "message"),
    [
        (
            'bottom: "x" bottom: "x" top: "p"',
            "(2 vs. 1) Padding Layer takes a single blob as input. (layer 'p')",
        ),
        (
            'bottom: "x" top: "p" top: "q"',
            "(2 vs. 1) Padding Layer produces a single blob as output. (layer 'p')",
        ),
    ],
)
def test_padding_with_odd_wires_is_refused(wires, message):
    net = net_of(
        f"""
        input: "x" layers {{ layer {{ name: "p" type: "padding" pad: 2 }} {wires} }}
        layers {{ layer {{ name: "c" type: "conv" }} bottom: "p" top: "c" }}
        """
    )
    with pytest.raises(FatalError) as caught:
        upgrade.upgrade_net(net, "f")
    assert str(caught.value).endswith(message)
