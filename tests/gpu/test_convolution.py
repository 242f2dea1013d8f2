"""Convolution, Deconvolution and Im2col on the GPU against sums over taps, the CPU engine and numeric gradients."""

from __future__ import annotations

from dataclasses import asdict

import numba
import numpy as np
import pytest

from caffetools.formats import prototxt
from caffetools.proto import caffe_pb2
from caffetools.solver import Solver
from tests.gpu.test_iteration import NOTHING
from tests.layers.gradient import SingleLayer, check_gradient, uniform
from tests.layers.test_convolution import CASES, IDS, convolve, text_of

#: What the CPU's cases leave out: a stride larger than the kernel and tiles with an edge in every direction.
MORE = [
    ("num_output: 5 kernel_size: 2 stride: 3 pad: 1", (2, 3, 8, 7), (3, 3), (1, 1), (1, 1), 1),
    (
        "num_output: 9 kernel_size: 3 stride_h: 2 stride_w: 1 pad: 1 group: 1",
        (1, 5, 6, 5),
        (2, 1),
        (1, 1),
        (1, 1),
        1,
    ),
    ("num_output: 18 kernel_size: 2 group: 2", (1, 18, 3, 3), (1, 1), (0, 0), (1, 1), 2),
    (
        "num_output: 6 kernel_size: 3 stride: 2 pad: 1 dilation: 2 group: 3",
        (1, 3, 9, 7),
        (2, 2),
        (1, 1),
        (2, 2),
        3,
    ),
]
ALL = CASES + MORE
ALL_IDS = IDS + [f"{settings} on {shape}" for settings, shape, *_ in MORE]
FIELDS = ("settings", "shape", "stride", "pad", "dilation", "group")
#: Who computes: cuDNN is there on a device only.
SIMULATED = bool(numba.config.ENABLE_CUDASIM)
ENGINES = ["CAFFE"] if SIMULATED else ["CAFFE", "CUDNN"]


@pytest.mark.parametrize("by", ENGINES)
@pytest.mark.parametrize(FIELDS, ALL, ids=ALL_IDS)
def test_forward_is_the_sum_over_taps(settings, shape, stride, pad, dilation, group, by, engine):
    x = uniform(*shape)
    rig = SingleLayer(text_of("Convolution", f"{settings} engine: {by}"), x, engine=engine)
    w, *b = (blob.cpu_data for blob in rig.layer.blobs)
    (y,) = rig.forward()
    expected = convolve(x, w, b[0] if b else None, stride, pad, dilation, group)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


# A transposed convolution of one pixel with so much padding has no output.
BOTH = [(kind, *case[:2]) for case in ALL for kind in ("Convolution", "Deconvolution")]
BOTH.remove(("Deconvolution", "num_output: 3 kernel_size: 5 pad: 4", (1, 2, 1, 1)))


