"""Layers that run as one on the GPU: where the CPU's do, with the numbers of the layers one by one, and of the CPU."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from caffetools.engine.cpu.rng import RandomSource
from caffetools.formats import prototxt
from caffetools.layer import TEST, TRAIN, Context
from caffetools.net import load_net
from caffetools.proto import caffe_pb2
from tests.gpu.test_iteration import NOTHING, iteration
from tests.net.test_fusion import LOSS, NETS, assert_close, assert_same, build, data, relu, run

GAUSS = 'type: "gaussian" mean: 1 std: 0.5'
RANDOM_SCALE = f"scale_param {{ filler {{ {GAUSS} }} bias_term: true bias_filler {{ {GAUSS} }} }}"
LAYERS = {
    "Scale": f'layer {{ name: "s" type: "Scale" bottom: "c" top: "c" {RANDOM_SCALE} }}',
    "ReLU": 'layer { name: "r" type: "ReLU" bottom: "c" top: "c" }',
}
#: 64 channels are for an algorithm of the CPU.
NAMES = [name for name in NETS if name != "winograd"]
#: A net for each kind of step and what is special about it.
KINDS = [
    "conv bn scale relu",
    "fully connected",
    "residual",
    "conv leaky relu",
    "depthwise",
    "collected statistics",
    "inner product and relu",
    "sum and relu",
]


def net_of(chain, engine):
    """Return a net of a convolution, BatchNorm and the layers of a chain, which work in place."""
    text = f"""
    layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: 3 dim: 2 dim: 4 dim: 3 }} }} }}
    layer {{ name: "c" type: "Convolution" bottom: "x" top: "c"
             convolution_param {{ num_output: 4 kernel_size: 2 weight_filler {{ type: "gaussian" }} }} }}
    layer {{ name: "b" type: "BatchNorm" bottom: "c" top: "c" }}
    {"".join(LAYERS[name] for name in chain)}
    layer {{ name: "l" type: "Reduction" bottom: "c" top: "l" loss_weight: 1 reduction_param {{ operation: SUMSQ }} }}
    """
    param = prototxt.parse(text, caffe_pb2.NetParameter)
    net = load_net(param, TRAIN, Context(random=RandomSource(3), engine=engine))
    net.blobs["x"].data[...] = np.random.default_rng(0).standard_normal((3, 2, 4, 3))
    return net


def small(name, loss=True):
    body, last = NETS[name]
    return data(size=3, batch=3) + body + (LOSS % last if loss else "")


def seen(net):
    """Let something look at every layer of the next passes."""
    for hooks in (net.before_forward, net.before_backward):
        hooks.append(lambda i: None)
    return net


def steps_of(net):
    return [(step.first, step.last, type(step).__name__.removeprefix("Device")) for step in net._fused.steps]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("phase", "plan"), [(TRAIN, False), (TRAIN, True), (TEST, False), (TEST, True)])
def test_steps_are_those_of_the_cpu(name, phase, plan, engine):
    here, there = (build(small(name, phase == TRAIN), phase, plan, engine=where) for where in (engine, None))
    assert steps_of(here) == steps_of(there)


@pytest.mark.parametrize("name", NAMES)
def test_training(name, engine):
    text = small(name)
    fused = run(build(text, engine=engine))
    assert all(step.ran for step in fused._fused.steps)
    assert_same(fused, run(build(text, plain=True)), rtol=3e-5)


@pytest.mark.parametrize("name", [*KINDS, "distinct tops", "dense"])
def test_training_where_nobody_looks_into_blobs(name, engine):
    text = small(name)
    fused, plain = build(text, plan=True, engine=engine), build(text, plain=True, engine=engine)
    assert fused._fused.steps
    assert_same(run(fused), run(plain), rtol=3e-5, inside=False)


@pytest.mark.parametrize("plan", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_testing(name, plan, engine):
    text = small(name, loss=False)
    fused = run(build(text, TEST, plan, engine=engine), backward=False)
    plain = run(build(text, TEST, plain=True), backward=False)
    assert_same(fused, plain, inside=not plan)


@pytest.mark.parametrize("name", ["conv relu", "inner product and relu", "sum and relu"])
@pytest.mark.parametrize("phase", [TRAIN, TEST])
def test_the_same_bits_where_the_order_of_the_sums_is_the_same(name, phase, engine):
    fused, plain = (run(build(small(name), phase, plain=plain, engine=engine)) for plain in (False, True))
    assert fused._fused.steps
    for blob in plain.blob_names:
        np.testing.assert_array_equal(fused.blobs[blob].cpu_data, plain.blobs[blob].cpu_data, blob)
    np.testing.assert_array_equal(fused.param_diff, plain.param_diff)


@pytest.mark.parametrize("name", KINDS)
def test_layers_go_backward_one_by_one_after_a_fused_pass(name, engine):
    fused, plain = build(small(name), engine=engine), build(small(name), plain=True, engine=engine)
    for net in (fused, plain):
        net.clear_param_diffs()
        net.forward()
    assert all(step.ran for step in fused._fused.steps)
    for net in (seen(fused), plain):
        net.backward()
    assert_same(fused, plain, rtol=3e-5)


def test_passes_that_are_seen_backward_run_one_by_one(engine):
    net = net_of(["Scale", "ReLU"], engine)
    net.after_backward.append(lambda i: None)
    for _ in range(2):
        iteration(net)
    engine.counters.reset()
    iteration(net)
    assert asdict(engine.counters) == NOTHING


@pytest.mark.parametrize("name", KINDS)
def test_steady_iterations_cost_nothing_else(name, engine):
    net = build(small(name), plan=True, engine=engine)
    for _ in range(2):
        iteration(net)
        net.update()
    engine.counters.reset()
    for _ in range(2):
        iteration(net)
        net.update()
    assert asdict(engine.counters) == NOTHING


def test_parameters_are_folded_when_they_have_changed(engine, monkeypatch):
    from caffetools.net.fused import affine_cu

    folded, fold = [], affine_cu.fold
    monkeypatch.setattr(affine_cu, "fold", fold)
    launch = affine_cu.launch
    monkeypatch.setattr(affine_cu, "launch", lambda kernel, *args: (folded.append(kernel), launch(kernel, *args)))
    text = small("conv bn scale relu", loss=False)
    net, plain = build(text, TEST, plan=True, engine=engine), build(text, TEST, plain=True)
    for _ in range(2):
        run(net, backward=False)
    assert folded.count(fold) == 1
    other = build(small("conv bn scale relu"), engine=engine)
    for each in (net, plain):
        each.param_data[...] = np.random.default_rng(4).uniform(0.5, 1, each.param_data.shape)
        run(each, backward=False)
    assert folded.count(fold) == 2
    assert_close(net.blobs["c"].data, plain.blobs["c"].data, "c")
    net.share_weights_from(other)
    run(net, backward=False)
    run(other)
    other.update()
    run(net, backward=False)
    assert folded.count(fold) == 4
    alone = build(text, TEST, plain=True, engine=engine)
    alone.share_weights_from(other)
    assert_close(net.blobs["c"].data, run(alone, backward=False).blobs["c"].data, "c")


@pytest.mark.parametrize("name", ["conv bn scale relu", "conv leaky relu", "residual", "inner product and relu"])
@pytest.mark.parametrize("phase", [TRAIN, TEST])
def test_nan_goes_through(name, phase, engine):
    fused, plain = (build(small(name), phase, **how) for how in ({"plan": True, "engine": engine}, {"plain": True}))
    for net in (fused, plain):
        net.blobs["data"].data[1, 0, 2, 1] = np.nan
        net.forward()
    last = NETS[name][1]
    wanted = np.isnan(plain.blobs[last].data)
    assert wanted.any()
    assert (np.isnan(fused.blobs[last].data) == wanted).all()


@pytest.mark.parametrize("name", ["conv bn scale relu", "residual", "inner product and relu"])
def test_shapes_may_change(name, engine):
    text = small(name, loss=False)
    size = 3 if name.startswith("inner") else 5
    fused, plain = build(text, TEST, plan=True, engine=engine), build(text, TEST, plain=True)
    for net in (fused, plain):
        run(net, backward=False)
        net.blobs["data"].reshape((2, 3, size, size))
        net.blobs["data"].data[...] = np.random.default_rng(5).standard_normal((2, 3, size, size))
        run(net, backward=False)
    assert_same(fused, plain, inside=False)


def test_a_slope_below_zero_is_left_alone(engine):
    text = data(size=3, batch=3) + 'layer { name: "t" type: "TanH" bottom: "data" top: "t" }'
    text += 'layer { name: "e" type: "Eltwise" bottom: "data" bottom: "t" top: "e" }' + relu("r", "e", slope=-0.5)
    assert build(text, engine=engine)._fused.steps == []


def test_a_net_that_hides_blobs_says_so(engine):
    assert build(small("residual"), plan=True, engine=engine).unplan()
    assert not build(small("residual"), engine=engine).unplan()
