"""V1: ``layers { type: CONVOLUTION ... }`` becomes ``layer { type: "Convolution" ... }``.

Types were an enum, and what concerns a learnable blob stood in four lists, which are `param { }` since.
"""

from __future__ import annotations

from caffetools.glog import fatal
from caffetools.proto import caffe_pb2
from caffetools.upgrade.passes import Pass, carry_over

#: Name in the V1 enum -> type string.
TYPES = {
    "NONE": "",
    "ABSVAL": "AbsVal",
    "ACCURACY": "Accuracy",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "CONCAT": "Concat",
    "CONTRASTIVE_LOSS": "ContrastiveLoss",
    "CONVOLUTION": "Convolution",
    "DATA": "Data",
    "DECONVOLUTION": "Deconvolution",
    "DROPOUT": "Dropout",
    "DUMMY_DATA": "DummyData",
    "ELTWISE": "Eltwise",
    "EUCLIDEAN_LOSS": "EuclideanLoss",
    "EXP": "Exp",
    "FLATTEN": "Flatten",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "HINGE_LOSS": "HingeLoss",
    "IM2COL": "Im2col",
    "IMAGE_DATA": "ImageData",
    "INFOGAIN_LOSS": "InfogainLoss",
    "INNER_PRODUCT": "InnerProduct",
    "LRN": "LRN",
    "MEMORY_DATA": "MemoryData",
    "MULTINOMIAL_LOGISTIC_LOSS": "MultinomialLogisticLoss",
    "MVN": "MVN",
    "POOLING": "Pooling",
    "POWER": "Power",
    "RELU": "ReLU",
    "SIGMOID": "Sigmoid",
    "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss",
    "SILENCE": "Silence",
    "SLICE": "Slice",
    "SOFTMAX": "Softmax",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "SPLIT": "Split",
    "TANH": "TanH",
    "THRESHOLD": "Threshold",
    "WINDOW_DATA": "WindowData",
}

#: V1 list with one entry for each learnable blob -> field of ParamSpec.
PARAM_LISTS = {
    "param": "name",
    "blob_share_mode": "share_mode",
    "blobs_lr": "lr_mult",
    "weight_decay": "decay_mult",
}


def needs_v1(net: caffe_pb2.NetParameter) -> bool:
    """Whether the net has V1 layers."""
    return bool(net.layers)


def upgrade_v1(net: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """Return the net with today's layers in place of V1 ones. Raises FatalError if it has both kinds."""
    if net.layer:
        fatal(
            "Refusing to upgrade inconsistent NetParameter input; the definition includes both 'layer' and "
            f"'layers' fields. Those with 'layers' begin with '{net.layers[0].name}': write them as "
            'layer { type: "Convolution" ... }, with the type in quotes, as the others are.'
        )
    upgraded = caffe_pb2.NetParameter()
    carry_over(net, upgraded, leave=("layers",))
    for old in net.layers:
        _upgrade_layer(old, upgraded.layer.add())
    return upgraded


def _upgrade_layer(old: caffe_pb2.V1LayerParameter, layer: caffe_pb2.LayerParameter) -> None:
    carry_over(old, layer, leave=("type", "layer", *PARAM_LISTS))
    if old.HasField("type"):
        layer.type = TYPES[caffe_pb2.V1LayerParameter.LayerType.Name(old.type)]
    for name, field in PARAM_LISTS.items():
        for index, value in enumerate(getattr(old, name)):
            if index == len(layer.param):
                layer.param.add()
            setattr(layer.param[index], field, value)


V1_PASS = Pass(
    needed=needs_v1,
    run=upgrade_v1,
    attempt="Attempting to upgrade input file specified using deprecated V1LayerParameter",
    success="Successfully upgraded file specified using deprecated V1LayerParameter",
)
