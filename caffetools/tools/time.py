"""`caffe time`: measure how long each layer takes, forward and backward."""

from __future__ import annotations

from itertools import pairwise
from time import perf_counter
from typing import TYPE_CHECKING

from caffetools.glog import check_gt, fatal, info, note
from caffetools.layer import TEST, TRAIN, Context
from caffetools.net import load_net
from caffetools.solver.report import DataWait
from caffetools.tools import engines

if TYPE_CHECKING:
    from caffetools.engine.gpu.device import Engine
    from caffetools.engine.gpu.events import Event

#: Passes of the whole net that are timed after those layer by layer.
MOST_WHOLE_PASSES = 10
PHASES = {"": TRAIN, "TRAIN": TRAIN, "TEST": TEST}


def time(
    model: str,
    iterations: int = 50,
    phase: str = "",
    gpu: str = "",
    level: int = 0,
    stage: str = "",
    tf32: bool = False,
) -> None:
    """Time the layers of a net and log the means in milliseconds.

    model: the net's prototxt; its weights are drawn by the fillers. Every layer's backward is called, even
    where no loss follows, as in the original, so that figures compare. tf32: whether a GPU may multiply with fewer
    digits.
    """
    check_gt(len(model), 0, "FLAGS_model.size() > 0", "Need a model definition to time.")
    if phase not in PHASES:
        fatal('phase must be "TRAIN" or "TEST"')
    engine = engines.choose(gpu, tf32=tf32)
    state = PHASES[phase]
    # Here every net goes backward, and a plan has no backward pass in the TEST phase.
    net = load_net(model, state, Context(engine=engine), level, stage.split(","), plan=state == TRAIN)
    try:
        info("Performing Forward")
        # The first passes compile kernels, allocate memory and are not timed.
        info(f"Initial loss: {net.forward():g}")
        info("Performing Backward")
        for i in reversed(range(len(net.layers))):
            net.backward_layer(i)
        _benchmark(net, iterations)
        if net.runs_fused:
            _note_whole_passes(net, iterations)
    finally:
        net.close()


def _note_whole_passes(net, iterations):
    """Tell what passes take that nobody looks into: they run some layers as one, which the figures above cannot."""
    count, clock = min(iterations, MOST_WHOLE_PASSES), _clock_of(net)
    seconds = [0.0, 0.0]
    for i in range(count + 1):
        marks = [clock.mark()]
        for run in (net.forward, net.backward):
            run()
            marks.append(clock.mark())
        clock.settle()
        if i > 0:  # the first backward pass may still compile kernels
            for k, (before, after) in enumerate(pairwise(marks)):
                seconds[k] += clock.seconds(before, after)
    forward, backward = (1000 * s / max(count, 1) for s in seconds)
    note(f"With layers run together, as in training: forward {forward:g} ms, backward {backward:g} ms.")


class HostClock:
    """Marks are times of the host."""

    def mark(self) -> float:
        return perf_counter()

    def settle(self) -> None:
        """Nothing to wait for."""

    def seconds(self, before: float, after: float) -> float:
        return after - before


class DeviceClock:
    """Marks are events in the stream that computes, so that nothing waits between two layers."""

    def __init__(self, engine: Engine):
        from caffetools.engine.gpu.events import Event

        self.engine, self.event = engine, Event

    def mark(self) -> Event:
        event = self.event(timed=True)
        event.record(self.engine.stream)
        return event

    def settle(self) -> None:
        """Wait until all marks have been reached."""
        self.engine.synchronise()

    def seconds(self, before: Event, after: Event) -> float:
        return before.seconds_until(after)


def _clock_of(net):
    return HostClock() if net.context.engine is None else DeviceClock(net.context.engine)


def _benchmark(net, iterations):
    info("*** Benchmark begins ***")
    info(f"Testing for {iterations} iterations.")
    count = len(net.layers)
    forward, backward = [0.0] * count, [0.0] * count
    wait = DataWait([net])
    clock = _clock_of(net)
    begin = perf_counter()
    for iteration in range(1, iterations + 1):
        marks = [clock.mark()]
        for i in range(count):
            net.forward_layer(i)
            marks.append(clock.mark())
        for i in reversed(range(count)):
            net.backward_layer(i)
            marks.append(clock.mark())
        clock.settle()
        times = [clock.seconds(before, after) for before, after in pairwise(marks)]
        for i in range(count):
            forward[i] += times[i]
            backward[i] += times[-1 - i]
        info(f"Iteration: {iteration} forward-backward time: {sum(times) * 1000:g} ms.")
    total = perf_counter() - begin
    wait.note()
    scale = 1000 / max(iterations, 1)
    info("Average time per layer: ")
    for name, f, b in zip(net.layer_names, forward, backward, strict=True):
        info(f"{name:>10}\tforward: {f * scale:g} ms.")
        info(f"{name:>10}\tbackward: {b * scale:g} ms.")
    info(f"Average Forward pass: {sum(forward) * scale:g} ms.")
    info(f"Average Backward pass: {sum(backward) * scale:g} ms.")
    info(f"Average Forward-Backward: {total * scale:g} ms.")
    info(f"Total Time: {total * 1000:g} ms.")
    info("*** Benchmark ends ***")
