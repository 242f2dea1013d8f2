"""What a test computes: the means of a net's loss and outputs over a number of batches."""

from __future__ import annotations

from collections.abc import Callable

from caffetools.net import Net
from caffetools.solver.listener import Values


def means(net: Net, batches: int, goes_on: Callable[[], bool]) -> tuple[float, Values]:
    """Run a net and return the mean loss, and (blob name, mean, loss weight) of each element of each output.

    goes_on: asked before each batch; where it says no, the test ends and what is returned means nothing.
    """
    loss, sums, values = 0.0, None, []
    for _ in range(batches):
        if not goes_on():
            break
        loss += net.forward()
        values = net.output_values()
        now = [value for _, value, _ in values]
        sums = now if sums is None else [total + value for total, value in zip(sums, now, strict=True)]
    if sums is None:
        return 0.0, []
    return loss / batches, [
        (name, total / batches, weight) for total, (name, _, weight) in zip(sums, values, strict=True)
    ]
