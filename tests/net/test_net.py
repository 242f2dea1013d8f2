"""What a net promises: wiring, sharing, gradients where they are wanted, shapes that may change; expected by hand."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.glog import FatalError
from caffetools.layer import TEST, TRAIN

DATA = 'layer { name: "data" type: "Input" top: "x" input_param { shape { dim: 3 dim: 4 } } }'
TARGET = 'layer { name: "target" type: "Input" top: "t" input_param { shape { dim: 3 dim: 2 } } }'
FILLER = 'weight_filler { type: "gaussian" } bias_filler { type: "gaussian" }'


def ip(name, bottom, top=None, outputs=2, more="", bias="true"):
    return (
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{top or name}" {more} '
        f"inner_product_param {{ num_output: {outputs} bias_term: {bias} {FILLER} }} }}"
    )


def loss(bottom, more=""):
    return f'layer {{ name: "loss" type: "EuclideanLoss" bottom: "{bottom}" bottom: "t" top: "loss" {more} }}'


def feed(net, seed=0):
    random = np.random.default_rng(seed)
    for name in net.inputs:
        net.blobs[name].data[...] = random.standard_normal(net.blobs[name].shape)


def test_forward_and_backward(make_net):
    net = make_net(DATA + TARGET + ip("a", "x") + loss("a"))
    feed(net)
    value = net.forward()
    net.clear_param_diffs()
    net.backward()
    x, t = net.blobs["x"].data, net.blobs["t"].data
    w, b = (blob.data for blob in net.layer_by_name["a"].blobs)
    difference = x @ w.T + b - t
    assert value == pytest.approx((difference**2).sum() / 6, rel=1e-5)
    np.testing.assert_allclose(net.params[0].diff, difference.T @ x / 3, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(net.params[1].diff, difference.sum(0) / 3, rtol=1e-4, atol=1e-6)


def test_gradients_add_up(make_net):
    net = make_net(DATA + TARGET + ip("a", "x") + loss("a"))
    feed(net)
    net.forward()
    net.backward()
    once = net.param_diff.copy()
    net.backward()
    np.testing.assert_allclose(net.param_diff, 2 * once, rtol=1e-6)


def test_loss_weights_of_any_layer(make_net):
    net = make_net(DATA + TARGET + ip("a", "x", more="loss_weight: 0.5") + loss("a", "loss_weight: 3"))
    feed(net)
    value = net.forward()
    a, t = net.blobs["a"].data, net.blobs["t"].data
    assert value == pytest.approx(0.5 * a.sum() + 3 * ((a - t) ** 2).sum() / 6, rel=1e-4)
    net.clear_param_diffs()
    net.backward()
    gradient = 0.5 + 3 * (a - t) / 3
    np.testing.assert_allclose(net.params[1].diff, gradient.sum(0), rtol=1e-4, atol=1e-5)


def test_shared_parameters(make_net):
    shared = 'param { name: "w" lr_mult: 2 } param { name: "b" }'
    net = make_net(
        DATA + TARGET + ip("a", "x", outputs=4, more=shared) + ip("b", "a", outputs=4, more=shared)
    )
    a, b = net.layer_by_name["a"], net.layer_by_name["b"]
    assert len(net.params) == 2
    assert net.lr_mults == [2, 1]
    a.blobs[0].data[...] = 7
    assert (b.blobs[0].data == 7).all()
    assert np.shares_memory(a.blobs[0].diff, b.blobs[0].diff)


def test_shared_gradients_add_up(make_net):
    shared = 'param { name: "w" }'
    chain = (
        DATA
        + ip("a", "x", outputs=4, more=shared, bias="false")
        + ip("b", "a", outputs=4, more=shared, bias="false")
    )
    net = make_net(chain + 'layer { name: "s" type: "Silence" bottom: "b" }' + "force_backward: true")
    feed(net)
    net.forward()
    net.blobs["b"].diff[...] = 1
    net.clear_param_diffs()
    for i in (2, 1):
        net.backward(i, i)
    x, w = net.blobs["x"].data, net.params[0].data
    ones = np.ones((3, 4), np.float32)
    expected = ones.T @ (x @ w.T) + (ones @ w).T @ x
    np.testing.assert_allclose(net.params[0].diff, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (
            'name: "w"',
            'name: "w" ',
            r"Cannot share param 'w' owned by layer 'a' with layer 'b'; shape mismatch.  Owner layer",
        ),
        (
            'name: "w"',
            'name: "w" share_mode: PERMISSIVE',
            r"Cannot share param 'w' owned by layer 'a' with layer 'b'; count mismatch",
        ),
    ],
)
def test_sharing_needs_equal_shapes(make_net, first, second, words):
    with pytest.raises(FatalError, match=words):
        make_net(
            DATA
            + ip("a", "x", outputs=3, more=f"param {{ {first} }}")
            + ip("b", "x", outputs=2, more=f"param {{ {second} }}")
        )


def test_permissive_sharing_needs_equal_counts(make_net):
    more = 'param { name: "w" share_mode: PERMISSIVE }'
    net = make_net(DATA + ip("a", "x", outputs=2, more=more) + ip("b", "a", outputs=4, more=more))
    assert net.layer_by_name["b"].blobs[0].shape == (4, 2)
    assert len(net.params) == 3


@pytest.mark.parametrize("what", ["lr_mult", "decay_mult"])
def test_shared_multipliers_agree(make_net, what):
    with pytest.raises(FatalError, match=rf"Shared param 'w' has mismatched {what}\."):
        make_net(
            DATA
            + ip("a", "x", outputs=4, more=f'param {{ name: "w" {what}: 2 }}')
            + ip("b", "a", outputs=4, more=f'param {{ name: "w" {what}: 3 }}')
        )


def test_too_many_params(make_net):
    with pytest.raises(
        FatalError, match=r"Check failed: param_size <= num_param_blobs \(3 vs. 2\) Too many params"
    ):
        make_net(DATA + ip("a", "x", more="param {} param {} param {}"))


def test_frozen_layer_has_no_gradient(make_net):
    frozen = "param { lr_mult: 0 } param { lr_mult: 0 }"
    net = make_net(DATA + TARGET + ip("a", "x", more=frozen) + ip("b", "a") + loss("b"))
    assert net.layer_needs_backward == [False, False, False, True, True]
    feed(net)
    net.forward()
    net.backward()
    assert not net.params[0].diff.any()
    assert net.params[2].diff.any()


def test_propagate_down_false_cuts_the_gradient(make_net):
    net = make_net(DATA + TARGET + ip("a", "x") + ip("b", "a", more="propagate_down: false") + loss("b"))
    assert net.layer_needs_backward == [False, False, False, True, True]


def test_propagate_down_true_asks_for_the_gradient_of_data(make_net):
    net = make_net(DATA + TARGET + ip("a", "x", more="propagate_down: true") + loss("a"))
    feed(net)
    net.forward()
    net.backward()
    difference = net.blobs["a"].data - net.blobs["t"].data
    np.testing.assert_allclose(net.blobs["x"].diff, difference @ net.params[0].data / 3, rtol=1e-4, atol=1e-6)


def test_propagate_down_once_per_bottom(make_net):
    with pytest.raises(
        FatalError, match="propagate_down param must be specified either 0 or bottom_size times"
    ):
        make_net(DATA + TARGET + ip("a", "x") + loss("a", "propagate_down: true"))


def test_force_backward(make_net):
    net = make_net("force_backward: true " + DATA + TARGET + ip("a", "x") + loss("a"))
    feed(net)
    net.forward()
    net.backward()
    assert net.blobs["x"].diff.any()


def test_branch_without_loss_does_not_run_backward(make_net):
    net = make_net(DATA + TARGET + ip("a", "x") + ip("side", "x") + loss("a"))
    needs = dict(zip(net.layer_names, net.layer_needs_backward, strict=True))
    assert needs["a"]
    assert not needs["side"]
    assert net.outputs == ["loss", "side"]


@pytest.mark.parametrize(
    ("phase", "level", "stages", "layers"),
    [
        (TRAIN, 0, None, ["data", "train"]),
        (TEST, 0, None, ["data"]),
        (TRAIN, 5, None, ["data", "train", "deep"]),
        (TEST, 0, ["A"], ["data", "only_a"]),
        (TEST, 0, ["A", "B"], ["data", "only_a", "a_and_b"]),
    ],
)
def test_phase_level_and_stages(make_net, phase, level, stages, layers):
    text = (
        DATA
        + ip("train", "x", more="include { phase: TRAIN }")
        + ip("deep", "x", more="include { min_level: 3 }")
        + ip("only_a", "x", more='include { stage: "A" }')
        + ip("a_and_b", "x", more='include { stage: "A" stage: "B" }')
    )
    net = make_net(text, phase, level, stages if stages is not None else [])
    assert [name for name in net.layer_names if "split" not in name] == layers


def test_shapes_follow_the_inputs(make_net):
    net = make_net(DATA + ip("a", "x"))
    feed(net)
    net.forward()
    net.blobs["x"].reshape((5, 4))
    net.blobs["x"].data[...] = 1
    net.forward()
    w, b = (blob.data for blob in net.params)
    np.testing.assert_allclose(net.blobs["a"].data, np.ones((5, 4)) @ w.T + b, rtol=1e-5)
    net.blobs["x"].reshape((2, 4))
    net.reshape()
    assert net.blobs["a"].shape == (2, 2)


def test_shapes_follow_the_inputs_of_each_net_and_of_parts_of_it(make_net):
    nets = [make_net(DATA + ip("a", "x") + ip("b", "a")) for _ in range(2)]
    ends = {"both": (0, None), "first": (0, 1), "last": (2, 2)}
    for items, net, part in [(5, 0, "both"), (2, 1, "both"), (5, 0, "both"), (7, 0, "first"), (7, 0, "last"),
                             (2, 1, "both"), (5, 0, "first"), (7, 1, "both"), (5, 0, "both")]:  # fmt: skip
        net = nets[net]
        net.blobs["x"].reshape((items, 4))
        net.blobs["x"].data[...] = items
        net.forward(*ends[part])
        values = net.blobs["x"].data
        for name, (w, b) in zip("ab", zip(net.params[::2], net.params[1::2], strict=True), strict=True):
            values = values @ w.data.T + b.data
            if name == "a" or part != "first":
                np.testing.assert_allclose(net.blobs[name].data, values, rtol=1e-5)


def test_outputs_in_name_order(make_net):
    net = make_net(DATA + ip("z", "x") + ip("m", "x") + ip("b", "x"))
    assert net.outputs == ["b", "m", "z"]
    assert len(net.output_values()) == 18


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (
            'name: "a" type: "ReLU" bottom: "x" bottom: "x" top: "a"',
            r"ReLU Layer takes 1 bottom blob\(s\) as input.*'a'",
        ),
        ('name: "a" type: "ReLU" bottom: "x"', r"ReLU Layer produces 1 top blob\(s\) as output"),
        ('name: "a" type: "ReLU" bottom: "x" top: "x" top: "b"', r"ReLU Layer produces 1 top"),
        (
            'name: "a" type: "ReLU" bottom: "y" top: "a"',
            r"Unknown bottom blob 'y' \(layer 'a', bottom index 0\)",
        ),
        ('name: "a" type: "Input" top: "x"', r"Top blob 'x' produced by multiple sources\. \(layer 'a'\)"),
        (
            'name: "a" type: "relu" bottom: "x" top: "a"',
            r"Unknown layer type: relu \(known types: .*\) did you mean ReLU\?",
        ),
        ('name: "a" type: "PSROIPooling" bottom: "x" top: "a"', r"Unknown layer type: PSROIPooling .*R-FCN"),
        (
            'name: "a" type: "Softmax" bottom: "x" top: "a" loss_weight: 1 loss_weight: 2',
            r"loss_weight must be unspecified or specified once per top blob\.",
        ),
    ],
)
def test_refused_nets(make_net, layer, words):
    with pytest.raises(FatalError, match=words):
        make_net(DATA + f"layer {{ {layer} }}")


def test_debug_info(make_net, capfd):
    net = make_net(DATA + TARGET + ip("a", "x") + loss("a"))
    feed(net)
    net.debug_info = True
    net.forward()
    net.backward()
    log = capfd.readouterr().err
    mean = np.abs(net.blobs["a"].data).mean()
    assert f"    [Forward] Layer a, top blob a data: {mean:g}\n" in log
    assert f"    [Forward] Layer a, param blob 0 data: {np.abs(net.params[0].data).mean():g}\n" in log
    assert f"    [Backward] Layer loss, bottom blob a diff: {np.abs(net.blobs['a'].diff).mean():g}\n" in log
    assert f"    [Backward] Layer a, param blob 1 diff: {np.abs(net.params[1].diff).mean():g}\n" in log
    assert "    [Backward] All net params (data, diff): L1 norm = (" in log


def test_memory(make_net):
    net = make_net(DATA + TARGET + ip("a", "x") + loss("a"))
    assert net.memory_used == 12 + 6 + 6 + 1
    assert net.memory() == {"data": 100, "diffs": 24, "parameters": 2 * 4 * (16 + 16)}


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ('type: "Concat" bottom: "x" top: "y" concat_param { axis: 4 }', "axis 4 out of range"),
        (
            'type: "InnerProduct" bottom: "x" top: "y" '
            'inner_product_param { num_output: 2 weight_filler { type: "xaviar" } }',
            "Unknown filler name: xaviar",
        ),
        ('type: "NoSuchLayer" bottom: "x" top: "y"', "Unknown layer type: NoSuchLayer"),
    ],
)
def test_errors_name_the_layer(make_net, layer, words):
    with pytest.raises(FatalError, match=rf"{words}.*\(layer 'culprit'\)"):
        make_net(DATA + f'layer {{ name: "culprit" {layer} }}')


@pytest.mark.parametrize("phase", [TRAIN, TEST])
def test_settings_that_nobody_reads_are_refused(make_net, phase):
    layer = 'layer { name: "l" type: "ReLU" bottom: "x" top: "y" pooling_param { kernel_size: 2 } }'
    words = r"pooling_param would have no effect: ReLU does not read it\. Remove it; it is for Pooling \(layer 'l'\)"
    with pytest.raises(FatalError, match=words):
        make_net(DATA + layer, phase)


def test_a_layer_may_have_a_phase_of_its_own(make_net):
    """As in the original: the net gives its phase to the layers that have none."""
    layer = 'layer { name: "d" type: "Dropout" bottom: "x" top: "y" %s }'
    net = make_net(DATA + layer % "phase: TRAIN", TEST)
    net.blobs["x"].data[...] = 1
    net.forward()
    assert set(np.unique(net.blobs["y"].data)) <= {0, 2}
    net = make_net(DATA + layer % "phase: TEST")
    net.blobs["x"].data[...] = 1
    net.forward()
    np.testing.assert_array_equal(net.blobs["y"].data, 1)


WEIGHTS = "blobs { shape { dim: 2 dim: 4 } data: [1, 2, 3, 4, 5, 6, 7, 8] } "
BLOBS = WEIGHTS + "blobs { num: 1 channels: 1 height: 1 width: 2 data: [9, 10] } "
WITH_BLOBS = """layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" %s
  inner_product_param { num_output: 2 } }"""


def test_parameters_may_stand_in_the_definition(make_net, capfd):
    net = make_net(DATA + WITH_BLOBS % BLOBS)
    assert "] Skipping parameter initialization\n" in capfd.readouterr().err
    np.testing.assert_array_equal(net.params[0].data, np.arange(1, 9).reshape(2, 4))
    np.testing.assert_array_equal(net.params[1].data, [9, 10])


@pytest.mark.parametrize(
    ("blobs", "words"),
    [
        (WEIGHTS, "Incorrect number of weight blobs"),
        (BLOBS + "blobs { data: 1 shape { dim: 1 } }", "Incorrect number of weight blobs"),
        (BLOBS.replace("dim: 2 dim: 4", "dim: 4 dim: 2"), r"expected shape 2 4 \(8\); instead, shape was 4 2"),
    ],
)
def test_parameters_in_the_definition_have_to_fit(make_net, blobs, words):
    with pytest.raises(FatalError, match=rf"{words}.*layer 'ip'"):
        make_net(DATA + WITH_BLOBS % blobs)
