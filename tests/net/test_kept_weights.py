"""Weights stay packed in nets that do not learn, and whoever writes into them, however, sees what comes of it."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from caffetools.engine.cpu.conv_packed import PackedProduct
from caffetools.engine.cpu.conv_winograd import WinogradProduct
from caffetools.formats import binary
from caffetools.layer import TEST, TRAIN
from caffetools.net.fused.affine import AffineStep

FILLERS = 'weight_filler { type: "gaussian" std: 0.3 } bias_filler { type: "gaussian" std: 0.3 }'


def layer(kind, name, bottom, more):
    param = "convolution_param"
    return (
        f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{name}" {param} {{ {more} {FILLERS} }} }}'
    )


NET = (
    'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 16 dim: 12 dim: 12 } } }'
    + layer("Convolution", "first", "x", "num_output: 24 kernel_size: 1")
    + layer("Convolution", "second", "first", "num_output: 32 kernel_size: 3 pad: 1")
    + layer("Convolution", "third", "second", "num_output: 8 kernel_size: 5 stride: 2 group: 2")
    + layer("Deconvolution", "fourth", "third", "num_output: 6 kernel_size: 4 stride: 2")
)
X = np.random.default_rng(3).standard_normal((1, 16, 12, 12)).astype(np.float32)


@pytest.fixture
def net(make_net):
    """A net that has run and keeps what it can."""
    net = make_net(NET, TEST)
    net.blobs["x"].data[...] = X
    for _ in range(2):
        net.forward()
    return net


def result(net):
    net.forward()
    return net.blobs["fourth"].data.copy()


def result_of_a_fresh_net(make_net, weights):
    net = make_net(NET, TEST)
    net.blobs["x"].data[...] = X
    for name, index in net.param_names:
        net.layer_by_name[name].blobs[index].data[...] = weights.layer_by_name[name].blobs[index].cpu_data
    return result(net)


def test_filters_are_packed_once(make_net, packings):
    net = make_net(NET, TEST)
    net.blobs["x"].data[...] = X
    net.forward()
    assert len(packings) == 4 and any(isinstance(product, WinogradProduct) for product in packings)
    for _ in range(3):
        net.forward()
    assert len(packings) == 4


def test_a_net_that_learns_keeps_nothing(make_net, packings):
    net = make_net(NET, TRAIN)
    net.forward()
    assert not packings


def test_backward_keeps_what_it_packs_as_well(make_net, packings):
    net = make_net("force_backward: true " + NET, TEST)
    for _ in range(3):
        net.forward()
        net.backward()
    assert len(packings) == 8


def test_a_test_net_packs_once_between_two_updates(make_net, packings):
    learner, tester = make_net(NET, TRAIN), make_net(NET, TEST)
    tester.share_weights_from(learner)
    for update in range(1, 4):
        for _ in range(3):
            tester.forward()
        assert len(packings) == 4 * update
        learner.forward()
        learner.param_diff[...] = 0.01
        learner.update()


def memory_of(array):
    return memoryview(array).cast("B").cast("f")


def pointer_to(array):
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


#: Ways to hold a parameter's values: what is held, and how its element i is written.
HELD = {
    "data": lambda net, blob: blob.data.reshape(-1),
    "flat_data": lambda net, blob: blob.flat_data,
    "part": lambda net, blob: blob.data[1:].reshape(-1),
    "matrix": lambda net, blob: np.asarray(blob.data).view(np.ndarray).T.T.reshape(-1),
    "memoryview": lambda net, blob: memory_of(blob.flat_data),
    "array of a memoryview": lambda net, blob: np.frombuffer(memory_of(blob.flat_data), np.float32),
    "pointer": lambda net, blob: pointer_to(blob.data),
    "all parameters": lambda net, blob: net.param_data,
    "part of all parameters": lambda net, blob: net.param_data[5:],
    "flat buffer": lambda net, blob: net.flat_data.read_host(),
    "cpu_data": lambda net, blob: blob.cpu_data.reshape(-1),
}


@pytest.mark.parametrize("name", ["first", "second", "third", "fourth"])
@pytest.mark.parametrize("way", HELD)
def test_an_array_that_is_held_may_be_written_at_any_time(make_net, net, way, name):
    held = HELD[way](net, net.layer_by_name[name].blobs[0])
    for value in (2, 3):
        before = result(net)
        held[7] += value
        after = result(net)
        assert (after != before).any()
        np.testing.assert_array_equal(after, result_of_a_fresh_net(make_net, net))


@pytest.mark.parametrize("way", HELD)
def test_written_between_the_passes_and_let_go(make_net, net, packings, way):
    blob = net.layer_by_name["second"].blobs[0]
    held = HELD[way](net, blob)
    net.forward()
    held[3] += 1
    del held
    np.testing.assert_array_equal(result(net), result_of_a_fresh_net(make_net, net))
    packings.clear()
    net.forward()
    assert not packings, "nobody holds anything any longer"


def add_by_data(net, make_net, path):
    net.layer_by_name["first"].blobs[0].data += 1


def set_by_flat_data(net, make_net, path):
    net.layer_by_name["second"].blobs[0].flat_data[...] = 0.25


def shape_anew(net, make_net, path):
    blob = net.layer_by_name["third"].blobs[0]
    blob.data[...] = 2
    shape = blob.shape
    blob.reshape((blob.count,))
    blob.reshape(shape)


def write_and_forget_the_views(net, make_net, path):
    blob = net.layer_by_name["third"].blobs[0]
    blob.data[...] = 2
    blob.drop_views()


def outgrow(net, make_net, path):
    """Weights that leave the net's common buffer."""
    blob = net.layer_by_name["first"].blobs[0]
    shape = blob.shape
    blob.reshape((2 * blob.count,))
    assert not blob.data.any()
    blob.reshape(shape)
    blob.data[0] = 1


