"""What people do with the Python interface: the subjects of the original's notebooks, as short programs."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

import caffetools.pycaffe as caffe
from caffetools.proto import caffe_pb2
from caffetools.pycaffe import layers as L
from caffetools.pycaffe import params as P

XAVIER = {"type": "xavier"}


@pytest.fixture
def make(write):
    """Return a function that writes a NetSpec to a file and builds the net."""

    def make(spec, phase=caffe.TEST, name="net.prototxt", **options):
        return caffe.Net(write(str(spec.to_proto()), name), phase, **options)

    return make


@pytest.fixture
def make_solver(write):
    """Return a function that writes a NetSpec and settings to files and builds the solver."""

    def make_solver(spec, name="train.prototxt", **settings):
        param = caffe_pb2.SolverParameter(
            net=write(str(spec.to_proto()), name), lr_policy="fixed", snapshot_prefix="model", **settings
        )
        return caffe.get_solver(write(str(param), "solver.prototxt"))

    return make_solver


def write_hdf5(name="data.h5", **arrays):
    with h5py.File(name, "w") as file:
        for key, array in arrays.items():
            file[key] = array.astype(np.float32)
    with open(f"{name}.txt", "w") as file:
        file.write(name + "\n")
    return f"{name}.txt"


def two_clouds(count=200):
    """Return points (count, 4) around two centres, and which of them each belongs to."""
    random = np.random.default_rng(8)
    label = random.integers(0, 2, count)
    centres = np.array([[1, -1, 0.5, 0], [-0.5, 1, 0, 0.5]])
    return centres[label] + random.normal(0, 0.4, (count, 4)), label


class TestNetSurgery:
    @staticmethod
    def classifier(data, convolutional):
        n = caffe.NetSpec()
        n.data = data
        n.conv1 = L.Convolution(n.data, kernel_size=3, num_output=4, weight_filler=XAVIER)
        n.relu1 = L.ReLU(n.conv1, in_place=True)
        n.pool1 = L.Pooling(n.relu1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
        if convolutional:
            n.fc_conv = L.Convolution(n.pool1, kernel_size=3, num_output=5)
        else:
            n.fc = L.InnerProduct(n.pool1, num_output=5, weight_filler=XAVIER, bias_filler={"value": 0.3})
        return n

    def test_fully_convolutional_net(self, make):
        """A classifier's weights in a net for larger pictures: a map of what the classifier says about crops."""
        net = make(self.classifier(L.Input(shape={"dim": [1, 3, 8, 8]}), convolutional=False))
        net.save("net.caffemodel")
        picture = np.random.default_rng(2).random((1, 3, 12, 14), np.float32)
        full = make(
            self.classifier(L.Input(shape={"dim": list(picture.shape)}), convolutional=True),
            name="full.prototxt",
            weights="net.caffemodel",
        )
        full.params["fc_conv"][0].data.flat = net.params["fc"][0].data.flat
        full.params["fc_conv"][1].data[...] = net.params["fc"][1].data
        scores = full.forward(data=picture)["fc_conv"]
        assert scores.shape == (1, 5, 3, 4)
        for i in range(3):
            for j in range(4):
                crop = picture[:, :, 2 * i : 2 * i + 8, 2 * j : 2 * j + 8]
                np.testing.assert_allclose(
                    net.forward(data=crop)["fc"][0], scores[0, :, i, j], rtol=1e-4, atol=1e-5
                )

    def test_weights_are_edited_and_saved(self, make):
        n = caffe.NetSpec()
        n.data = L.Input(shape={"dim": [1, 1, 6, 6]})
        n.edges = L.Convolution(
            n.data, kernel_size=3, num_output=2, weight_filler={"type": "gaussian", "std": 0.1}
        )
        net = make(n)
        sobel = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]])
        net.params["edges"][0].data[0, 0] = sobel
        net.params["edges"][0].data[1] = sobel.T
        net.params["edges"][1].data[:] = 7
        net.save("edges.caffemodel")
        ramp = np.add.outer(np.zeros(6), 3 * np.arange(6.0))[None, None]
        for weights in ("edges.caffemodel", None):
            again = make(n, weights=weights) if weights else net
            maps = again.forward(data=ramp)["edges"]
            np.testing.assert_allclose(maps[0, 0], -24 + 7)  # a slope of 3, over two pixels, four times
            np.testing.assert_allclose(maps[0, 1], 7, atol=1e-5)


