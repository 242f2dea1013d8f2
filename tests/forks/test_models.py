"""Caffemodels as forks write them: fields under numbers that mean something else here, and blobs in bytes."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools import upgrade
from caffetools.formats.wire import varint
from caffetools.glog import FatalError
from caffetools.layer import TEST, Context
from caffetools.net import Net
from caffetools.net.weights import copy_from
from caffetools.proto import caffe_pb2

WEIGHTS = np.arange(6, dtype=np.float32).reshape(2, 3)
NET = """
input: "x" input_shape { dim: 1 dim: 3 }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 2 bias_term: false } }
"""


def field(number: int, content: bytes | int) -> bytes:
    """A field on the wire: bytes, strings and messages, or a number."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def blob(raw: np.ndarray | None = None, kind: int = 1) -> bytes:
    shape = field(7, caffe_pb2.BlobShape(dim=WEIGHTS.shape).SerializeToString())
    if raw is None:
        return shape + field(5, WEIGHTS.tobytes())
    return shape + field(10, kind) + field(12, raw.tobytes())


#: Fields of a layer beside its name, type and blobs.
OTHERS = {
    "NVCaffe: forward_type, backward_type, forward_math, backward_math, debug, cudnn_math_override": b"".join(
        field(number, 2) for number in range(145, 151)
    ),
    "Intel: engine": field(149, b"MKLDNN:DLA"),
    "Intel: split_param, smooth_l1_loss_param": field(147, field(1, 3)) + field(148, varint(1 << 3 | 5) + b"\0\0\0@"),
    "Intel: multinode, mn_activation_param, quantization_param": b"".join(
        field(number, field(1, 2)) for number in (150, 151, 158)
    ),
    "DeepLab: interp_param": field(143, field(1, 65) + field(2, 65)),
    "PSPNet: bn_param": field(137, field(1, field(2, 1)) + field(3, 1)),
    "SSD: transform_param { resize_param }": field(100, field(8, field(3, 300) + field(4, 300))),
    "NVCaffe: transform_param { use_gpu_transform }": field(100, field(8, 1) + field(10, 3)),
    "somebody's": field(7777, b"whatever"),
}


OTHER_NAMES = {content: name for name, content in OTHERS.items()}


def model_of(layer: bytes, more: bytes = b"") -> bytes:
    return more + field(100, layer)


def loaded(data: bytes, tmp_path) -> np.ndarray:
    model, net_path = tmp_path / "w.caffemodel", tmp_path / "net.prototxt"
    model.write_bytes(data)
    net_path.write_text(NET)
    net = Net(upgrade.read_net_text(net_path), Context(TEST))
    copy_from(net, str(model))
    return net.layer_by_name["ip"].blobs[0].data


@pytest.mark.parametrize("others", OTHERS.values(), ids=OTHERS)
def test_weights_are_found(others, tmp_path, capfd):
    layer = field(1, b"ip") + field(2, b"InnerProduct") + others + field(7, blob())
    np.testing.assert_array_equal(loaded(model_of(layer), tmp_path), WEIGHTS)
    # A clip_param without bounds is none.
    said = "field 148 of layer 'ip', which is clip_param in Caffe, is left out" in capfd.readouterr().err
    assert said == ("smooth_l1" in OTHER_NAMES[others])


def test_a_model_that_is_cut_off_is_damaged(tmp_path):
    layer = field(1, b"ip") + OTHERS["Intel: split_param, smooth_l1_loss_param"] + field(7, blob())
    with pytest.raises(FatalError, match="Failed to parse NetParameter"):
        loaded(model_of(layer)[:-3], tmp_path)


@pytest.mark.parametrize(("kind", "dtype"), [(0, "<f8"), (1, "<f4"), (2, "<f2")])
def test_weights_of_nvcaffe(kind, dtype, tmp_path):
    layer = field(1, b"ip") + field(2, b"InnerProduct") + field(7, blob(WEIGHTS.astype(dtype), kind))
    more = field(11, 2) + field(17, b"-1,-1,-1")  # default_forward_type, default_conv_algos_override
    np.testing.assert_array_equal(loaded(model_of(layer, more), tmp_path), WEIGHTS)


def test_weights_that_are_damaged(tmp_path):
    layer = field(1, b"ip") + field(2, b"InnerProduct") + field(7, blob(WEIGHTS.astype("<f2"), 1))
    with pytest.raises(FatalError, match="3 are stored in its raw_data"):
        loaded(model_of(layer), tmp_path)
