"""Net: what a script reads and changes in it, its passes, its state, hooks, and lifetimes."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import caffetools.pycaffe as caffe
from tests.pycaffe.conftest import DEPLOY, SMALL


def random(*shape):
    return np.random.default_rng(5).random(shape, np.float32)


class TestMembers:
    def test_blobs(self, small):
        assert list(small.blobs) == [
            "data",
            "label",
            "conv",
            "ip_blob",
            "ip_blob_ip_0_split_0",
            "ip_blob_ip_0_split_1",
            "relu_blob",
            "twice",
            "loss",
        ]
        assert small.blobs["conv"].shape == (5, 11, 8, 9)

    def test_blob_sizes(self, small):
        blob = small.blobs["data"]
        assert (blob.num, blob.channels, blob.height, blob.width, blob.count) == (5, 2, 3, 4, 120)
        assert (small.blobs["loss"].shape, small.blobs["loss"].num, small.blobs["loss"].count) == ((), 1, 1)

    def test_arrays(self, small):
        for array in (small.blobs["data"].data, small.blobs["data"].diff):
            assert (array.shape, array.dtype, array.flags.c_contiguous) == ((5, 2, 3, 4), np.float32, True)

    def test_arrays_are_the_nets_memory(self, small):
        small.blobs["data"].data[...] = 7
        assert (small._net.blobs["data"].data == 7).all()
        small.params["ip"][0].data[...] = 3
        assert (small._net.layer_by_name["ip"].blobs[0].data == 3).all()

    def test_loss_weights(self, small):
        assert {name: weight for name, weight in small.blob_loss_weights.items() if weight} == {"loss": 1}

    def test_layers(self, small):
        assert [layer.type for layer in small.layers] == [
            "DummyData",
            "Convolution",
            "InnerProduct",
            "Split",
            "ReLU",
            "Power",
            "SoftmaxWithLoss",
        ]
        assert list(small.layer_dict) == ["data", "conv", "ip", "ip_blob_ip_0_split", "relu", "twice", "loss"]
        assert small.layer_dict["conv"] is small.layers[1]
        assert [blob.shape for blob in small.layers[1].blobs] == [(11, 2, 2, 2), (11,)]

    def test_params(self, small):
        assert list(small.params) == ["conv", "ip"]
        weight, bias = small.params["conv"]
        assert (weight.shape, bias.shape) == ((11, 2, 2, 2), (11,))
        assert (bias.data == 2).all()
        assert len(small.params["ip"]) == 2

    def test_inputs_and_outputs(self, small, deploy):
        assert (small.inputs, small.outputs) == ([], ["loss", "twice"])
        assert (deploy.inputs, deploy.outputs) == (["data"], ["ip"])

    def test_names_of_tops_and_bottoms(self, small):
        assert list(small.top_names.items())[:3] == [
            ("data", ["data", "label"]),
            ("conv", ["conv"]),
            ("ip", ["ip_blob"]),
        ]
        assert small.bottom_names["data"] == []
        assert small.bottom_names["loss"] == ["relu_blob", "label"]

    def test_index_of_a_layer(self, small):
        assert small._layer_names.index("ip") == 2


class TestForward:
    def test_all_layers(self, small):
        outputs = small.forward()
        assert sorted(outputs) == ["loss", "twice"]
        np.testing.assert_array_equal(outputs["twice"], 2 * small.blobs["ip_blob"].data)

    def test_inputs(self, deploy):
        x = random(4, 3)
        outputs = deploy.forward(data=x)
        weight, bias = (blob.data for blob in deploy.params["ip"])
        np.testing.assert_allclose(outputs["ip"], x @ weight.T + bias, rtol=1e-5)

    @pytest.mark.parametrize("convert", [np.float64, lambda x: np.asfortranarray(x), lambda x: x.tolist()])
    def test_inputs_are_converted(self, deploy, convert):
        x = random(4, 3)
        expected = deploy.forward(data=x)["ip"].copy()
        np.testing.assert_array_equal(deploy.forward(data=convert(x))["ip"], expected)

    def test_blobs_that_are_asked_for(self, small):
        outputs = small.forward(blobs=["conv", "ip_blob"])
        assert sorted(outputs) == ["conv", "ip_blob", "loss", "twice"]
        assert outputs["conv"].shape == (5, 11, 8, 9)

    def test_up_to_a_layer(self, small):
        small.blobs["ip_blob"].data[...] = 9
        assert list(small.forward(end="conv")) == ["conv"]
        assert (small.blobs["ip_blob"].data == 9).all()

    def test_from_a_layer(self, small):
        small.forward()
        small.blobs["ip_blob"].data[...] = 3
        assert (small.forward(start="ip_blob_ip_0_split")["twice"] == 6).all()

    def test_from_and_up_to_a_layer(self, small):
        small.forward()
        small.blobs["conv"].data[...] = 0
        small.params["ip"][1].data[...] = range(13)
        outputs = small.forward(start="ip", end="ip", blobs=["conv"])
        assert sorted(outputs) == ["conv", "ip_blob"]
        assert (outputs["ip_blob"] == np.arange(13)).all()

    def test_batch_of_another_size(self, deploy):
        x = random(7, 3)
        deploy.blobs["data"].reshape(7, 3)
        outputs = deploy.forward(data=x)
        weight, bias = (blob.data for blob in deploy.params["ip"])
        np.testing.assert_allclose(outputs["ip"], x @ weight.T + bias, rtol=1e-5)

    def test_reshape(self, deploy):
        deploy.blobs["data"].reshape(9, 3)
        assert deploy.blobs["ip"].shape == (4, 2)
        deploy.reshape()
        assert deploy.blobs["ip"].shape == (9, 2)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"x": np.zeros((4, 3))}, r"Input blob arguments do not match net inputs. \(x vs. data\)"),
            ({"data": np.zeros((3, 3))}, r"Input is not batch sized \('data': \(3, 3\) vs. \(4, 3\)\)"),
            ({"start": "pi"}, r"The net has no layer 'pi' \(layers: data, ip\)"),
            ({"end": "pi"}, "The net has no layer 'pi'"),
        ],
    )
    def test_refusals(self, deploy, options, words):
        with pytest.raises(RuntimeError, match=words):
            deploy.forward(**options)


class TestBackward:
    def test_all_layers(self, small):
        small.forward()
        assert small.backward() == {}
        for layer in ("conv", "ip"):
            assert all(np.abs(blob.diff).sum() > 0 for blob in small.params[layer])

    def test_gradient(self, write):
        net = caffe.Net(write("force_backward: true" + DEPLOY), caffe.TRAIN)
        x, dy = random(4, 3), random(4, 2)
        net.forward(data=x)
        net.clear_param_diffs()
        diffs = net.backward(ip=dy)
        weight, bias = net.params["ip"]
        np.testing.assert_allclose(diffs["data"], dy @ weight.data, rtol=1e-5)
        np.testing.assert_allclose(weight.diff, dy.T @ x, rtol=1e-5)
        np.testing.assert_allclose(bias.diff, dy.sum(0), rtol=1e-5)

    def test_from_a_layer_down_to_another(self, small):
        small.forward()
        small.blobs["ip_blob"].diff[...] = 1
        small.clear_param_diffs()
        diffs = small.backward(start="ip", end="ip", diffs=["data"])
        assert sorted(diffs) == ["conv", "data"]
        assert (small.params["ip"][1].diff == 5).all()
        assert (small.params["conv"][1].diff == 0).all()
        wanted = small.params["ip"][0].data.sum(0, dtype=np.float64)
        # Some sums are far smaller than what is added.
        np.testing.assert_allclose(diffs["conv"].reshape(5, -1), [wanted] * 5, rtol=1e-4, atol=1e-6)

    def test_gradients_are_cleared(self, small):
        small.forward()
        small.backward()
        small.clear_param_diffs()
        assert not any(blob.diff.any() for blobs in small.params.values() for blob in blobs)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"x": np.zeros((4, 2))}, r"Top diff arguments do not match net outputs. \(x vs. ip\)"),
            ({"ip": np.zeros((3, 2))}, r"Diff is not batch sized \('ip': \(3, 2\) vs. \(4, 2\)\)"),
            ({"start": "pi"}, "The net has no layer 'pi'"),
        ],
    )
    def test_refusals(self, deploy, options, words):
        with pytest.raises(RuntimeError, match=words):
            deploy.backward(**options)


class TestState:
    """Which layers a net has, by phase, level and stages."""

    TEXT = """
        layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 } } }
        layer { name: "level0" type: "AbsVal" bottom: "data" top: "level0" include { max_level: 0 } }
        layer { name: "level1" type: "AbsVal" bottom: "data" top: "level1" include { min_level: 1 } }
        layer { name: "A" type: "AbsVal" bottom: "data" top: "A" include { stage: "A" } }
        layer { name: "B" type: "AbsVal" bottom: "data" top: "B" include { stage: "B" } }
        layer { name: "AB" type: "AbsVal" bottom: "data" top: "AB" include { stage: "A" stage: "B" } }
        layer { name: "notA" type: "AbsVal" bottom: "data" top: "notA" include { not_stage: "A" } }
        layer { name: "train" type: "AbsVal" bottom: "data" top: "train" include { phase: TRAIN } }
    """

    @pytest.mark.parametrize(
        ("phase", "options", "outputs"),
        [
            (caffe.TEST, {}, ["level0", "notA"]),
            (caffe.TRAIN, {}, ["level0", "notA", "train"]),
            (caffe.TEST, {"level": 0}, ["level0", "notA"]),
            (caffe.TEST, {"level": 1}, ["level1", "notA"]),
            (caffe.TEST, {"stages": ["A"]}, ["A", "level0"]),
            (caffe.TEST, {"stages": ["B"]}, ["B", "level0", "notA"]),
            (caffe.TEST, {"stages": ["A", "B"]}, ["A", "AB", "B", "level0"]),
            (caffe.TEST, {"stages": ("A",), "level": 2}, ["A", "level1"]),
        ],
    )
    def test_layers(self, write, phase, options, outputs):
        assert caffe.Net(write(self.TEXT), phase, **options).outputs == outputs

    ALL_IN_ONE = """
        layer {
          name: "train_data" type: "DummyData" top: "data" top: "label"
          dummy_data_param { shape { dim: 1 dim: 10 } shape { dim: 1 } }
          include { phase: TRAIN stage: "train" }
        }
        layer {
          name: "val_data" type: "DummyData" top: "data" top: "label"
          dummy_data_param { shape { dim: 1 dim: 10 } shape { dim: 1 } } include { phase: TEST stage: "val" }
        }
        layer {
          name: "deploy_data" type: "Input" top: "data"
          input_param { shape { dim: 1 dim: 10 } } include { phase: TEST stage: "deploy" }
        }
        layer {
          name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 2 }
        }
        layer {
          name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss"
          include { phase: TRAIN stage: "train" } include { phase: TEST stage: "val" }
        }
        layer {
          name: "prob" type: "Softmax" bottom: "ip" top: "prob" include { phase: TEST stage: "deploy" }
        }
    """

    @pytest.mark.parametrize(
        ("phase", "stage", "outputs"),
        [
            (caffe.TRAIN, "train", ["loss"]),
            (caffe.TEST, "val", ["loss"]),
            (caffe.TEST, "deploy", ["prob"]),
        ],
    )
    def test_all_in_one_net(self, write, phase, stage, outputs):
        net = caffe.Net(write(self.ALL_IN_ONE), phase, stages=[stage])
        assert net.outputs == outputs
        net.forward()


class TestHooks:
    def test_every_layer_is_announced(self, small):
        calls = []
        for name in ("before_forward", "after_forward", "before_backward", "after_backward"):
            getattr(small, name)(lambda i, name=name: calls.append((name, i)))
        small.forward()
        small.backward()
        layers = range(len(small.layers))
        assert calls == [
            *((f"{when}_forward", i) for i in layers for when in ("before", "after")),
            *((f"{when}_backward", i) for i in reversed(layers) for when in ("before", "after")),
        ]

    def test_only_layers_of_the_pass(self, small):
        calls = []
        small.before_forward(calls.append)
        small.forward(start="conv", end="ip")
        assert calls == [1, 2]

    def test_a_hook_may_change_what_the_layer_sees(self, deploy):
        def fill(i):
            if deploy._layer_names[i] == "ip":
                deploy.blobs["data"].data[...] = 0

        deploy.params["ip"][1].data[...] = [8, 9]
        deploy.before_forward(fill)
        assert (deploy.forward(data=random(4, 3))["ip"] == [8, 9]).all()


class TestLifetime:
    def test_arrays_outlive_the_net(self, small):
        small.forward()
        arrays = [small.params["conv"][0].data, small.params["ip"][1].diff, small.blobs["conv"].data]
        expected = [array.copy() for array in arrays]
        self.check_collected(weakref.ref(small._net), lambda: small.__dict__.clear())
        for array, values in zip(arrays, expected, strict=True):
            np.testing.assert_array_equal(array, values)
            array += 1

    def test_blobs_outlive_the_net(self, write):
        net = caffe.Net(write(SMALL), caffe.TRAIN)
        net.forward()
        blob, params = net.blobs["conv"], net.params["ip"]
        del net
        gc.collect()
        assert blob.data.shape == (5, 11, 8, 9)
        params[0].data[...] += 1

    @staticmethod
    def check_collected(gone, drop):
        drop()
        gc.collect()
        assert gone() is None