@pytest.mark.parametrize("by", ENGINES)
@pytest.mark.parametrize(("kind", "settings", "shape"), BOTH)
def test_passes_equal_the_cpu(kind, settings, shape, by, engine):
    text = text_of(kind, f"{settings} engine: {by}")
    rigs = [SingleLayer(text, uniform(*shape), engine=where) for where in (engine, None)]
    for mine, other in zip(*(rig.forward() for rig in rigs), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)
    dy = uniform(*rigs[0].top[0].shape, seed=5)
    for rig in rigs:
        for blob in rig.layer.blobs:
            blob.diff[...] = 0.5  # gradients are added
    for mine, other in zip(*(rig.backward(dy) for rig in rigs), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)
    for mine, other in zip(*(rig.layer.blobs for rig in rigs), strict=True):
        np.testing.assert_allclose(mine.cpu_diff, other.diff, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ("num_output: 3 kernel_size: 3 stride: 2 pad: 1", (2, 2, 5, 4)),
        ("num_output: 2 kernel_size: 2 dilation: 2 group: 2 pad: 1", (1, 2, 4, 3)),
        ("num_output: 2 kernel_size: 2 stride: 2 pad: 1", (1, 2, 3, 2, 3)),
    ],
)
def test_gradient(kind, settings, shape, engine):
    check_gradient(text_of(kind, settings), uniform(*shape), samples=8, engine=engine)


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
def test_bottoms_share_the_weights(kind, engine):
    x, other = uniform(2, 3, 5, 4), uniform(2, 3, 5, 4, seed=8)
    text = text_of(kind, "num_output: 4 kernel_size: 3 stride: 2")
    both = SingleLayer(text, x, other, tops=2, engine=engine)
    for values, top in zip((x, other), both.forward(), strict=True):
        np.testing.assert_array_equal(SingleLayer(text, values, engine=engine).forward()[0], top)
    check_gradient(text, x, other, tops=2, samples=4, engine=engine)


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
def test_frozen_parameters_get_no_gradient(kind, engine):
    rig = SingleLayer(text_of(kind, "num_output: 4 kernel_size: 3"), uniform(2, 3, 5, 4), engine=engine)
    rig.layer.param_propagate_down = [False, True]
    rig.backward(rig.forward()[0])
    weight, bias = (blob.cpu_diff for blob in rig.layer.blobs)
    assert not weight.any() and bias.any()


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
def test_other_sizes_and_batches_later(kind, engine):
    text = text_of(kind, "num_output: 4 kernel_size: 3 stride: 2 pad: 1")
    rig = SingleLayer(text, uniform(2, 3, 5, 4), engine=engine)
    for shape in [(3, 3, 9, 7), (1, 3, 5, 4)]:
        x = uniform(*shape)
        rig.reshape(x)
        fresh = SingleLayer(text, x, engine=engine)
        for blob, mine in zip(fresh.layer.blobs, rig.layer.blobs, strict=True):
            blob.data[...] = mine.cpu_data
        np.testing.assert_array_equal(rig.forward()[0], fresh.forward()[0])


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "group"),
    [((2, 3, 4, 5), (4, 3, 3, 2), 1), ((2, 4, 4, 3), (4, 1, 2, 2), 4), ((2, 2, 3, 4, 3), (3, 2, 2, 2, 2), 1)],
    ids=["tiles", "depthwise", "three axes"],
)
@pytest.mark.parametrize("slope", [0, 0.25, 1])
@pytest.mark.parametrize("adds", [False, True])
def test_outputs_are_finished_as_they_are_written(x_shape, w_shape, group, slope, adds, engine):
    from caffetools.engine.gpu.memory import device_array, to_device
    from caffetools.engine.gpu.own_conv import OwnConvPlan

    axes = len(x_shape) - 2
    plan = OwnConvPlan(x_shape, w_shape, (1,) * axes, (0,) * axes, (1,) * axes, group)
    sizes = [size - kernel + 1 for size, kernel in zip(x_shape[2:], w_shape[2:], strict=True)]
    y_shape = (x_shape[0], w_shape[0], *sizes)
    shapes = x_shape, w_shape, w_shape[:1], y_shape
    x, w, bias, more = (uniform(*shape, seed=i).astype(np.float32) for i, shape in enumerate(shapes))
    x[0, 0, 0, 0] = np.nan
    source, weights, shift, residual = (to_device(engine, each) for each in (x, w, bias, more))
    plain, finished = (device_array(engine, more.size, np.float32) for _ in range(2))
    plan.forward(source, weights, shift, plain)
    plan.forward(source, weights, shift, finished, residual if adds else None, slope)
    expected = plain.copy_to_host() + (more.reshape(-1) if adds else 0)
    expected = np.where(expected < 0, np.float32(slope) * expected, expected)
    assert np.isnan(expected).any() and (expected < 0).any() == (slope > 0)
    np.testing.assert_array_equal(finished.copy_to_host(), expected)


def test_a_result_depends_neither_on_the_batch_nor_on_the_tile(engine):
    from caffetools.engine.gpu.conv_geometry import Geometry
    from caffetools.engine.gpu.conv_tiles import KERNELS, GatheredProduct
    from caffetools.engine.gpu.memory import device_array, to_device

    x, w = uniform(3, 4, 5, 6).astype(np.float32), uniform(7, 4, 3, 3).astype(np.float32)
    results = []
    for items in (3, 1):
        geometry = Geometry.of((items, 4, 5, 6), w.shape, (1, 1), (1, 1), (1, 1), 1)
        for each in KERNELS:
            y = device_array(engine, items * 7 * 30, np.float32)
            GatheredProduct.forward(geometry, each).run(
                to_device(engine, w), to_device(engine, x[:items]), None, y
            )
            results.append(y.copy_to_host().reshape(items, -1)[0])
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_every_tile_gives_the_weight_gradient(engine):
    from caffetools.engine.gpu.conv_geometry import Geometry
    from caffetools.engine.gpu.conv_weights import KERNELS, WeightGradient
    from caffetools.engine.gpu.memory import to_device

    x, dy = uniform(2, 3, 4, 5), uniform(2, 5, 3, 4)
    expected = np.zeros((5, 3, 2, 2))
    for r, s in np.ndindex(2, 2):
        expected[:, :, r, s] = np.einsum("nmij,ncij->mc", dy, x[:, :, r : r + 3, s : s + 4])
    geometry = Geometry.of(x.shape, expected.shape, (1, 1), (0, 0), (1, 1), 1)
    x, dy = (to_device(engine, values.astype(np.float32)) for values in (x, dy))
    for each in KERNELS:
        for parts in (1, 5):
            dw = to_device(engine, np.zeros(60, np.float32))
            WeightGradient(geometry, np.float32, each, parts).add(x, dy, dw)
            np.testing.assert_allclose(
                dw.copy_to_host().reshape(expected.shape), expected, rtol=1e-4, atol=1e-5
            )


@pytest.mark.parametrize(
    ("rows", "columns", "jobs", "expected"),
    [
        (256, 100000, 1, (8, 4)),
        (20, 576 * 256, 1, (2, 8)),
        (512, 49 * 4, 1, (2, 2)),
        (64, 3136 * 32, 1, (4, 4)),
        (32, 64, 1, (2, 2)),
    ],
)
def test_tiles_fit_the_shape(rows, columns, jobs, expected, engine):
    from caffetools.engine.gpu.conv_tiles import choose_tile

    assert choose_tile(rows, columns, jobs, processors=132) == expected


