"""The fused steps of a GPU; only nets on one import this."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from caffetools.net.fused.add_cu import DeviceAddStep
from caffetools.net.fused.affine_cu import DeviceAffineStep
from caffetools.net.fused.dense_cu import DeviceDenseStep
from caffetools.net.fused.device_step import DeviceStep
from caffetools.net.fused.members import Member
from caffetools.net.fused.normalise_cu import DeviceNormaliseStep
from caffetools.net.fusion import Step

STEPS: dict[str, type[DeviceStep]] = {
    "add": DeviceAddStep,
    "affine": DeviceAffineStep,
    "dense": DeviceDenseStep,
    "normalise": DeviceNormaliseStep,
}


def on_device(steps: list[Step], members: list[Member], forward_of: Sequence[Callable]) -> list[DeviceStep]:
    """Return the fused steps that `fusion` has found; members, forward_of: of all layers of the net."""
    return [
        STEPS[step.kind](step.first, step.last, members[part], forward_of[part])
        for step in steps
        for part in (slice(step.first, step.last + 1),)
    ]
