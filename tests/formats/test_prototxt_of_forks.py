"""Fields of forks that change nothing but the speed are left out of a prototxt, and said."""

from __future__ import annotations

import pytest

from caffetools.formats import prototxt
from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2

NVCAFFE = """name: "net"
default_forward_type: FLOAT16 default_conv_algos_override: "1,1,1"
layer {
  name: "conv" type: "Convolution" forward_type: FLOAT
  convolution_param { num_output: 8; cudnn_convolution_algo_seeker: FINDEX, kernel_size: 3
    conv_algos_override { a: -1 b: [1, 2] } }
}
layer { name: "data" type: "Data" data_param { threads: 4 parser_threads: 2 source: "x" cache: true batch_size: 2 } }
"""
PLAIN = """name: "net"
layer { name: "conv" type: "Convolution" convolution_param { num_output: 8 kernel_size: 3 } }
layer { name: "data" type: "Data" data_param { source: "x" batch_size: 2 } }
"""


def test_the_rest_is_read(capfd):
    assert prototxt.parse(NVCAFFE, caffe_pb2.NetParameter) == prototxt.parse(PLAIN, caffe_pb2.NetParameter)
    lines = capfd.readouterr().err.splitlines()
    assert [line.split("] ")[1].split(" is left")[0] for line in lines if "left out" in line] == [
        "<string>:2: default_forward_type",
        "<string>:2: default_conv_algos_override",
        "<string>:4: forward_type",
        "<string>:5: cudnn_convolution_algo_seeker",
        "<string>:6: conv_algos_override",
        "<string>:8: threads",
        "<string>:8: parser_threads",
        "<string>:8: cache",
    ]


VALUES = ['"MKLDNN"', "'a' \"b\"", "-3", "MKL2017", "{ x: 1 }", ": 5", "< y: 'z' >", "[ 1, 2 ]"]


@pytest.mark.parametrize("value", VALUES)
def test_values_of_every_kind(value):
    text = f'layer {{ engine: {value} name: "a" }}'.replace(": : ", ": ")
    assert prototxt.parse(text, caffe_pb2.NetParameter).layer[0].name == "a"


@pytest.mark.parametrize("engine", ["MKLDNN", "MKL2017"])
@pytest.mark.parametrize("field", ["convolution_param", "pooling_param", "relu_param", "softmax_param", "lrn_param"])
def test_libraries_of_forks(field, engine, capfd):
    text = f'layer {{ name: "a" {field} {{ engine: {engine}; }} }}'
    plain = prototxt.parse(f'layer {{ name: "a" {field} {{ }} }}', caffe_pb2.NetParameter)
    assert prototxt.parse(text, caffe_pb2.NetParameter) == plain
    assert "<string>:1: engine is left out" in capfd.readouterr().err


def test_v1_layers_of_deeplab():
    text = 'layers { name: "a" type: CONVOLUTION strict_dim: false convolution_param { hole: 2 } }'
    (layer,) = prototxt.parse(text, caffe_pb2.NetParameter).layers
    assert list(layer.convolution_param.hole) == [2]
    with pytest.raises(FatalError, match="not IMAGE_SEG_DATA; ImageSegData belongs to the forks DeepLab"):
        prototxt.parse("layers { type: IMAGE_SEG_DATA }", caffe_pb2.NetParameter)


def test_a_library_that_no_fork_has():
    with pytest.raises(FatalError, match="engine takes DEFAULT, CAFFE or CUDNN, not MKL"):
        prototxt.parse("layer { pooling_param { engine: MKL } }", caffe_pb2.NetParameter)


def test_errors_behind_them_keep_their_places():
    with pytest.raises(FatalError, match=r'<string>:2:10: no field named "bottoms" in LayerParameter'):
        prototxt.parse('layer { engine: "MKLDNN" name: "ü"\n  bottoms: "x" }', caffe_pb2.NetParameter)


@pytest.mark.parametrize("text", ["layer { engine }", "layer { engine: ", "layer { engine: { a: 1 "])
def test_unfinished_ones_are_errors(text):
    with pytest.raises(FatalError):
        prototxt.parse(text, caffe_pb2.NetParameter)


def test_other_fields_of_forks_are_refused():
    with pytest.raises(FatalError, match="rampup_lr belongs to the NVCaffe fork"):
        prototxt.parse("rampup_lr: 0.1", caffe_pb2.SolverParameter)