def other_weights(make_net):
    other = make_net(NET, TRAIN)
    other.param_data[...] = np.random.default_rng(8).standard_normal(other.param_data.shape)
    return other


def copy_a_file(net, make_net, path):
    binary.write(path, other_weights(make_net).to_proto())
    net.copy_from(str(path))


def share(net, make_net, path):
    net.share_weights_from(other_weights(make_net))


def update(net, make_net, path):
    net.param_diff[...] = 0.01
    net.update()


def fill_all(net, make_net, path):
    net.param_data.fill(0.1)


def share_and_write_there(net, make_net, path):
    other = other_weights(make_net)
    net.share_weights_from(other)
    for _ in range(2):
        net.forward()
    other.layer_by_name["second"].blobs[0].data[...] -= 1


def share_and_update_there(net, make_net, path):
    other = other_weights(make_net)
    net.share_weights_from(other)
    for _ in range(2):
        net.forward()
    update(other, make_net, path)


@pytest.mark.parametrize(
    "change",
    [
        add_by_data, set_by_flat_data, shape_anew, write_and_forget_the_views, outgrow, copy_a_file, share, update,
        fill_all, share_and_write_there, share_and_update_there,
    ],
)  # fmt: skip
def test_the_next_pass_has_the_new_weights(make_net, net, tmp_path, change):
    before = result(net)
    change(net, make_net, tmp_path / "net.caffemodel")
    after = result(net)
    assert (after != before).any()
    np.testing.assert_array_equal(after, result_of_a_fresh_net(make_net, net))


def test_other_shapes_of_images(make_net, net):
    wide = np.random.default_rng(5).standard_normal((3, 16, 9, 21)).astype(np.float32)
    net.blobs["x"].reshape(wide.shape)
    net.blobs["x"].data[...] = wide
    fresh = make_net(NET, TEST)
    fresh.blobs["x"].reshape(wide.shape)
    fresh.blobs["x"].data[...] = wide
    np.testing.assert_array_equal(result(net), result(fresh))


def test_kept_or_not_the_numbers_are_the_same(make_net, net, monkeypatch):
    kept = result(net)
    assert all(each.kept_of(0).arrays for each in net.layers[1:])

    def never_kept(self, x, w, bias, y, finish=None, kept=None, channel=0, run=PackedProduct.run):
        run(self, x, w, bias, y, finish, None, channel)

    monkeypatch.setattr(PackedProduct, "run", never_kept)
    fresh = make_net(NET, TEST)
    fresh.blobs["x"].data[...] = X
    np.testing.assert_array_equal(result(fresh), kept)


def test_memory_counts_what_is_kept(net):
    kept = [packed.nbytes for layer in net.layers[1:] for _, packed in layer.kept_of(0).arrays.values()]
    assert net.memory()["packed weights"] == sum(kept) > 0


NORMALISED = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 4 dim: 6 dim: 6 } } }
layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param { num_output: 8 kernel_size: 3
  weight_filler { type: "gaussian" std: 0.3 } } }
layer { name: "n" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "s" type: "Scale" bottom: "c" top: "c" scale_param { bias_term: true } }
"""


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize(("name", "index"), [("n", 0), ("n", 1), ("n", 2), ("s", 0), ("s", 1)])
def test_folded_normalisation(make_net, monkeypatch, name, index, held):
    def run(net):
        net.blobs["x"].data[...] = X[:, :8, :6, :6].reshape(2, 4, 6, 6)
        net.forward()
        return net.blobs["c"].data.copy()

    folds = []
    monkeypatch.setattr(AffineStep, "_fold", lambda self, fold=AffineStep._fold: folds.append(self) or fold(self))
    net = make_net(NORMALISED, TEST)
    for param in net.params:
        param.data[...] = np.random.default_rng(param.count).uniform(0.5, 1, param.shape)
    before = [run(net) for _ in range(3)][0]
    assert len(folds) == 1
    array = net.layer_by_name[name].blobs[index].data
    if held:
        run(net)
    array[...] *= 2
    if not held:
        del array
    after = run(net)
    fresh = make_net(NORMALISED, TEST)
    for mine, theirs in zip(fresh.params, net.params, strict=True):
        mine.data[...] = theirs.cpu_data
    assert (after != before).any()
    np.testing.assert_array_equal(after, run(fresh))


RECURRENT = """
layer { name: "x" type: "Input" top: "x" top: "cont" input_param {
  shape { dim: 3 dim: 2 dim: 5 } shape { dim: 3 dim: 2 } } }
layer { name: "h" type: "%s" bottom: "x" bottom: "cont" top: "h" recurrent_param { num_output: 7
  weight_filler { type: "gaussian" std: 0.5 } } }
"""


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_recurrent_layers(make_net, packings, kind):
    def run(net):
        net.blobs["x"].data[...] = np.random.default_rng(2).standard_normal((3, 2, 5))
        net.blobs["cont"].data[1:] = 1
        net.forward()
        return net.blobs["h"].data.copy()

    net = make_net(RECURRENT % kind, TEST)
    before = [run(net) for _ in range(3)][0]
    assert len(packings) == 2
    for blob in net.layer_by_name["h"].blobs[:3:2]:
        blob.data[0] += 1
        after = run(net)
        fresh = make_net(RECURRENT % kind, TEST)
        for mine, theirs in zip(fresh.params, net.params, strict=True):
            mine.data[...] = theirs.cpu_data
        assert (after != before).any()
        np.testing.assert_array_equal(after, run(fresh))
        before = after
