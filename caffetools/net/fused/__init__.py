"""Steps that run several layers as one; `fusion` decides which."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from caffetools.net.fused.add import AddStep
from caffetools.net.fused.affine import AffineStep
from caffetools.net.fused.concat import ConcatStep
from caffetools.net.fused.dense import DenseStep
from caffetools.net.fused.members import FusedStep, Member
from caffetools.net.fused.normalise import NormaliseStep
from caffetools.net.fusion import Step
from caffetools.net.placing import Placement

STEPS: dict[str, type[FusedStep]] = {
    "add": AddStep,
    "affine": AffineStep,
    "dense": DenseStep,
    "normalise": NormaliseStep,
}


def on_host(
    steps: Sequence[Step], members: Sequence[Member], placements: Sequence[Placement] = ()
) -> list[FusedStep]:
    """Return the fused steps of the CPU that `fusion` and `placing` have found; members: all layers of the net."""
    wanted = dict.fromkeys([*steps, *(placement.step for placement in placements)])
    made = {step: STEPS[step.kind](step.first, step.last, members[step.first : step.last + 1]) for step in wanted}
    writers: defaultdict[int, dict[int, AffineStep]] = defaultdict(dict)
    for placement in placements:
        writers[placement.concat][placement.bottom] = made[placement.step]
    return [*made.values(), *(ConcatStep(i, members[i], of_bottoms) for i, of_bottoms in writers.items())]


class FusedSteps:
    """The fused steps of a net, by the layers that they consist of.

    Passes take their way from here: pairs of (index of a layer, None) and (index of a layer where a step begins, the
    step). A step is in it only where all of its layers are in the range that is run.
    """

    def __init__(self, steps: list[FusedStep]):
        self.steps = steps
        self.by_layer = {i: step for step in self.steps for i in range(step.first, step.last + 1)}

    def way(self, start: int, stop: int, fused: bool) -> Iterator[tuple[int, FusedStep | None]]:
        """Yield what runs, from the layer `start` up to, not including, the layer `stop`."""
        i = start
        while i < stop:
            step = self.by_layer.get(i) if fused else None
            if step is None or i != step.first or step.last >= stop:
                step = None
            yield i, step
            i = i + 1 if step is None else step.last + 1

    def way_back(self, start: int, end: int, fused: bool) -> Iterator[tuple[int, FusedStep | None]]:
        """Yield what runs backward, from the layer `start` down to the layer `end`, for the last forward pass."""
        i = start
        while i >= end:
            step = self.by_layer.get(i)
            if step is not None and not (step.ran and step.goes_backward):
                step = None
            elif step is not None and not (fused and i == step.last and step.first >= end):
                self.part(i)
                step = None
            yield i, step
            i = i - 1 if step is None else step.first - 1

    def forget(self, i: int) -> None:
        """Take note that a layer has run forward by itself."""
        step = self.by_layer.get(i)
        if step is not None:
            step.ran = False

    def part(self, i: int) -> None:
        """Make it as if layers had run forward by themselves, before one of them goes backward so."""
        step = self.by_layer.get(i)
        if step is not None and step.ran and step.goes_backward:
            step.part()
            step.ran = False


__all__ = ["FusedSteps", "Member", "on_host"]
