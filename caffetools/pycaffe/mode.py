"""What scripts set for the whole process: the engine, and the seed of what is random."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffetools.engine.cpu.rng import RandomSource
from caffetools.engine.devices import gpu_engine, why_no_gpu
from caffetools.glog import fatal

if TYPE_CHECKING:
    from caffetools.engine.gpu.device import Engine

_random = RandomSource()
_device = 0
_engine: Engine | None = None


def random_source() -> RandomSource:
    """Return what new nets, and solvers without a seed of their own, take their random numbers from."""
    return _random


def set_random_seed(seed: int) -> None:
    """Make the nets and solvers that are built from now on reproducible."""
    global _random
    _random = RandomSource(seed)


def engine() -> Engine | None:
    """Return what new nets and solvers compute on: a GPU's engine, or None for the CPU."""
    return _engine


def set_mode_cpu() -> None:
    """Let the nets and solvers that are built from now on compute on the CPU, which is the default."""
    global _engine
    _engine = None


def set_mode_gpu() -> None:
    """Let the nets and solvers that are built from now on compute on the GPU: that of `set_device`, or the first.

    Errors: FatalError with what is missing.
    """
    global _engine
    why = why_no_gpu()
    if why:
        fatal(f"Cannot use GPU: {why}. Call set_mode_cpu() instead.")
    _engine = gpu_engine(_device)


def set_device(device_id: int | str) -> None:
    """Choose the GPU that `set_mode_gpu` takes. Errors: FatalError with what is missing."""
    global _device
    why = why_no_gpu()
    if why:
        fatal(f"Cannot use GPU {device_id}: {why}. Leave set_device out to compute on the CPU.")
    gpu_engine(int(device_id))
    _device = int(device_id)
