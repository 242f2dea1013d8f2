"""Layers that run as one: which do, decided by hand, and the same numbers as when they run one by one.

A net with a hook runs layer by layer, so a hook that does nothing gives the plain net to compare with.
"""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.engine.cpu.rng import RandomSource
from caffetools.formats import prototxt
from caffetools.layer import TEST, TRAIN, Context
from caffetools.net import Net
from caffetools.proto import caffe_pb2

FILLER = 'weight_filler { type: "gaussian" std: 0.4 } bias_filler { type: "gaussian" std: 0.4 }'
# Not a sum of squares alone: BatchNorm makes that a constant, with gradients of rounding errors.
LOSS = f'''
layer {{ name: "fc" type: "InnerProduct" bottom: "%s" top: "fc" inner_product_param {{ num_output: 4 {FILLER} }} }}
layer {{
  name: "loss" type: "Reduction" bottom: "fc" top: "loss" loss_weight: 1 reduction_param {{ operation: SUMSQ }}
}}
'''


def layer(kind, name, bottoms, top, settings=""):
    blobs = "".join(f'bottom: "{bottom}" ' for bottom in bottoms.split())
    return f'layer {{ name: "{name}" type: "{kind}" {blobs} top: "{top}" {settings} }}\n'


def data(channels=3, size=7, batch=4):
    shape = f"dim: {batch} dim: {channels} dim: {size} dim: {size}"
    return f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {shape} }} }} }}\n'


def conv(name, bottom, top=None, outputs=5, kernel=3, more=""):
    settings = f"num_output: {outputs} kernel_size: {kernel} pad: {kernel // 2} {FILLER} {more}"
    return layer("Convolution", name, bottom, top or name, f"convolution_param {{ {settings} }}")


def norm(name, bottom, top=None, more=""):
    return layer("BatchNorm", name, bottom, top or bottom, f"batch_norm_param {{ {more} }}")


def scale(name, bottom, top=None, more="bias_term: true"):
    fillers = 'filler { type: "uniform" min: -1 max: 2 } '
    fillers += 'bias_filler { type: "gaussian" std: 0.5 }' if "bias_term: true" in more else ""
    return layer("Scale", name, bottom, top or bottom, f"scale_param {{ {more} {fillers} }}")


def relu(name, bottom, top=None, slope=0.0):
    return layer("ReLU", name, bottom, top or bottom, f"relu_param {{ negative_slope: {slope} }}")


def add(name, bottoms, top, more=""):
    return layer("Eltwise", name, bottoms, top, f"eltwise_param {{ {more} }}")


CBSR = conv("c", "data") + norm("n", "c") + scale("s", "c") + relu("r", "c")
RESIDUAL = conv("x", "data") + relu("rx", "x") + conv("c", "x") + norm("n", "c") + scale("s", "c")
RESIDUAL_SUM = RESIDUAL + add("e", "x c", "e") + relu("r", "e")
DENSE = conv("x", "data") + norm("n", "x", "y") + scale("s", "y") + relu("r", "y") + layer("Concat", "k", "x y", "k")

