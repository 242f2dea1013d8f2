"""Python layers in nets: values, gradients, shapes, parameters, phases, exceptions, and a training run."""

from __future__ import annotations

import numpy as np
import pytest

import caffetools.pycaffe as caffe


class TimesTen(caffe.Layer):
    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        top[0].data[...] = 10 * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = 10 * top[0].diff


class TimesParam(TimesTen):
    def setup(self, bottom, top):
        self.value = float(self.param_str)

    def forward(self, bottom, top):
        top[0].data[...] = self.value * bottom[0].data


class Failing(TimesTen):
    def forward(self, bottom, top):
        raise ValueError("not today")


class Learnt(caffe.Layer):
    """A parameter of one number, whose gradient is always 1."""

    def setup(self, bottom, top):
        self.blobs.add_blob(1)
        self.blobs[0].data[0] = 0

    def reshape(self, bottom, top):
        top[0].reshape(1)

    def forward(self, bottom, top):
        top[0].data[0] = self.blobs[0].data[0]

    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[0] += 1


class Phase(caffe.Layer):
    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape()

    def forward(self, bottom, top):
        top[0].data[()] = self.phase


class EuclideanLoss(caffe.Layer):
    def setup(self, bottom, top):
        if len(bottom) != 2:
            raise Exception("Need two inputs to compute distance.")

    def reshape(self, bottom, top):
        self.difference = np.zeros_like(bottom[0].data)
        top[0].reshape(1)

    def forward(self, bottom, top):
        self.difference[...] = bottom[0].data - bottom[1].data
        top[0].data[...] = np.sum(self.difference**2) / bottom[0].num / 2.0

    def backward(self, top, propagate_down, bottom):
        for i, sign in enumerate((1, -1)):
            if propagate_down[i]:
                bottom[i].diff[...] = sign * self.difference / bottom[i].num


def python(cls, name, bottoms=(), more="", param_str=""):
    blobs = "".join(f'bottom: "{bottom}" ' for bottom in bottoms)
    return (
        f'layer {{ type: "Python" name: "{name}" {blobs} top: "{name}" {more} '
        f'python_param {{ module: "{__name__}" layer: "{cls.__name__}" param_str: "{param_str}" }} }}'
    )


def three_in_a_row(cls=TimesTen, params=("", "", "")):
    data = 'layer { type: "Input" name: "data" top: "data" input_param { shape { dim: 10 dim: 9 dim: 8 } } }'
    bottoms = ("data", "one", "two")
    rows = [
        python(cls, *row)
        for row in zip(("one", "two", "three"), ((b,) for b in bottoms), ("",) * 3, params, strict=True)
    ]
    return "\n".join(["force_backward: true", data, *rows])


@pytest.fixture
def net(write):
    return caffe.Net(write(three_in_a_row()), caffe.TRAIN)


def test_forward(net):
    x = np.random.default_rng(2).random((10, 9, 8), np.float32)
    np.testing.assert_allclose(net.forward(data=x)["three"], 1000 * x, rtol=1e-6)


def test_backward(net):
    assert (net.backward(three=np.full((10, 9, 8), 7))["data"] == 7000).all()


def test_reshape(net):
    sizes = (4, 5, 6, 7)
    net.blobs["data"].reshape(*sizes)
    net.forward()
    assert all(blob.data.shape == sizes for blob in net.blobs.values())


def test_param_str(write):
    net = caffe.Net(write(three_in_a_row(TimesParam, ("2", "-3", "0.5"))), caffe.TRAIN)
    net.blobs["data"].data[...] = 4
    assert (net.forward()["three"] == -12).all()


@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
def test_phase(write, phase):
    assert caffe.Net(write(python(Phase, "phase")), phase).forward()["phase"] == phase


def test_objects_of_the_class_are_the_nets_layers(write):
    net = caffe.Net(write(three_in_a_row(TimesParam, ("2", "-3", "0.5"))), caffe.TRAIN)
    assert [layer.value for layer in net.layers[1:]] == [2, -3, 0.5]
    assert isinstance(net.layer_dict["two"], TimesParam)
    assert net.layer_dict["two"].type == "Python"
    net.layers[1].value = 1
    net.blobs["data"].data[...] = 4
    assert (net.forward()["three"] == -6).all()


def test_exception(write):
    net = caffe.Net(write(three_in_a_row(Failing)), caffe.TEST)
    with pytest.raises(
        RuntimeError, match="Layer 'one' .class Failing .* failed in forward: ValueError: not"
    ) as error:
        net.forward()
    assert isinstance(error.value.__cause__, ValueError)
    assert "test_python_layer.py" in str(error.value)


class TestParameter:
    @pytest.fixture
    def learnt(self, write):
        return caffe.Net(write(python(Learnt, "learnt")), caffe.TRAIN)

    def test_value(self, learnt):
        assert list(learnt.params) == ["learnt"]
        learnt.params["learnt"][0].data[0] = 4
        assert learnt.forward()["learnt"] == 4

    def test_gradients_add_up(self, write):
        net = caffe.Net(write(python(Learnt, "learnt", more="loss_weight: 1")), caffe.TRAIN)
        for passes in (1, 2):
            net.forward()
            net.backward()
            assert net.params["learnt"][0].diff[0] == passes
        net.clear_param_diffs()
        assert net.params["learnt"][0].diff[0] == 0

    @pytest.mark.parametrize(("save", "load"), [("save", "copy_from"), ("save_hdf5", "load_hdf5")])
    def test_save_and_load(self, learnt, save, load):
        learnt.params["learnt"][0].data[0] = 0.75
        getattr(learnt, save)("weights")
        other = caffe.Net("net.prototxt", caffe.TRAIN)
        assert other.params["learnt"][0].data[0] == 0
        getattr(other, load)("weights")
        assert other.params["learnt"][0].data[0] == 0.75


def test_training_with_a_loss_in_python(write):
    """A line through points by gradient descent, with the same steps as the built-in loss takes."""
    data = """
        layer {
          type: "DummyData" name: "data" top: "x" top: "y"
          dummy_data_param {
            shape { dim: 6 dim: 2 } shape { dim: 6 dim: 1 }
            data_filler { type: "constant" value: 2 } data_filler { type: "constant" value: 3 }
          }
        }
        layer {
          type: "InnerProduct" name: "ip" bottom: "x" top: "ip"
          inner_product_param { num_output: 1 weight_filler { type: "constant" value: 0.1 } }
        }
    """
    built_in = 'layer { type: "EuclideanLoss" name: "loss" bottom: "ip" bottom: "y" top: "loss" }'
    in_python = python(EuclideanLoss, "loss", ("ip", "y"), "loss_weight: 1")
    weights, losses = [], []
    for loss in (built_in, in_python):
        write(data + loss)
        write(
            'net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" momentum: 0.9 type: "SGD"',
            "solver.prototxt",
        )
        solver = caffe.get_solver("solver.prototxt")
        solver.step(20)
        weights.append(solver.net.params["ip"][0].data.copy())
        losses.append(solver.net.blobs["loss"].data.item())
    np.testing.assert_allclose(weights[1], weights[0], rtol=1e-6)
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[0] < 0.5 < (0.4 - 3) ** 2 / 2
