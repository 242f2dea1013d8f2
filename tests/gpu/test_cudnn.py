"""Convolution by cuDNN: what the package is asked for, and what is made of its answers, with a stand-in for it."""

from __future__ import annotations

import sys
from dataclasses import asdict

import numba
import numpy as np
import pytest

from caffetools.layer import TEST, TRAIN
from tests.gpu.fake_cudnn import Fake
from tests.gpu.test_fused import small
from tests.gpu.test_iteration import NOTHING
from tests.layers.gradient import SingleLayer, uniform
from tests.layers.test_convolution import text_of
from tests.net.test_fusion import assert_same, build, run

pytestmark = pytest.mark.skipif(
    not numba.config.ENABLE_CUDASIM, reason="the stand-in computes in the memory of the host"
)

CASES = [
    ("num_output: 4 kernel_size: 3 stride: 2 pad: 1", (2, 3, 6, 5)),
    ("num_output: 6 kernel_size: 2 group: 3 dilation: 2", (2, 3, 5, 4)),
    ("num_output: 4 kernel_size: 1 bias_term: false", (2, 3, 2, 3)),
    ("num_output: 3 kernel_size: 3 pad: 1", (2, 2, 6)),
    ("num_output: 2 kernel_size: 2 stride: 2", (1, 2, 4, 3, 5)),
]


@pytest.fixture
def cudnn(monkeypatch, engine):
    """A function that puts the stand-in in place."""
    from caffetools.engine.gpu import conv, cudnn, cudnn_conv

    def forget():
        conv._plan.cache_clear()
        cudnn.handle.cache_clear()
        cudnn_conv._graph.cache_clear()

    def install(**options):
        module = Fake(**options)
        monkeypatch.setitem(sys.modules, "cudnn", module)
        monkeypatch.setattr(cudnn, "why_not", lambda: "")
        monkeypatch.setattr(cudnn_conv, "_said", set())
        forget()
        return module

    yield install
    forget()
    engine.precision, engine.tf32 = "FLOAT32", False


def passes(kind, settings, shape, engine):
    """Return the results of all passes of a layer: y, dx, the parameters' gradients."""
    rig = SingleLayer(text_of(kind, settings), uniform(*shape), engine=engine)
    (y,) = rig.forward()
    for blob in rig.layer.blobs:
        blob.diff[...] = 0.5
    (dx,) = rig.backward(uniform(*y.shape, seed=5))
    return [y, dx, *(blob.diff.copy() for blob in rig.layer.blobs)]


def compare(results, others, **tolerance):
    for mine, other in zip(results, others, strict=True):
        np.testing.assert_allclose(mine, other, **tolerance)


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
@pytest.mark.parametrize(("settings", "shape"), CASES)
def test_passes_equal_the_cpu(kind, settings, shape, engine, cudnn):
    module = cudnn()
    results = passes(kind, settings, shape, engine)
    compare(results, passes(kind, settings, shape, None), rtol=1e-4, atol=1e-5)
    biased = kind == "Convolution" and "bias_term" not in settings
    expected = ["forward", "weight gradient", "data gradient"]
    assert sorted(graph.name for graph in module.graphs) == sorted(expected + ["forward with bias"] * biased)


def test_shapes_and_settings_of_the_graphs(engine, cudnn):
    module = cudnn()
    passes(
        "Convolution",
        "num_output: 6 kernel_size: 3 group: 3 stride_h: 2 stride_w: 1 pad: 1",
        (2, 3, 6, 5),
        engine,
    )
    graphs = {graph.name: graph for graph in module.graphs}
    x, w, bias, y = [2, 3, 6, 5], [6, 1, 3, 3], [1, 6, 1, 1], [2, 6, 3, 5]
    shapes = {
        name: [(tensor.uid, tensor.dim, tensor.stride) for tensor in (*graph.inputs, graph.result)]
        for name, graph in graphs.items()
    }
    assert shapes == {
        "forward": [(1, x, [90, 30, 5, 1]), (2, w, [9, 9, 3, 1]), (3, y, [90, 15, 5, 1])],
        "forward with bias": [
            (1, x, [90, 30, 5, 1]),
            (2, w, [9, 9, 3, 1]),
            (3, bias, [6, 1, 1, 1]),
            (4, y, [90, 15, 5, 1]),
        ],
        "data gradient": [(1, y, [90, 15, 5, 1]), (2, w, [9, 9, 3, 1]), (3, x, [90, 30, 5, 1])],
        "weight gradient": [(1, x, [90, 30, 5, 1]), (2, y, [90, 15, 5, 1]), (3, w, [9, 9, 3, 1])],
    }
    for graph in module.graphs:
        assert graph.operations[0][1] == {"padding": [1, 1], "stride": [2, 1], "dilation": [1, 1]}


@pytest.mark.parametrize("tf32", [False, True])
def test_tensor_cores_compute_float32_only_where_that_is_allowed(tf32, engine, cudnn):
    module = cudnn()
    engine.tf32 = tf32
    passes("Convolution", *CASES[0], engine)
    for graph in module.graphs:
        names = {note.name for note in graph.notes}
        assert ("TENSOR_CORE" in names) == (not tf32)
        assert {"NONDETERMINISTIC", "DOWN_CONVERT_INPUTS"} < names