NETS = {
    "conv bn scale relu": (CBSR, "c"),
    "conv bn scale": (conv("c", "data") + norm("n", "c") + scale("s", "c"), "c"),
    "conv bn relu": (conv("c", "data") + norm("n", "c") + relu("r", "c", slope=0.1), "c"),
    "conv scale relu": (conv("c", "data") + scale("s", "c") + relu("r", "c"), "c"),
    "conv relu": (conv("c", "data") + relu("r", "c"), "c"),
    "conv leaky relu": (conv("c", "data") + relu("r", "c", slope=0.2), "c"),
    "no bias": (
        conv("c", "data", more="bias_term: false") + norm("n", "c") + scale("s", "c", more="") + relu("r", "c"), "c",
    ),
    "depthwise": (
        conv("c", "data", outputs=3, more="group: 3") + norm("n", "c") + scale("s", "c") + relu("r", "c"), "c",
    ),
    "depthwise of a fork": (
        conv("c", "data", outputs=3, more="group: 3").replace('"Convolution"', '"DepthwiseConvolution"')
        + norm("n", "c") + scale("s", "c") + relu("r", "c"), "c",
    ),
    "winograd": (conv("x", "data", outputs=64) + conv("c", "x", outputs=64) + norm("n", "c") + relu("r", "c"), "c"),
    "pointwise": (conv("c", "data", kernel=1) + norm("n", "c") + scale("s", "c"), "c"),
    "bn scale relu in place": (
        layer("Power", "p", "data", "p", "power_param { scale: 2 }")
        + norm("n", "p") + scale("s", "p") + relu("r", "p"), "p",
    ),
    "bn scale": (conv("x", "data") + layer("TanH", "t", "x", "t") + norm("n", "t", "y") + scale("s", "y"), "y"),
    "scale relu": (layer("Power", "p", "data", "p") + scale("s", "p", "y") + relu("r", "y"), "y"),
    "residual": (RESIDUAL_SUM, "e"),
    "residual first": (RESIDUAL + add("e", "c x", "e") + relu("r", "e"), "e"),
    "residual without relu": (RESIDUAL + add("e", "c x", "e"), "e"),
    "sum and relu": (conv("x", "data") + layer("TanH", "t", "x", "t") + add("e", "x t", "e") + relu("r", "e"), "e"),
    "sum with coefficients": (RESIDUAL + add("e", "x c", "e", "coeff: 1 coeff: -2") + relu("r", "e"), "e"),
    "distinct tops": (conv("c", "data") + norm("n", "c", "d") + scale("s", "d", "f") + relu("r", "f", "g"), "g"),
    "dense": (DENSE, "k"),
    "collected statistics": (
        conv("c", "data") + norm("n", "c", more="use_global_stats: true") + scale("s", "c") + relu("r", "c"), "c",
    ),
    "inner product and relu": (
        layer("InnerProduct", "i", "data", "i", f"inner_product_param {{ num_output: 9 {FILLER} }}")
        + relu("r", "i", slope=0.1), "i",
    ),
    "transposed inner product and relu": (
        layer("InnerProduct", "i", "data", "i", f"inner_product_param {{ num_output: 9 transpose: true {FILLER} }}")
        + relu("r", "i"), "i",
    ),
    "fully connected": (
        layer("InnerProduct", "i", "data", "i", f"inner_product_param {{ num_output: 6 {FILLER} }}")
        + norm("n", "i") + scale("s", "i") + relu("r", "i"), "i",
    ),
}  # fmt: skip


def build(text, phase=TRAIN, plan=False, plain=False, dtype=np.float32, engine=None, **options):
    param = prototxt.parse(text, caffe_pb2.NetParameter) if isinstance(text, str) else text
    param.state.phase = phase
    net = Net(param, Context(random=RandomSource(1), dtype=np.dtype(dtype), engine=engine), plan, **options)
    if plain:
        for hooks in (net.before_forward, net.before_backward):
            hooks.append(lambda i: None)
    random = np.random.default_rng(0)
    for name in net.inputs:
        net.blobs[name].data[...] = random.standard_normal(net.blobs[name].shape)
    for each in net.layers:
        if each.type == "BatchNorm":
            each.blobs[0].data[...] = random.standard_normal(each.blobs[0].shape)
            each.blobs[1].data[...] = random.uniform(0.5, 2, each.blobs[1].shape)
            each.blobs[2].data[...] = 1.5
    return net


def full(name):
    body, last = NETS[name]
    return data() + body + LOSS % last


def run(net, backward=True):
    net.clear_param_diffs()
    net.forward()
    if backward:
        net.backward()
    return net


def assert_close(actual, wanted, name, rtol=1e-5):
    largest = np.abs(wanted).max() if wanted.size else 0
    np.testing.assert_allclose(actual, wanted, rtol=rtol, atol=rtol * largest, err_msg=name)


def assert_same(fused, plain, rtol=1e-5, inside=True):
    """inside: whether blobs other than the outputs are right as well."""
    for name in plain.blob_names if inside else plain.outputs:
        assert_close(fused.blobs[name].data, plain.blobs[name].data, name, rtol)
        if inside:
            assert_close(fused.blobs[name].diff, plain.blobs[name].diff, f"{name}'s diff", rtol)
    assert_close(fused.param_data, plain.param_data, "parameters", rtol)
    # All gradients against the largest: that of a convolution's bias vanishes where BatchNorm follows.
    assert_close(fused.param_diff, plain.param_diff, "gradients", rtol)


