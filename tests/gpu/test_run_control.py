"""What Caffe never had, on the GPU: decoupled decay, averaged weights and what listeners hear, against the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffetools import upgrade
from caffetools.solver import Solver
from tests.gpu.test_solvers import recording  # noqa: F401
from tests.solver.small_run import Recorder

CLOSE = {"rtol": 1e-3, "atol": 1e-5}
FIELDS = {
    "decoupled_decay": True,
    "weight_decay": 0.1,
    "ema_decay": 0.8,
    "warmup_iter": 3,
    "snapshot": 3,
    "snapshot_prefix": "run",
}


def run(engine, resume=None):
    param = upgrade.read_solver("solver.prototxt")
    for name, value in FIELDS.items():
        setattr(param, name, value)
    solver = Solver(param, engine=engine)
    recorder = Recorder()
    solver.listeners.append(recorder)
    if resume:
        solver.restore(resume)
    solver.step(6 - solver.iter)
    solver.close()
    return solver, recorder


@pytest.mark.parametrize("recording", ["adam", "sgd_clip"], indirect=True)  # noqa: F811
def test_as_on_the_cpu(recording, engine):  # noqa: F811
    (cpu, expected), (gpu, told) = run(None), run(engine)
    np.testing.assert_allclose(gpu.net.param_data, cpu.net.param_data, **CLOSE)
    np.testing.assert_allclose(gpu.average.values, cpu.average.values, **CLOSE)
    for name in ("losses", "rates", "norms"):
        assert getattr(told, name) == pytest.approx(getattr(expected, name), rel=1e-3)
    assert Path("run_iter_3.resume.caffemodel").exists()
    resumed, rest = run(engine, "run_iter_3.solverstate")
    assert rest.losses == pytest.approx({it: loss for it, loss in told.losses.items() if it >= 3}, rel=1e-6)
    np.testing.assert_allclose(resumed.average.values, gpu.average.values, rtol=1e-6, atol=1e-7)