def test_small_groups_are_computed_directly(engine):
    from caffetools.engine.gpu.conv_direct import fits
    from caffetools.engine.gpu.conv_geometry import Geometry

    def geometry(channels, outputs, group):
        return Geometry.of(
            (1, channels, 5, 5), (outputs, channels // group, 3, 3), (1, 1), (1, 1), (1, 1), group
        )

    assert fits(geometry(64, 64, 64))
    assert not fits(geometry(64, 64, 1))
    assert not fits(geometry(64, 64, 2))
    assert not fits(geometry(1, 4, 1))


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ("kernel_size: 3 stride: 2 pad: 1", (2, 3, 5, 4)),
        ("kernel_size: 2 dilation: 2", (1, 2, 4, 5)),
        ("kernel_size: 3 pad: 2 stride: 3", (2, 1, 7)),
        ("kernel_size: 2 kernel_size: 1 kernel_size: 3", (1, 2, 3, 2, 4)),
        ("kernel_size: 2 axis: 0", (2, 3, 4)),
    ],
)
def test_im2col_equals_the_cpu(settings, shape, engine):
    text = f'type: "Im2col" convolution_param {{ {settings} }}'
    rigs = [SingleLayer(text, uniform(*shape), engine=where) for where in (engine, None)]
    (mine,), (other,) = (rig.forward() for rig in rigs)
    np.testing.assert_array_equal(mine, other)
    dy = uniform(*other.shape, seed=5)
    (mine,), (other,) = (rig.backward(dy) for rig in rigs)
    np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["ConvolutionDepthwise", "DepthwiseConvolution"])
def test_depthwise_layers_of_forks(kind, engine):
    rigs = [
        SingleLayer(text_of(kind, "num_output: 3 kernel_size: 3 group: 3"), uniform(2, 3, 5, 4), engine=where)
        for where in (engine, None)
    ]
    (mine,), (other,) = (rig.forward() for rig in rigs)
    np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)
    (mine,), (other,) = (rig.backward(mine) for rig in rigs)
    np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)


def test_layers_of_one_shape_share_a_plan(engine):
    text = text_of("Convolution", "num_output: 4 kernel_size: 3")
    rigs = [SingleLayer(text, uniform(2, 3, 5, 4), engine=engine) for _ in range(2)]
    assert rigs[0].layer.gpu.plan is rigs[1].layer.gpu.plan
    other = SingleLayer(
        text_of("Convolution", "num_output: 4 kernel_size: 3 pad: 1"), uniform(2, 3, 5, 4), engine=engine
    )
    assert other.layer.gpu.plan is not rigs[0].layer.gpu.plan


CONVNET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 2 dim: 5 dim: 4 } } }
layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 2 } } }
layer { name: "conv1" type: "Convolution" bottom: "x" top: "conv1"
        convolution_param { num_output: 3 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2"
        convolution_param { num_output: 6 kernel_size: 2 stride: 2 group: 3 weight_filler { type: "xavier" } } }
layer { name: "up" type: "Deconvolution" bottom: "conv2" top: "up"
        convolution_param { num_output: 2 kernel_size: 2 weight_filler { type: "xavier" } } }
layer { name: "ip" type: "InnerProduct" bottom: "up" top: "ip"
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""


def convnet(engine, **fields) -> Solver:
    param = caffe_pb2.SolverParameter(
        base_lr=0.1, lr_policy="fixed", max_iter=100, random_seed=1, momentum=0.9
    )
    param.net_param.MergeFrom(prototxt.parse(CONVNET, caffe_pb2.NetParameter))
    for name, value in fields.items():
        setattr(param, name, value)
    solver = Solver(param, engine=engine)
    solver.net.blobs["x"].data[...] = uniform(2, 2, 5, 4)
    solver.net.blobs["label"].data[...] = [0, 2]
    return solver


def test_a_net_is_trained_as_on_the_cpu(engine):
    mine, other = convnet(engine), convnet(None)
    for solver in (mine, other):
        solver.step(4)
    np.testing.assert_allclose(mine.net.flat_data.read_host(), other.net.param_data, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("precision", ["FLOAT32", "BFLOAT16"])
def test_steady_steps_cost_nothing_else(precision, engine):
    solver = convnet(engine, precision=precision)
    solver.step(2)
    engine.counters.reset()
    solver.step(6)
    engine.precision = "FLOAT32"
    assert asdict(engine.counters) == NOTHING


def test_a_steady_pass_allocates_nothing(engine):
    rig = SingleLayer(
        text_of("Convolution", "num_output: 4 kernel_size: 3"), uniform(2, 3, 5, 4), engine=engine
    )
    rig.backward(*rig.forward())
    bottom, top = rig.bottom, rig.top
    _ = bottom[0].mutable_gpu_data, top[0].mutable_gpu_diff
    for _ in range(2):
        rig._forward(bottom, top)
        rig._backward(top, [True], bottom)
        engine.counters.reset()
    rig._forward(bottom, top)
    rig._backward(top, [True], bottom)
    assert asdict(engine.counters) == NOTHING
