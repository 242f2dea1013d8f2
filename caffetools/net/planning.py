"""How a net is run, decided from its wiring: which layers run as one, and where its arrays lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from caffetools.layer import TRAIN
from caffetools.net.fused import FusedSteps, Member, on_host
from caffetools.net.fusion import find_steps
from caffetools.net.lifetimes import Lifetimes
from caffetools.net.memory_plan import MemoryPlan
from caffetools.net.placing import find_placements
from caffetools.net.wiring import Wiring


def fuse(wiring: Wiring, phase: int, plan: bool, keep: Sequence[str] = ()) -> FusedSteps:
    """Return the steps in which layers run as one.

    plan: whether the net will have a plan, so that blobs may stay away that are neither inputs nor outputs nor named in
    `keep`, and there is no backward pass in the TEST phase.
    """
    steps, conditions = _find_steps(wiring, phase, plan, keep)
    return FusedSteps(on_host(steps, _members(wiring), find_placements(wiring, steps, *conditions)))


def fuse_on_device(
    wiring: Wiring, phase: int, plan: bool, keep: Sequence[str], forward_of: Sequence[Callable]
) -> FusedSteps:
    """Return the steps in which layers run as one on a GPU.

    plan: whether one was asked for: there is none, but blobs may stay away as if there were. forward_of: what runs each
    layer by itself.
    """
    steps, _ = _find_steps(wiring, phase, plan, keep)
    if not steps:
        return FusedSteps([])
    from caffetools.net.fused.on_device import on_device

    return FusedSteps(on_device(steps, _members(wiring), forward_of))


def _find_steps(wiring, phase, plan, keep):
    """Return the steps of a net and the conditions that they were found under."""
    shown = {*wiring.input_ids, *wiring.output_ids}
    shown |= {i for i, name in enumerate(wiring.blob_names) if name in keep}
    conditions = not plan or phase == TRAIN, lambda blob: plan and blob not in shown
    return find_steps(wiring, *conditions), conditions


def _members(wiring):
    blobs = [[[wiring.blobs[i] for i in ids] for ids in ends] for ends in (wiring.bottom_ids, wiring.top_ids)]
    needs = wiring.bottom_needs_backward, wiring.layer_needs_backward
    return [Member(*each) for each in zip(wiring.layers, *blobs, *needs, strict=True)]


def plan_memory(wiring: Wiring, phase: int, fused: FusedSteps, keep: Sequence[str] = ()) -> MemoryPlan:
    """Return a plan for a net that runs so, backward too if its phase is TRAIN. keep: names of blobs that stay."""
    return MemoryPlan(wiring, lambda: Lifetimes(wiring, keep, phase == TRAIN, fused.steps))
