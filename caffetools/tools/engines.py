"""The choice between CPU and GPU, as the commands make it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffetools.engine import devices
from caffetools.glog import fatal, info, warning
from caffetools.proto import caffe_pb2

if TYPE_CHECKING:
    from caffetools.engine.gpu.device import Engine


def choose(
    gpu: str, param: caffe_pb2.SolverParameter | None = None, tf32: bool = False, rank: int = 0
) -> Engine | None:
    """Log the engine that is used and return it; None is the CPU.

    gpu: the value of --gpu; naming a GPU that cannot be used is an error. param: a solver file that may ask for the
    GPU: where there is none, that is a warning and the CPU trains. tf32: the value of --tf32. rank: which of the GPUs
    that are named this process trains on.
    """
    engine = _choose(gpu, param, rank)
    if engine is not None:
        engine.tf32 = tf32
    elif tf32:
        fatal("--tf32 is for GPUs, the CPU computes in float32. Leave it out, or give --gpu.")
    return engine


def first(gpu: str) -> str:
    """Return a --gpu that names only the first of the GPUs that this one names."""
    return "0" if gpu == "all" else gpu.split(",")[0]


def several(gpu: str) -> list[int]:
    """Return the numbers of the GPUs that a --gpu names, an empty list for fewer than two.

    Errors: FatalError where they cannot be used together.
    """
    if (gpu != "all" and "," not in gpu) or devices.why_no_gpu():
        return []
    numbers = parse(gpu)
    if len(numbers) < 2:
        return []
    count = devices.gpu_count()
    for number in numbers:
        if not 0 <= number < count:
            fatal(f"--gpu={gpu}: there is no GPU {number}; this machine has {count}, counted from 0")
        if numbers.count(number) > 1:
            fatal(f"--gpu={gpu} names GPU {number} more than once")
    why = devices.why_not_several()
    if why:
        fatal(f"--gpu={gpu}: several GPUs cannot be used: {why}")
    return numbers


def _choose(gpu, param, rank):
    if gpu:
        why = devices.why_no_gpu()
        if why:
            fatal(f"--gpu={gpu} cannot be used: {why}. Leave --gpu out to train on the CPU.")
        return _use(parse(gpu), param is not None, rank)
    if (
        param is not None
        and param.HasField("solver_mode")
        and param.solver_mode == caffe_pb2.SolverParameter.GPU
    ):
        why = devices.why_no_gpu()
        if not why:
            return _use([param.device_id], True, rank)
        warning(f"solver_mode: GPU cannot be used: {why}. Training on the CPU.")
    info("Use CPU.")
    return None


def parse(gpu: str) -> list[int]:
    """Return the numbers that a --gpu names: a comma list, or "all"."""
    if gpu == "all":
        return list(range(devices.gpu_count()))
    try:
        return [int(number) for number in gpu.split(",")]
    except ValueError:
        fatal(f"--gpu={gpu}: a comma list of device numbers, or all, is expected")


def _use(numbers, training, rank):
    if not training:
        # The original's other commands take the first of several.
        engine = devices.gpu_engine(numbers[0])
        info(f"Use GPU with device ID {engine.index}")
        info(f"GPU device name: {engine.name}")
        return engine
    engine = devices.gpu_engine(numbers[rank])
    info(f"Using GPUs {', '.join(map(str, numbers))}")
    for number in numbers:
        info(f"GPU {number}: {devices.gpu_name(number)}")
    return engine
