"""Outputs of test nets by name, and whether what they say is getting better.

    accuracy               the output of that name, of the first test net that has it
    max:score, min:score   the same, with the direction said
    accuracy@1             of test net #1
    per_class[3]           element 3 of an output that has several

Where the direction is not said, it follows from what makes the output: losses are to fall, accuracies to rise. For
others it follows from the name (accuracy, error and the like); a name that says nothing is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from caffetools.glog import fatal, info
from caffetools.net import Net
from caffetools.solver.names import hint

_SPEC = re.compile(r"(?:(?P<way>min|max):)?(?P<name>[^@\[\]]+)(?:\[(?P<index>\d+)\])?(?:@(?P<net>\d+))?")
_FALLING = re.compile(r"loss|err|perplexity|distance|mae|mse", re.IGNORECASE)
_RISING = re.compile(r"acc|top-?_?\d|precision|recall|score|auc|iou|map|psnr", re.IGNORECASE)

#: The means of a test's outputs: for each net (blob name, mean, loss weight) of every element.
Results = Sequence[Sequence[tuple[str, float, float]]]


@dataclass(frozen=True)
class Target:
    """One number of a test: element `index` of output `name` of test net `net`, and whether more is better."""

    name: str
    index: int
    net: int
    rises: bool
    elements: int = 1

    def value(self, results: Results) -> float:
        """Return it from the results of all test nets."""
        return [value for name, value, _ in results[self.net] if name == self.name][self.index]

    @property
    def text(self) -> str:
        """How a log names it."""
        return self.name if self.elements == 1 else f"{self.name}[{self.index}]"


def find_target(spec: str, field: str, nets: Sequence[Net]) -> Target:
    """Return what `spec` names, and log it. field: the setting that it stands in, for messages.

    Errors: FatalError for a form other than those above, for outputs that no test net has or that have several
    elements, and for a direction that has to be said.
    """
    match = _SPEC.fullmatch(spec.strip())
    if not match:
        fatal(f"{field}: '{spec}' names no output of a test net: say accuracy, max:score, min:loss@1 or per_class[3]")
    if not nets:
        fatal(f"{field}: '{spec}' is an output of a test net, and this solver has none (test_iter, test_interval)")
    name = match["name"]
    number = _net_of(name, match["net"], field, nets)
    # The rows of DetectionEvaluate become one number: the mean average precision.
    count = 1 if _maker(nets[number], name).type == "DetectionEvaluate" else nets[number].blobs[name].count
    if match["index"] is None and count != 1:
        fatal(f"{field}: output '{name}' has {count} elements: name one, such as {name}[0]")
    index = int(match["index"] or 0)
    if index >= count:
        fatal(f"{field}: output '{name}' has {count} element{'s' * (count > 1)}, there is no {name}[{index}]")
    rises = match["way"] == "max" if match["way"] else _rises(nets[number], name, field)
    target = Target(name, index, number, rises, count)
    info(f"{field}: output {target.text} of test net #{number}, {'higher' if rises else 'lower'} is better")
    return target


def _net_of(name, number, field, nets):
    outputs = [net.outputs for net in nets]
    if number is not None:
        if int(number) >= len(nets):
            fatal(f"{field}: there is no test net #{number}, they are numbered from 0 to {len(nets) - 1}")
        candidates = [int(number)] if name in outputs[int(number)] else []
    else:
        candidates = [i for i, names in enumerate(outputs) if name in names]
    if not candidates:
        known = sorted({output for names in outputs for output in names})
        where = "no test net has" if number is None else f"test net #{number} does not have"
        fatal(f"{field}: {where} an output '{name}' (outputs: {', '.join(known)}{hint(name, known)})")
    return candidates[0]


def _maker(net, name):
    return next(layer for layer, tops in zip(net.layers, net.top_names, strict=True) if name in tops)


def _rises(net, name, field):
    maker = _maker(net, name)
    if maker.type in ("Accuracy", "DetectionEvaluate"):
        return True
    if maker.is_loss or net.output_loss_weights[net.outputs.index(name)]:
        return False
    if bool(_FALLING.search(name)) != bool(_RISING.search(name)):
        return bool(_RISING.search(name))
    fatal(f"{field}: is more or less of '{name}' better? Say max:{name} or min:{name}")


class Progress:
    """The best of the numbers that were observed, and how many came since without being better.

    rises: whether more is better. min_delta: a number that is better by less does not count.
    """

    def __init__(self, rises: bool, min_delta: float = 0.0):
        self.rises = rises
        self.min_delta = min_delta
        self.best: float | None = None
        self.best_iteration = 0
        self.stalled = 0

    def observe(self, value: float, iteration: int) -> bool:
        """Take the number of an iteration; return whether it is the best so far. NaN never is."""
        better = not math.isnan(value) and (self.best is None or self._gain(value) > self.min_delta)
        if better:
            self.best, self.best_iteration, self.stalled = value, iteration, 0
        else:
            self.stalled += 1
        return better

    def _gain(self, value):
        return value - self.best if self.rises else self.best - value

    @property
    def text(self) -> str:
        """The best and its iteration, for a log."""
        return "none yet" if self.best is None else f"best {self.best:g} in iteration {self.best_iteration}"

    def get_state(self) -> dict:
        """Return what a resumed run needs, as JSON values."""
        return {"best": self.best, "iteration": self.best_iteration, "stalled": self.stalled}

    def set_state(self, state: dict) -> None:
        """Take over what `get_state` returned."""
        best = None if state["best"] is None else float(state["best"])
        iteration, stalled = int(state["iteration"]), int(state["stalled"])
        self.best, self.best_iteration, self.stalled = best, iteration, stalled
