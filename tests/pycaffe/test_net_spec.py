"""Nets written in Python become the prototxts that a person would have written."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf import text_format

import caffetools.pycaffe as caffe
from caffetools.formats import prototxt
from caffetools.proto import caffe_pb2
from caffetools.pycaffe import NetSpec, to_proto
from caffetools.pycaffe import layers as L
from caffetools.pycaffe import params as P
from caffetools.pycaffe.net_spec import assign_proto, param_name_dict


def lenet(layer_names):
    """Return the text of a small LeNet, with the layers' names in their order; tops have the same names."""
    data, label, conv1, pool1, conv2, pool2, ip1, relu1, ip2, loss = layer_names
    xavier = 'weight_filler { type: "xavier" }'
    return f"""
    layer {{
      name: "{data}" type: "DummyData" top: "{data}" top: "{label}"
      dummy_data_param {{
        shape {{ dim: 4 dim: 1 dim: 28 dim: 28 }} shape {{ dim: 4 dim: 1 dim: 1 dim: 1 }}
        data_filler {{ type: "constant" }}
      }}
    }}
    layer {{
      name: "{conv1}" type: "Convolution" bottom: "{data}" top: "{conv1}"
      convolution_param {{ kernel_size: 5 num_output: 20 {xavier} }}
    }}
    layer {{
      name: "{pool1}" type: "Pooling" bottom: "{conv1}" top: "{pool1}"
      pooling_param {{ kernel_size: 2 stride: 2 pool: MAX }}
    }}
    layer {{
      name: "{conv2}" type: "Convolution" bottom: "{pool1}" top: "{conv2}"
      convolution_param {{ kernel_size: 5 num_output: 50 {xavier} }}
    }}
    layer {{
      name: "{pool2}" type: "Pooling" bottom: "{conv2}" top: "{pool2}"
      pooling_param {{ kernel_size: 2 stride: 2 pool: MAX }}
    }}
    layer {{
      name: "{ip1}" type: "InnerProduct" bottom: "{pool2}" top: "{ip1}"
      inner_product_param {{ num_output: 500 {xavier} }}
    }}
    layer {{ name: "{relu1}" type: "ReLU" bottom: "{ip1}" top: "{ip1}" }}
    layer {{
      name: "{ip2}" type: "InnerProduct" bottom: "{ip1}" top: "{ip2}" param {{ lr_mult: 2 }} param {{ lr_mult: 0 }}
      inner_product_param {{ num_output: 10 {xavier} }}
    }}
    layer {{ name: "{loss}" type: "SoftmaxWithLoss" bottom: "{ip2}" bottom: "{label}" top: "{loss}" }}
    """