def test_filters_and_activations_as_pictures(make):
    """Tiles of filters, normalised on a copy, and the largest activations: the net stays as it is."""
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [2, 3, 9, 9]})
    n.conv1 = L.Convolution(n.data, kernel_size=3, num_output=8, weight_filler=XAVIER)
    n.prob = L.Softmax(L.InnerProduct(n.conv1, num_output=6, weight_filler=XAVIER))
    net = make(n)
    outputs = net.forward(data=np.random.default_rng(1).random((2, 3, 9, 9)))
    filters = net.params["conv1"][0].data.copy().transpose(0, 2, 3, 1)
    before = filters.copy()
    filters -= filters.min()
    filters /= filters.max()
    tiles = np.pad(filters, ((0, 1), (0, 1), (0, 1), (0, 0)), constant_values=1)
    tiles = tiles.reshape(3, 3, 4, 4, 3).transpose(0, 2, 1, 3, 4).reshape(12, 12, 3)
    assert (tiles[11] == 1).all() and (tiles[:, 3] == 1).all()
    np.testing.assert_array_equal(tiles[4:7, 4:7], filters[4])
    np.testing.assert_array_equal(net.params["conv1"][0].data, before.transpose(0, 3, 1, 2))
    counts, _ = np.histogram(net.blobs["conv1"].data[0].flat, bins=10)
    assert counts.sum() == 8 * 7 * 7
    top = outputs["prob"][0].argsort()[::-1][:5]
    assert (np.diff(outputs["prob"][0][top]) <= 0).all()
    np.testing.assert_allclose(outputs["prob"].sum(1), 1, rtol=1e-5)


