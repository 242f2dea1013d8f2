"""Training in half precision: close to float32, and no step by gradients that are not finite."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from caffetools.formats import prototxt
from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2
from caffetools.solver import Solver
from tests.gpu.nets import CLASSIFIER
from tests.gpu.test_iteration import NOTHING


@pytest.fixture(autouse=True)
def float32_again(engine):
    yield
    engine.precision = "FLOAT32"


def make(engine, **fields) -> Solver:
    """Return a solver of a small classifier; the same weights and data each time."""
    param = caffe_pb2.SolverParameter(
        base_lr=0.1, lr_policy="fixed", max_iter=100, random_seed=1, momentum=0.9
    )
    param.net_param.MergeFrom(prototxt.parse(CLASSIFIER, caffe_pb2.NetParameter))
    for name, value in fields.items():
        setattr(param, name, value)
    solver = Solver(param, engine=engine)
    solver.net.blobs["x"].data[...] = np.random.default_rng(0).standard_normal((4, 6))
    solver.net.blobs["label"].data[...] = [0, 1, 2, 1]
    return solver


def weights_after(steps, engine, **fields) -> np.ndarray:
    solver = make(engine, **fields)
    solver.step(steps)
    return solver.net.flat_data.read_host().copy()


RUNS = [{}, {"type": "Adam", "momentum2": 0.99}, {"clip_gradients": 0.1, "iter_size": 2}]


@pytest.mark.parametrize("fields", RUNS, ids=str)
@pytest.mark.parametrize(("precision", "tolerance"), [("FLOAT16", 2e-3), ("BFLOAT16", 2e-2)])
def test_training_is_close_to_float32(precision, tolerance, fields, engine):
    fields = {"base_lr": 0.02, **fields}
    exact = weights_after(4, engine, **fields)
    half = weights_after(4, engine, precision=precision, **fields)
    assert (exact != half).any()
    np.testing.assert_allclose(half, exact, rtol=0, atol=tolerance)


@pytest.mark.parametrize("fields", [*RUNS, {"log_gradient_norm": True, "display": 1}], ids=str)
def test_a_power_of_two_scales_without_a_trace(fields, engine, capfd):
    fields = {"precision": "BFLOAT16", **fields}
    plain = weights_after(4, engine, **fields)
    log = capfd.readouterr().err
    np.testing.assert_array_equal(weights_after(4, engine, loss_scale=1024, **fields), plain)
    scaled_log = capfd.readouterr().err

    def norms(text):
        return [
            line.partition("] ")[2]
            for line in text.splitlines()
            if "gradient norm" in line or "Clipping" in line
        ]

    assert norms(log) == norms(scaled_log)


def test_a_step_by_gradients_that_are_not_finite_is_skipped(engine, capfd):
    solver = make(engine, precision="FLOAT16", weight_decay=0.1)
    solver.step(2)
    solver.loss_scale.write([2.0**24, 0, 0])  # more than FLOAT16 can hold
    weights, history = solver.net.flat_data.read_host().copy(), solver._update.history().copy()
    solver.step(1)
    np.testing.assert_array_equal(solver.net.flat_data.read_host(), weights)
    np.testing.assert_array_equal(solver._update.history(), history)
    assert solver.loss_scale.read() == [2.0**23, 0, 1]
    solver.step(12)
    assert (solver.net.flat_data.read_host() != weights).any()
    assert np.isfinite(solver.net.flat_data.read_host()).all()
    scale, good, skipped = solver.loss_scale.read()
    assert 0 < skipped < 12 and scale == 2.0 ** (24 - skipped) and good == 13 - skipped
    log = capfd.readouterr().err
    assert (
        "The gradients are not finite: a step is skipped, the loss is scaled by 8.38861e+06 from now on"
        in log
    )
    assert log.count("a step is skipped") == skipped


@pytest.mark.parametrize(
    ("fields", "states"),
    [
        ({"loss_scale_window": 2}, [[65536, 1, 0], [131072, 0, 0], [131072, 1, 0], [262144, 0, 0]]),
        ({"loss_scale": 8}, [[8, good, 0] for good in range(1, 5)]),
    ],
)
def test_good_steps_double_a_scale_that_is_not_given(fields, states, engine):
    solver = make(engine, precision="FLOAT16", **fields)
    for state in states:
        solver.step(1)
        assert solver.loss_scale.read() == state


def test_the_loss_itself_is_not_scaled(engine):
    solver = make(engine, precision="FLOAT16", base_lr=0)
    solver.step(3)
    assert solver.smoothed_loss == pytest.approx(float(make(engine).net.forward()), rel=1e-2)


def test_steady_steps(engine):
    solver = make(engine, precision="FLOAT16")
    solver.step(2)
    engine.counters.reset()
    solver.step(6)
    assert asdict(engine.counters) == NOTHING


def test_a_snapshot_keeps_the_scale(engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fields = {"precision": "FLOAT16", "snapshot_prefix": "s", "loss_scale_window": 3}
    solver = make(engine, **fields)
    solver.step(4)
    solver.snapshot()
    other = make(engine, **fields)
    other.restore(str(Path("s_iter_4.solverstate")))
    assert other.loss_scale.read() == solver.loss_scale.read() == [131072, 1, 0]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"precision": "FLOAT8"}, "Unknown precision: FLOAT8 (known precisions: BFLOAT16, FLOAT16, FLOAT32"),
        ({"precision": "half"}, "Unknown precision: half"),
        ({"loss_scale": 128}, 'loss_scale: 128 goes with precision: "FLOAT16"; in FLOAT32 nothing is scaled'),
        ({"precision": "FLOAT16", "loss_scale": -1}, "loss_scale: -1 is negative"),
        ({"precision": "FLOAT16", "loss_scale_window": 0}, "param_.loss_scale_window() > 0"),
    ],
)
def test_refuses(fields, words, engine):
    with pytest.raises(FatalError) as error:
        make(engine, **fields)
    assert words in str(error.value)


def test_the_cpu_refuses_half_precision():
    with pytest.raises(FatalError, match='precision: "FLOAT16" needs a GPU: the CPU computes in FLOAT32'):
        make(None, precision="FLOAT16")