def expressions(n):
    """Write the same net as expressions; with named blobs in `n`, or as one anonymous expression."""
    xavier = {"type": "xavier"}
    n["data"], n["label"] = L.DummyData(
        shape=[{"dim": [4, 1, 28, 28]}, {"dim": [4, 1, 1, 1]}], data_filler={"type": "constant"}, ntop=2
    )
    n["conv1"] = L.Convolution(n["data"], kernel_size=5, num_output=20, weight_filler=xavier)
    n["pool1"] = L.Pooling(n["conv1"], kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n["conv2"] = L.Convolution(
        n["pool1"], convolution_param={"kernel_size": [5], "num_output": 50, "weight_filler": xavier}
    )
    n["pool2"] = L.Pooling(n["conv2"], kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n["ip1"] = L.InnerProduct(n["pool2"], num_output=500, weight_filler=xavier)
    n["relu1"] = L.ReLU(n["ip1"], in_place=True)
    n["ip2"] = L.InnerProduct(
        n["relu1"], num_output=10, weight_filler=xavier, param=[{"lr_mult": 2}, {"lr_mult": 0}]
    )
    n["loss"] = L.SoftmaxWithLoss(n["ip2"], n["label"])
    return n


def parsed(text):
    return text_format.Parse(text, caffe_pb2.NetParameter())


class TestLeNet:
    NAMES = ["data", "label", "conv1", "pool1", "conv2", "pool2", "ip1", "relu1", "ip2", "loss"]

    def test_named(self):
        assert expressions(NetSpec()).to_proto() == parsed(lenet(self.NAMES))

    def test_anonymous(self):
        names = [
            "DummyData1", "DummyData2", "Convolution1", "Pooling1", "Convolution2", "Pooling2", "InnerProduct1",
            "ReLU1", "InnerProduct2", "SoftmaxWithLoss1",
        ]  # fmt: skip
        loss = expressions({})["loss"]
        expected = parsed(lenet(names))
        assert to_proto(loss) == loss.to_proto() == expected

    @pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
    def test_as_a_net(self, write, phase):
        net = caffe.Net(write(str(expressions(NetSpec()).to_proto())), phase)
        assert net.blobs["ip2"].shape == (4, 10)
        net.forward()


class TestNames:
    def test_layers_without_tops(self):
        n = NetSpec()
        n.data = L.Input(shape={"dim": [1, 2]})
        n.silence = L.Silence(n.data, ntop=0)
        first, second = n.to_proto().layer
        assert (second.name, second.type, list(second.bottom), list(second.top)) == (
            "silence",
            "Silence",
            ["data"],
            [],
        )

    def test_anonymous_layer_without_tops(self):
        assert L.Silence(L.Input(), ntop=0).to_proto().layer[1].name == "Silence1"

    def test_blobs_that_only_others_need(self):
        n = NetSpec()
        n.sum = L.Eltwise(L.ReLU(L.Input()), L.ReLU(L.Input()))
        assert [layer.name for layer in n.to_proto().layer] == ["Input1", "ReLU1", "Input2", "ReLU2", "sum"]

    def test_several_tops(self):
        n = NetSpec()
        x = L.Input()
        n.left, n.right = L.Slice(x, ntop=2, slice_point=[1])
        assert [list(layer.top) for layer in n.to_proto().layer] == [["Input1"], ["left", "right"]]
        assert n.to_proto().layer[1].slice_param.slice_point == [1]

    def test_order_is_that_of_the_assignments(self):
        n = NetSpec()
        n.a = L.Input()
        n.c = L.ReLU(n.a)
        n.b = L.TanH(n.a)
        assert [layer.name for layer in n.to_proto().layer] == ["a", "c", "b"]

    def test_container(self):
        n = NetSpec()
        n.update({"a": L.Input(), "b": L.Input()})
        assert n.keys() == ["a", "b"] and n.vals() == [n.a, n["b"]] and "a" in n
        del n.a
        del n["b"]
        assert n.keys() == [] and "a" not in n
        with pytest.raises(AttributeError, match="The net has no blob 'a'"):
            n.a  # noqa: B018
        with pytest.raises(KeyError):
            n["a"]

    def test_deep_nets(self):
        top = L.Input()
        for _ in range(3000):
            top = L.ReLU(top)
        assert to_proto(top).layer[3000].name == "ReLU3000"


class TestParameters:
    @pytest.mark.parametrize(
        ("top", "text"),
        [
            (L.Input(name="x"), 'name: "x"'),
            (L.Power(scale=3), 'power_param { scale: 3 }'),
            (L.Input(shape={"dim": (1, 2)}), "input_param { shape { dim: 1 dim: 2 } }"),
            (L.Input(input_param={"shape": {"dim": 1}}), "input_param { shape { dim: 1 } }"),
            (L.Data(source="a", backend=P.Data.LMDB), 'data_param { source: "a" backend: LMDB }'),
            (L.Data(transform_param={"crop_size": 3}), "transform_param { crop_size: 3 }"),
            (L.EuclideanLoss(loss_weight=2), "loss_weight: 2"),
            (L.EuclideanLoss(loss_weight=[2, 1]), "loss_weight: 2 loss_weight: 1"),
            (L.Python(module="m", layer="C", param_str="x"), 'python_param { module: "m" layer: "C" param_str: "x" }'),
            (L.ReLU(include={"phase": caffe.TEST}), "include { phase: TEST }"),
            (L.ReLU(relu_param={}), "relu_param { }"),
            (L.Scale(bias_term=True, filler={"value": 2.5}), "scale_param { bias_term: true filler { value: 2.5 } }"),
            (L.Convolution(pad=[np.int32(1), np.int64(2)]), "convolution_param { pad: 1 pad: 2 }"),
            (L.LSTM(recurrent_param={"num_output": 4}), "recurrent_param { num_output: 4 }"),
            (L.Bias(filler=caffe_pb2.FillerParameter(type="msra")), 'bias_param { filler { type: "msra" } }'),
        ],
    )  # fmt: skip
    def test_fields(self, top, text):
        (layer,) = top.to_proto().layer
        expected = caffe_pb2.LayerParameter(
            name=layer.name, type=top.fn.type_name, top=[f"{top.fn.type_name}1"]
        )
        expected.MergeFrom(text_format.Parse(text, caffe_pb2.LayerParameter()))
        assert layer == expected

    @pytest.mark.parametrize(
        ("call", "error", "words"),
        [
            (lambda: L.Convolution(L.Input(), 3), TypeError, "Convolution input 1 is not a Top .type is .*int"),
            (lambda: L.ReLU(L.Slice(ntop=2)), TypeError, "ReLU input 0 is not a Top .type is .*tuple"),
            (
                lambda: L.Convolution(kernal_size=3).to_proto(),
                AttributeError,
                "Convolution layer 'Convolution1', kernal_size: ConvolutionParameter has no field kernal_size, "
                "did you mean kernel_size?",
            ),
            (lambda: L.SoftmaxWithLoss(normalise=3).to_proto(), AttributeError, "no field normalise"),
            (
                lambda: L.ReLU(relu_param={"slope": 1}).to_proto(),
                AttributeError,
                "ReLU layer 'ReLU1', relu_param: ReLUParameter has no field slope",
            ),
            (lambda: L.Power(scale="x").to_proto(), TypeError, "Power layer 'Power1', scale: "),
            (lambda: P.Pooling.MAXIMUM, AttributeError, "MAXIMUM"),
            (lambda: P.Poling, AttributeError, "There is no message PolingParameter"),
        ],
    )  # fmt: skip
    def test_refusals(self, call, error, words):
        with pytest.raises(error, match=words):
            call()

    def test_values_of_enumerations(self):
        assert (P.Pooling.AVE, P.Eltwise.PROD, P.Loss.NONE) == (1, 0, 3)

    def test_messages_of_types(self):
        names = param_name_dict()
        assert names["Convolution"] == "convolution" and names["InnerProduct"] == "inner_product"
        assert names["ELU"] == "elu" and names["Transformation"] == "transform"
        assert len(names) == sum(
            field.name.endswith("_param") for field in caffe_pb2.LayerParameter.DESCRIPTOR.fields
        )

    def test_assign_proto(self):
        solver = caffe_pb2.SolverParameter()
        for name, val in {
            "base_lr": 0.5,
            "stepvalue": [1, 2],
            "test_iter": 7,
            "net_param": {"layer": [{"name": "a"}]},
        }.items():
            assign_proto(solver, name, val)
        assert prototxt.dumps(solver) == (
            'test_iter: 7\nbase_lr: 0.5\nnet_param {\n  layer {\n    name: "a"\n  }\n}\nstepvalue: 1\nstepvalue: 2\n'
        )