class TestLogisticRegression:
    @staticmethod
    def spec(source, batch_size):
        n = caffe.NetSpec()
        n.data, n.label = L.HDF5Data(source=source, batch_size=batch_size, ntop=2)
        n.ip = L.InnerProduct(n.data, num_output=2, weight_filler=XAVIER)
        n.accuracy = L.Accuracy(n.ip, n.label, include={"phase": caffe.TEST})
        n.loss = L.SoftmaxWithLoss(n.ip, n.label)
        return n

    def test_same_steps_as_a_formula(self, make_solver):
        x, label = two_clouds(60)
        solver = make_solver(self.spec(write_hdf5(data=x, label=label), 60), base_lr=0.5, type="SGD")
        weight, bias = (blob.data.astype(np.float64) for blob in solver.net.params["ip"])
        for _ in range(10):
            scores = np.exp(x @ weight.T + bias)
            error = (scores / scores.sum(1, keepdims=True) - np.eye(2)[label]) / len(x)
            weight, bias = weight - 0.5 * error.T @ x, bias - 0.5 * error.sum(0)
        solver.step(10)
        np.testing.assert_allclose(solver.net.params["ip"][0].data, weight, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(solver.net.params["ip"][1].data, bias, rtol=1e-4, atol=1e-6)

    def test_accuracy_rises(self, make_solver):
        x, label = two_clouds()
        source = write_hdf5(data=x, label=label)
        solver = make_solver(
            self.spec(source, 20), base_lr=0.5, type="SGD", max_iter=100, test_iter=[10], test_interval=1000
        )
        (test_net,) = solver.test_nets
        solver.net.params["ip"][0].data[...] = 0
        solver.solve()
        accuracy = np.mean([test_net.forward()["accuracy"] for _ in range(10)])
        assert accuracy > 0.95


def test_fine_tuning_with_another_last_layer(make_solver):
    """Weights of a net for two classes go into one for four, whose last layer alone is new and learns."""

    def spec(source, last, classes, frozen):
        n = caffe.NetSpec()
        n.data, n.label = L.HDF5Data(source=source, batch_size=40, ntop=2)
        rates = {"param": [{"lr_mult": 0}, {"lr_mult": 0}]} if frozen else {}
        n.ip1 = L.InnerProduct(n.data, num_output=32, weight_filler=XAVIER, **rates)
        n.relu1 = L.ReLU(n.ip1, in_place=True)
        n[last] = L.InnerProduct(n.relu1, num_output=classes, weight_filler=XAVIER)
        n.loss = L.SoftmaxWithLoss(n[last], n.label)
        return n

    x, label = two_clouds()
    first = make_solver(spec(write_hdf5(data=x, label=label), "score", 2, False), base_lr=0.1, type="SGD")
    first.step(50)
    first.net.save("first.caffemodel")

    quarters = 2 * label + (x[:, 3] > 0.25)
    source = write_hdf5("quarters.h5", data=x, label=quarters)
    tuned = make_solver(spec(source, "score_quarters", 4, True), base_lr=0.01, type="Adam", momentum=0.9)
    tuned.net.copy_from("first.caffemodel")
    kept = first.net.params["ip1"]
    np.testing.assert_array_equal(tuned.net.params["ip1"][0].data, kept[0].data)
    losses = []
    for _ in range(300):
        tuned.step(1)
        losses.append(tuned.net.blobs["loss"].data.item())
    for mine, theirs in zip(tuned.net.params["ip1"], kept, strict=True):
        np.testing.assert_array_equal(mine.data, theirs.data)
    assert np.mean(losses[-5:]) < 0.5 < losses[0]


def test_siamese_net(make_solver, make):
    """Two branches share their weights by name and learn to put points of one kind together."""

    def branch(n, data, suffix):
        def shared(name):
            return [{"name": f"{name}_w", "lr_mult": 1}, {"name": f"{name}_b", "lr_mult": 2}]

        ip1 = n[f"ip1{suffix}"] = L.InnerProduct(
            data, num_output=16, weight_filler=XAVIER, param=shared("ip1")
        )
        relu = n[f"relu1{suffix}"] = L.ReLU(ip1, in_place=True)
        n[f"feat{suffix}"] = L.InnerProduct(relu, num_output=2, weight_filler=XAVIER, param=shared("feat"))

    x, label = two_clouds()
    other = np.random.default_rng(4).permutation(len(x))
    source = write_hdf5(pair=np.concatenate([x, x[other]], 1), sim=label == label[other])
    n = caffe.NetSpec()
    n.pair, n.sim = L.HDF5Data(source=source, batch_size=50, ntop=2)
    n.data, n.data_p = L.Slice(n.pair, axis=1, ntop=2)
    branch(n, n.data, "")
    branch(n, n.data_p, "_p")
    n.loss = L.ContrastiveLoss(n.feat, n.feat_p, n.sim, margin=1)
    solver = make_solver(n, base_lr=0.01, type="Adam", momentum=0.9)
    solver.step(1)
    first = solver.net.blobs["loss"].data.item()
    solver.step(200)
    assert solver.net.blobs["loss"].data < 0.25 * first
    for name in ("ip1", "feat"):
        mine, theirs = solver.net.params[name], solver.net.params[f"{name}_p"]
        assert all(np.shares_memory(a.data, b.data) for a, b in zip(mine, theirs, strict=True))
    solver.net.save("siamese.caffemodel")

    half = caffe.NetSpec()
    half.data = L.Input(shape={"dim": [len(x), 4]})
    branch(half, half.data, "")
    features = make(half, weights="siamese.caffemodel").forward(data=x)["feat"]
    centres = [features[label == kind].mean(0) for kind in (0, 1)]
    nearer = np.argmin([np.linalg.norm(features - centre, axis=1) for centre in centres], axis=0)
    assert (nearer == label).mean() > 0.95


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_recurrent_net_on_sequences(make_solver, kind):
    """Learn to say the input before the present one, which no net without a memory can."""
    steps, streams = 12, 20
    x = np.random.default_rng(3).uniform(-1, 1, (steps, streams, 1))
    cont = np.ones((steps, streams))
    cont[[0, 6]] = 0  # two sequences in each stream
    target = np.concatenate([np.zeros((1, streams, 1)), x[:-1]])
    target[6] = 0
    n = caffe.NetSpec()
    n.x, n.cont, n.target = L.HDF5Data(
        source=write_hdf5(x=x, cont=cont, target=target), batch_size=steps, ntop=3
    )
    filler = {"type": "uniform", "min": -0.3, "max": 0.3}
    n.hidden = getattr(L, kind)(n.x, n.cont, recurrent_param={"num_output": 16, "weight_filler": filler})
    n.y = L.InnerProduct(n.hidden, num_output=1, axis=2, weight_filler=XAVIER)
    n.loss = L.EuclideanLoss(n.y, n.target)
    solver = make_solver(n, base_lr=0.02, type="Adam", momentum=0.9, clip_gradients=5)
    solver.step(1)
    first = solver.net.blobs["loss"].data.item()
    solver.step(300)
    assert solver.net.blobs["loss"].data < 0.15 * first
    # Where a sequence begins, what stands before it is forgotten.
    net = solver.net
    net.forward()
    expected = net.blobs["y"].data[6:].copy()
    net.blobs["x"].data[:6] = 5
    net.forward(start="hidden")
    np.testing.assert_allclose(net.blobs["y"].data[6:], expected, rtol=1e-4, atol=1e-6)


class Points(caffe.Layer):
    """A data layer: batches of the two clouds, in an order of its own."""

    def setup(self, bottom, top):
        if len(top) != 2 or bottom:
            raise ValueError("two tops and no bottoms are needed")
        settings = json.loads(self.param_str)
        self.batch_size = settings["batch_size"]
        self.x, self.label = two_clouds(settings["count"])
        self.random = np.random.default_rng(settings["seed"])

    def reshape(self, bottom, top):
        top[0].reshape(self.batch_size, self.x.shape[1])
        top[1].reshape(self.batch_size)

    def forward(self, bottom, top):
        rows = self.random.choice(len(self.x), self.batch_size, replace=False)
        top[0].data[...] = self.x[rows]
        top[1].data[...] = self.label[rows]

    def backward(self, top, propagate_down, bottom):
        pass


class HingeLoss(caffe.Layer):
    """sum max(0, 1 - s x) / n, where s is 1 for the label 1 and -1 for 0."""

    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape()

    def forward(self, bottom, top):
        self.sign = 2 * bottom[1].data - 1
        self.missing = np.maximum(0, 1 - self.sign * bottom[0].data[:, 0])
        top[0].data[...] = self.missing.mean()

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[:, 0] = -self.sign * (self.missing > 0) / bottom[0].num * top[0].diff


def test_data_and_loss_in_python(make_solver):
    settings = json.dumps({"batch_size": 25, "count": 100, "seed": 1})
    n = caffe.NetSpec()
    n.data, n.label = L.Python(module=__name__, layer="Points", param_str=settings, ntop=2)
    n.score = L.InnerProduct(n.data, num_output=1, weight_filler=XAVIER)
    n.loss = L.Python(n.score, n.label, module=__name__, layer="HingeLoss", loss_weight=1)
    solver = make_solver(n, base_lr=0.1, type="SGD")
    solver.step(60)
    weight, bias = (blob.data for blob in solver.net.params["score"])
    x, label = two_clouds(100)
    assert ((x @ weight[0] + bias[0] > 0) == label).mean() > 0.95
    assert solver.net.layer_dict["data"].label.shape == (100,)


def test_training_loop_with_curves(make_solver):
    """Step by step, with the losses, the size of the updates and a net that is tested in between."""
    x, label = two_clouds()
    source = write_hdf5(data=x, label=label)
    solver = make_solver(
        TestLogisticRegression.spec(source, 20), base_lr=0.1, type="SGD", test_iter=[1], test_interval=10_000
    )
    solver.net.params["ip"][0].data[...] = 0
    losses, accuracies = np.zeros(40), []
    for iteration in range(40):
        solver.step(1)
        losses[iteration] = solver.net.blobs["loss"].data
        if iteration % 10 == 0:
            solver.test_nets[0].forward(start="data")
            accuracies.append(
                np.mean(
                    solver.test_nets[0].blobs["ip"].data.argmax(1) == solver.test_nets[0].blobs["label"].data
                )
            )
    assert losses[0] == pytest.approx(np.log(2), rel=1e-5)
    assert losses[-10:].mean() < 0.5 * losses[0]
    assert len(accuracies) == 4 and accuracies[-1] >= 0.9
