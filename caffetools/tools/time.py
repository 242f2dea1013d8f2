"""`caffe time`: measure how long each layer takes, forward and backward."""

from __future__ import annotations

from time import perf_counter

from caffetools.glog import check_gt, fatal, info
from caffetools.layer import TEST, TRAIN, Context
from caffetools.net import load_net
from caffetools.solver.report import DataWait
from caffetools.tools import engines

PHASES = {"": TRAIN, "TRAIN": TRAIN, "TEST": TEST}


def time(
    model: str, iterations: int = 50, phase: str = "", gpu: str = "", level: int = 0, stage: str = ""
) -> None:
    """Time the layers of a net and log the means in milliseconds.

    model: the net's prototxt; its weights are drawn by the fillers. Every layer's backward is called, even
    where no loss follows, as in the original, so that figures compare.
    """
    check_gt(len(model), 0, "FLAGS_model.size() > 0", "Need a model definition to time.")
    if phase not in PHASES:
        fatal('phase must be "TRAIN" or "TEST"')
    engine = engines.choose(gpu)
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
    finally:
        net.close()


def _benchmark(net, iterations):
    info("*** Benchmark begins ***")
    info(f"Testing for {iterations} iterations.")
    count = len(net.layers)
    forward, backward = [0.0] * count, [0.0] * count
    wait = DataWait([net])
    begin = perf_counter()
    for iteration in range(1, iterations + 1):
        start = before = perf_counter()
        for i in range(count):
            net.forward_layer(i)
            now = perf_counter()
            forward[i] += now - before
            before = now
        for i in reversed(range(count)):
            net.backward_layer(i)
            now = perf_counter()
            backward[i] += now - before
            before = now
        info(f"Iteration: {iteration} forward-backward time: {(before - start) * 1000:g} ms.")
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