def steps_of(net):
    return [
        (step.members[0].layer.name, step.members[-1].layer.name, type(step).__name__) for step in net._fused.steps
    ]


@pytest.mark.parametrize("name", NETS)
def test_training(name):
    text = full(name)
    assert_same(run(build(text)), run(build(text, plain=True)))


@pytest.mark.parametrize("name", NETS)
def test_planned_training(name):
    text = full(name)
    assert_same(run(build(text, plan=True)), run(build(text, plain=True)), inside=False)


@pytest.mark.parametrize("plan", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_testing(name, plan):
    text = data() + NETS[name][0]  # no loss: nothing wants a gradient
    fused, plain = (run(build(text, TEST, **how), backward=False) for how in ({"plan": plan}, {"plain": True}))
    assert_same(fused, plain, inside=not plan)


@pytest.mark.parametrize(
    ("name", "phase", "plan", "wanted"),
    [
        ("conv bn scale relu", TRAIN, False, [("c", "r", "NormaliseStep")]),
        ("conv bn scale relu", TEST, True, [("c", "r", "AffineStep")]),
        # The gradient of Scale's factors needs what Scale was given.
        ("conv bn scale relu", TEST, False, [("c", "n", "AffineStep")]),
        ("collected statistics", TRAIN, True, [("c", "n", "AffineStep")]),
        ("conv scale relu", TRAIN, False, []),
        ("conv relu", TRAIN, False, [("c", "r", "AffineStep")]),
        # Blobs that others may look at are not left out.
        ("distinct tops", TRAIN, False, []),
        ("distinct tops", TRAIN, True, [("c", "r", "NormaliseStep")]),
        ("distinct tops", TEST, True, [("c", "r", "AffineStep")]),
        ("residual", TRAIN, False, [("x", "rx", "AffineStep"), ("c", "s", "NormaliseStep"), ("e", "r", "AddStep")]),
        ("residual", TRAIN, True, [("x", "rx", "AffineStep"), ("c", "r", "NormaliseStep")]),
        ("residual", TEST, True, [("x", "rx", "AffineStep"), ("c", "r", "AffineStep")]),
        ("sum with coefficients", TEST, True, [("x", "rx", "AffineStep"), ("c", "s", "AffineStep")]),
        ("depthwise of a fork", TRAIN, False, [("c", "r", "NormaliseStep")]),
        ("inner product and relu", TRAIN, False, [("i", "r", "DenseStep")]),
        ("transposed inner product and relu", TRAIN, True, []),
        ("dense", TRAIN, False, []),
        ("dense", TRAIN, True, [("n", "r", "NormaliseStep")]),
        ("bn scale", TEST, True, [("n", "s", "AffineStep")]),
    ],
)
def test_steps(name, phase, plan, wanted):
    assert steps_of(build(full(name), phase, plan)) == wanted


def test_blobs_that_are_asked_for_are_kept():
    net = build(full("residual"), TEST, plan=True, keep=["c"])
    assert steps_of(net) == [("x", "rx", "AffineStep"), ("c", "s", "AffineStep"), ("e", "r", "AddStep")]
    plain = run(build(full("residual"), TEST, plain=True), backward=False)
    run(net, backward=False)
    assert_close(net.blobs["c"].data, plain.blobs["c"].data, "c")


def test_a_blob_with_a_loss_weight_is_not_overrun():
    text = data() + conv("c", "data") + norm("n", "c", "d") + "layer { name: 's' type: 'Scale' bottom: 'd' top: 'f' }"
    text = text.replace("name: \"n\"", 'name: "n" loss_weight: 0.5') + LOSS % "f"
    fused, plain = (run(build(text, **how)) for how in ({"plan": True}, {"plain": True}))
    assert fused.forward() == pytest.approx(plain.forward(), rel=1e-5)


def test_the_loss_of_a_last_layer_counts():
    text = data() + conv("c", "data") + layer("ReLU", "r", "c", "r", "loss_weight: 0.5")
    fused, plain = (build(text, **how) for how in ({"plan": True}, {"plain": True}))
    assert fused.forward() == pytest.approx(plain.forward(), rel=1e-5)
    assert plain.forward() > 0


def test_parameters_may_change_between_passes():
    text = data() + CBSR
    net, plain = build(text, TEST, plan=True), build(text, TEST, plain=True)
    run(net, backward=False)
    for each in (net, plain):
        each.param_data[...] = np.random.default_rng(4).uniform(0.5, 1, each.param_data.shape)
        run(each, backward=False)
    assert_same(net, plain, inside=False)


def test_weights_of_another_net():
    other = build(full("conv bn scale relu"))
    text = data() + CBSR
    net, plain = build(text, TEST, plan=True), build(text, TEST, plain=True)
    for each in (net, plain):
        each.share_weights_from(other)
    for _ in range(2):
        run(other)
        other.param_data[...] -= 0.01 * other.param_diff
        for each in (net, plain):
            run(each, backward=False)
        assert_close(net.blobs["c"].data, plain.blobs["c"].data, "c")


@pytest.mark.parametrize(
    "name", ["conv bn scale relu", "bn scale relu in place", "residual", "conv relu", "distinct tops"]
)
def test_passes_in_pieces(name):
    """Passes that begin or end inside a step run its layers one by one, whatever the pass before did."""
    text = full(name)
    plain = build(text, plain=True)
    count = len(plain.layers)
    for cut in range(1, count):
        fused = build(text)
        plain = build(text, plain=True)
        for net in (fused, plain):
            run(net)
            net.forward(0, cut - 1)
            net.forward(cut, count - 1)
            net.backward(count - 1, cut)
            net.backward(cut - 1, 0)
            # A whole pass forward, then pieces backward.
            net.forward()
            net.backward(count - 1, cut)
            net.backward(cut - 1, 0)
        assert_same(fused, plain)


def test_hooks_see_every_layer():
    net = build(full("conv bn scale relu"))
    net.forward()
    seen = []
    net.before_forward.append(lambda i: seen.append(float(np.abs(net.blobs["c"].data).sum())))
    net.forward()
    assert len(set(seen[2:6])) == 4  # convolution, BatchNorm, Scale and ReLU each change the blob
    backward = []
    net.after_backward.append(backward.append)
    net.backward()
    assert backward == list(reversed(range(len(net.layers))))


def test_debug_info_reports_every_layer(capfd):
    net = build(full("conv bn scale relu"))
    net.debug_info = True
    run(net)
    words = capfd.readouterr().err
    for name in ("c", "n", "s", "r"):
        assert f"[Forward] Layer {name}, top blob c data:" in words


@pytest.mark.parametrize(("shape", "backward"), [((2, 3, 7, 7), True), ((5, 3, 9, 8), False)])
@pytest.mark.parametrize("name", ["conv bn scale relu", "residual", "conv relu", "dense"])
def test_shapes_may_change(name, shape, backward):
    text = full(name) if backward else data() + NETS[name][0]
    fused, plain = build(text), build(text, plain=True)
    for net in (fused, plain):
        run(net, backward)
        net.blobs["data"].reshape(shape)
        net.blobs["data"].data[...] = np.random.default_rng(5).standard_normal(shape)
        run(net, backward)
    assert_same(fused, plain)


@pytest.mark.parametrize("plan", [False, True])
@pytest.mark.parametrize("phase", [TRAIN, TEST])
@pytest.mark.parametrize(
    "name", ["conv bn scale relu", "conv relu", "residual", "winograd", "depthwise", "inner product and relu"]
)
def test_nan_goes_through(name, phase, plan):
    body, last = NETS[name]
    fused, plain = (build(data() + body, phase, **how) for how in ({"plan": plan}, {"plain": True}))
    for net in (fused, plain):
        net.blobs["data"].data[1, 0, 3, 3] = np.nan
        net.forward()
    wanted = np.isnan(plain.blobs[last].data)
    assert wanted.any()
    assert (np.isnan(fused.blobs[last].data) == wanted).all()


@pytest.mark.parametrize("name", ["conv bn scale relu", "residual"])
def test_single_layers_backward(name):
    fused, plain = build(full(name)), build(full(name), plain=True)
    for net in (fused, plain):
        net.forward()
        net.clear_param_diffs()
        for i in reversed(range(1, len(net.layers))):
            net.backward_layer(i)
    assert_same(fused, plain)
