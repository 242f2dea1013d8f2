"""The choice between CPU and GPU, as the commands make it."""

from __future__ import annotations

from caffetools.engine import devices
from caffetools.glog import fatal, info, warning
from caffetools.proto import caffe_pb2


def choose(gpu: str, param: caffe_pb2.SolverParameter | None = None) -> None:
    """Log the engine that is used.

    gpu: the value of --gpu; naming a GPU that cannot be used is an error. param: a solver file that may ask for the
    GPU: where there is none, that is a warning and the CPU trains.
    """
    if gpu:
        fatal(f"--gpu={gpu} cannot be used: {devices.why_no_gpu()}. Leave --gpu out to train on the CPU.")
    if (
        param is not None
        and param.HasField("solver_mode")
        and param.solver_mode == caffe_pb2.SolverParameter.GPU
    ):
        warning(f"solver_mode: GPU cannot be used: {devices.why_no_gpu()}. Training on the CPU.")
    info("Use CPU.")