def test_layers_of_one_shape_share_their_graphs(engine, cudnn):
    module = cudnn()
    for _ in range(2):
        passes("Convolution", *CASES[0], engine)
    assert len(module.graphs) == 4
    passes("Convolution", CASES[0][0] + " dilation: 2", CASES[0][1], engine)
    assert len(module.graphs) == 8


def test_engine_caffe_means_our_kernels(engine, cudnn):
    module = cudnn()
    passes("Convolution", CASES[0][0] + " engine: CAFFE", CASES[0][1], engine)
    assert module.graphs == []


@pytest.mark.parametrize("refused", ["bias", "conv_fprop", "conv_dgrad", "conv_wgrad"])
def test_what_cudnn_refuses_our_kernels_compute(refused, engine, cudnn, capfd):
    cudnn(refuses=(refused,))
    compare(
        passes("Convolution", *CASES[0], engine), passes("Convolution", *CASES[0], None), rtol=1e-4, atol=1e-5
    )
    log = capfd.readouterr().err
    assert ("no engine for" in log) == (refused != "bias")
    assert "and more" not in log


WITH_RELU, WITH_SUM = "forward with bias and ReLU", "forward with sum, bias and ReLU"


@pytest.mark.parametrize(
    ("name", "phase", "refuses", "expected"),
    [
        ("conv relu", TRAIN, (), {WITH_RELU}),
        ("conv relu", TRAIN, ("relu",), set()),
        ("conv relu", TRAIN, ("conv_fprop",), set()),
        ("conv leaky relu", TEST, (), set()),
        ("conv bn scale relu", TEST, (), {WITH_RELU}),
        ("conv bn scale", TEST, (), {"forward with bias"}),
        ("no bias", TEST, (), {WITH_RELU}),
        ("residual", TEST, (), {WITH_RELU, WITH_SUM}),
        ("residual first", TEST, ("add",), {WITH_RELU}),
        ("residual without relu", TEST, ("add",), {WITH_RELU}),
    ],
)
def test_layers_that_run_as_one(name, phase, refuses, expected, engine, cudnn):
    module = cudnn(refuses=refuses)
    text = small(name, phase == TRAIN)
    fused = run(build(text, phase, plan=True, engine=engine), backward=phase == TRAIN)
    assert_same(fused, run(build(text, phase, plain=True), backward=phase == TRAIN), inside=False)
    assert {graph.name for graph in module.graphs if graph.runs and "with" in graph.name} == expected


def test_half_precision_finishes_in_float32(engine, cudnn):
    module = cudnn()
    engine.precision = "FLOAT16"
    nets = [run(build(small("conv relu"), plain=plain, engine=engine)) for plain in (False, True)]
    np.testing.assert_array_equal(*(net.blobs["c"].cpu_data for net in nets))
    assert {graph.name for graph in module.graphs} == {"forward", "weight gradient"}


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
@pytest.mark.parametrize("wide", [True, False], ids=["float32 results", "half results"])
@pytest.mark.parametrize(
    ("precision", "name", "tolerance"), [("FLOAT16", "HALF", 4e-3), ("BFLOAT16", "BFLOAT16", 4e-2)]
)
def test_half_precision(kind, wide, precision, name, tolerance, engine, cudnn):
    operations = ("conv_fprop", "conv_dgrad", "conv_wgrad")
    module = cudnn(refuses=() if wide else [(operation, name, "FLOAT") for operation in operations])
    engine.precision = precision
    results = passes(kind, *CASES[0], engine)
    compare(results, passes(kind, *CASES[0], None), rtol=tolerance, atol=tolerance)
    assert {graph.inputs[0].data_type.name for graph in module.graphs} == {name}
    engine.precision = "FLOAT32"
    assert any((a != b).any() for a, b in zip(results, passes(kind, *CASES[0], engine), strict=True))


def test_a_steady_pass_allocates_nothing(engine, cudnn):
    cudnn()
    rig = SingleLayer(text_of("Convolution", CASES[0][0]), uniform(*CASES[0][1]), engine=engine)
    rig.backward(*rig.forward())
    for blob in (*rig.bottom, *rig.top, *rig.layer.blobs):
        _ = blob.mutable_gpu_data, blob.mutable_gpu_diff
    engine.counters.reset()
    rig._forward(rig.bottom, rig.top)
    rig._backward(rig.top, [True], rig.bottom)
    assert asdict(engine.counters) == NOTHING


def test_without_cudnn_it_is_said_once(engine, monkeypatch, capfd):
    from caffetools.engine.gpu import conv

    monkeypatch.setattr(conv, "_said", set())
    for _ in range(2):
        SingleLayer(text_of("Convolution", CASES[0][0]), uniform(*CASES[0][1]), engine=engine)
    assert capfd.readouterr().err.count("kernels of our own, without cuDNN") == 1
