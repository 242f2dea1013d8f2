"""What scripts set for the whole process: the engine, and the seed of what is random."""

from __future__ import annotations

from caffetools.engine.cpu.rng import RandomSource
from caffetools.engine.devices import why_no_gpu
from caffetools.glog import fatal

_random = RandomSource()


def random_source() -> RandomSource:
    """Return what new nets, and solvers without a seed of their own, take their random numbers from."""
    return _random


def set_random_seed(seed: int) -> None:
    """Make the nets and solvers that are built from now on reproducible."""
    global _random
    _random = RandomSource(seed)


def set_mode_cpu() -> None:
    """Compute on the CPU, as is done anyway."""


def set_mode_gpu() -> None:
    """Refuse: there is no GPU engine that could be used. Errors: FatalError with what is missing."""
    fatal(f"Cannot use GPU: {why_no_gpu()}. Call set_mode_cpu() instead.")


def set_device(device_id: int | str) -> None:
    """Refuse, like `set_mode_gpu`."""
    fatal(f"Cannot use GPU {device_id}: {why_no_gpu()}. Leave set_device out to compute on the CPU.")
