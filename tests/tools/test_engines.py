"""GPU where there is none: a solver file that asks for it trains on the CPU, a flag that asks for it is an error."""

from __future__ import annotations

import pytest

from caffetools.engine import devices
from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2
from caffetools.tools import device_query, engines, test, time, train
from tests.recorded import FORMATS

GPU, CPU = caffe_pb2.SolverParameter.GPU, caffe_pb2.SolverParameter.CPU


def logged(capfd):
    return [line.split("] ", 1)[1] for line in capfd.readouterr().err.splitlines() if "] " in line]


def test_solver_file_asks_for_the_gpu(capfd):
    engines.choose("", caffe_pb2.SolverParameter(solver_mode=GPU))
    warning, use = logged(capfd)
    assert warning.startswith(f"solver_mode: GPU cannot be used: {devices.why_no_gpu()}")
    assert use == "Use CPU."


@pytest.mark.parametrize("param", [None, caffe_pb2.SolverParameter(), caffe_pb2.SolverParameter(solver_mode=CPU)])
def test_nobody_asks_for_the_gpu(param, capfd):
    """The schema's default is GPU; only a file that says so asks for it, as in the original."""
    engines.choose("", param)
    assert logged(capfd) == ["Use CPU."]


MODEL = str(FORMATS / "deploy.prototxt")
COMMANDS = [
    lambda: train.train(str(FORMATS / "solver.prototxt"), gpu="0"),
    lambda: test.test(MODEL, str(FORMATS / "small_iter_40.caffemodel"), gpu="0"),
    lambda: time.time(MODEL, gpu="0"),
    lambda: device_query.device_query("0"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=["train", "test", "time", "device_query"])
def test_flag_asks_for_the_gpu(command):
    with pytest.raises(FatalError, match=r"--gpu=0 cannot be (used|queried): ") as error:
        command()
    assert devices.why_no_gpu() in str(error.value)


@pytest.mark.parametrize("solver", [None, caffe_pb2.SolverParameter()])
def test_the_cpu_has_no_tf32(solver):
    with pytest.raises(FatalError, match="--tf32 is for GPUs, the CPU computes in float32"):
        engines.choose("", solver, tf32=True)


def test_device_query_without_a_flag(capfd):
    device_query.device_query()
    assert logged(capfd) == ["Querying GPUs "]
