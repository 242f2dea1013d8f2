"""Count how many times faster more cores could be, by the way in which the work is split alone.

    python -m scripts.bench.bench_split [--only alexnet,...] [--batch 1] [--threads 2,8,64] [--passes 6] [--layers 10]

The machine need not have the cores. Kernels cut their loops for the given numbers of threads, but the threads' pieces
run one after another and each is timed (see `in_turns`); the fastest of the passes counts. With n cores a loop would
take as long as its longest piece, so the table's figures are

    a / b    a = time of all loops on one thread / sum of the loops' longest pieces
             b = the same with what the calling thread does between loops, mostly Python, added to both
        (measured with the smallest number of several threads: on one, some products are no parallel loops)

That leaves out what cores do to each other: they wake each other up, share caches and memory, and get warm. "loops" and
"between" are the milliseconds of both on one thread. The batch is 1; 0 stands for that of the other benchmarks.

--layers also lists the loops that lose most with the largest number of threads: their longest pieces take so many
microseconds more than if all threads had the same to do. A layer's loops of one kind are one line.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable

import numba
import numpy as np

from caffetools import glog
from caffetools.layer import TEST, Context
from caffetools.net import Net
from scripts.bench.bench_nets import NETS, feed, read
from scripts.bench.bench_scaling import make_step
from scripts.bench.in_turns import Event, Turns


def inference(name: str, batch: int) -> tuple[Callable[[], object], Net]:
    """Return a function that runs a net forward, and the net."""
    _, deploy, _, picture, classes = NETS[name]
    net = Net(read(deploy, TEST, batch, picture), Context(), plan=True)
    feed(net, classes)
    return net.forward, net


def training(name: str, batch: int) -> tuple[Callable[[], object], Net]:
    """Return a function that trains one step, and the net."""
    step, solver = make_step(name, batch)
    return step, solver.net


def label_layers(net: Net, turns: Turns) -> None:
    """Let the events say in which layer, or step of several, and in which direction they are."""

    def labelled(function: Callable, label: str) -> Callable:
        def run(*args):
            turns.label = label
            result = function(*args)
            turns.label = ""
            return result

        return run

    for passes, direction in ((net._forward, "forward"), (net._backward, "backward")):
        passes[:] = [
            labelled(function, f"{layer.name} {direction}")
            for function, layer in zip(passes, net.layers, strict=True)
        ]
    for step in net._fused.steps:
        name = net.layers[step.first].name
        step.forward = labelled(step.forward, f"{name} forward")
        step.backward = labelled(step.backward, f"{name} backward")


def fastest(passes: list[list[Event]]) -> list[Event]:
    """Return the events of passes that do the same, each time the shortest of all passes."""
    counts = {len(events) for events in passes}
    if len(counts) != 1:
        raise ValueError(f"passes have different numbers of loops: {sorted(counts)}")
    return [
        (label, place, np.min([times for _, _, times in same], axis=0).tolist())
        for same in zip(*passes, strict=True)
        for label, place, _ in same[:1]
    ]


def longest(events: list[Event]) -> int:
    """Return the nanoseconds of the longest pieces of all loops."""
    return sum(max(times) for _, _, times in events if isinstance(times, list))


def between(events: list[Event]) -> int:
    """Return the nanoseconds between loops."""
    return sum(times for _, _, times in events if isinstance(times, int))


def speedups(loops: int, rest: int, split: list[Event]) -> tuple[float, float]:
    """Return how many times as long as `split` a pass on one thread takes, without and with what is between loops.

    loops, rest: the nanoseconds of loops on one thread, and of what is between them.
    """
    return loops / longest(split), (loops + rest) / (longest(split) + rest)


def losses(alone: list[Event], split: list[Event], threads: int) -> list[tuple[str, float, float]]:
    """Return (layer and kernel, what its longest pieces take too long in nanoseconds, speedup), worst first."""
    one, many = ({}, {})
    for events, sums in ((alone, one), (split, many)):
        for label, place, times in events:
            if isinstance(times, list):
                name = f"{label or 'update'}, {place}"
                sums[name] = sums.get(name, 0) + max(times)
    known = [(name, took) for name, took in many.items() if name in one]
    found = [(name, took - one[name] / threads, one[name] / max(1, took)) for name, took in known]
    return sorted(found, key=lambda line: -line[1])


def count(turns: Turns, run: Callable[[], object], threads: int, passes: int) -> list[Event]:
    """Return the events of a pass whose loops are cut for so many threads."""
    numba.set_num_threads(threads)
    turns.watch(run)  # memory and tables are made
    return fastest([turns.watch(run) for _ in range(passes)])


def show(turns: Turns, name: str, batch: int, threads: list[int], args: argparse.Namespace) -> None:
    """Print a net's lines."""
    for what, make in (("inference", inference), ("training", training)):
        run, net = make(name, batch)
        run()
        label_layers(net, turns)
        alone = count(turns, run, 1, args.passes)
        split = {n: count(turns, run, n, args.passes) for n in threads}
        rest = between(split[threads[0]])
        loops = longest(alone) + between(alone) - rest
        cells = "".join(f"{'{:.1f} / {:.1f}'.format(*speedups(loops, rest, split[n])):>13}" for n in threads)
        print(f"{name:<16}{batch:>5}  {what:<10}{loops / 1e6:>9.2f}{rest / 1e6:>9.2f}{cells}", flush=True)
        for loop, loss, ratio in losses(alone, split[threads[-1]], threads[-1])[: args.layers]:
            print(f"    {loss / 1e3:>8.1f} us {ratio:>6.1f}  {loop}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default=",".join(NETS), help="nets, separated by commas")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", default="2,4,8,16,32,64")
    parser.add_argument("--passes", type=int, default=6)
    parser.add_argument("--layers", type=int, default=0, help="so many loops of each net")
    args = parser.parse_args()
    threads = sorted({int(text) for text in args.threads.split(",")})
    if threads[-1] > numba.config.NUMBA_NUM_THREADS:  # which numba wants to know from the start
        command = [sys.executable, "-m", "scripts.bench.bench_split", *sys.argv[1:]]
        sys.exit(subprocess.run(command, env={**os.environ, "NUMBA_NUM_THREADS": str(threads[-1])}).returncode)
    glog.flags.minloglevel = glog.ERROR
    turns = Turns()
    heads = "".join(f"{f'{n} cores':>13}" for n in threads)
    print(f"{'net':<16}{'batch':>5}  {'what':<10}{'loops ms':>9}{'between':>9}{heads}")
    for name in args.only.split(","):
        show(turns, name, args.batch or NETS[name][2], threads, args)


if __name__ == "__main__":
    main()
