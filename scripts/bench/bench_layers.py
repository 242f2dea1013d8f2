"""Show where the time of a training step goes: to which types of layers, and how near the machine's limit it is.

    python -m scripts.bench.bench_layers [--nets lenet,alexnet] [--seconds 2] [--threads 2]

Layers that run as one step count with the first of them. "rest" is what no layer takes: dispatch, and gradients that
are cleared. "of the limit" is the time that the step's multiply-adds (three times those of the forward pass, for
convolutions, inner products and recurrent layers) would take at the machine's measured limit, as a share of the step;
Winograd's way needs fewer than are counted.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable

import numba

from caffetools import glog
from caffetools.engine.cpu.limit import multiply_add_limit
from caffetools.solver import Solver
from caffetools.tools import summary
from scripts.bench.bench_nets import NETS, read
from scripts.bench.bench_scaling import make_step

SHOWN = 6


def watch(solver: Solver, spent: Counter) -> None:
    """Have a solver's net add the seconds of each layer or step to `spent`, under the type of the layer."""
    net = solver.net

    def timed(function: Callable, kind: str) -> Callable:
        def run(*args):
            start = time.perf_counter()
            result = function(*args)
            spent[kind] += time.perf_counter() - start
            return result

        return run

    for passes in (net._forward, net._backward):
        passes[:] = [timed(function, layer.type) for function, layer in zip(passes, net.layers, strict=True)]
    for step in net._fused.steps:
        kind = net.layers[step.first].type
        step.forward, step.backward = timed(step.forward, kind), timed(step.backward, kind)
    solver.apply_update = timed(solver.apply_update, "update")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--nets", default=",".join(NETS))
    parser.add_argument("--seconds", type=float, default=2, help="for each net")
    parser.add_argument("--threads", type=int, default=numba.config.NUMBA_NUM_THREADS)
    args = parser.parse_args()
    numba.set_num_threads(args.threads)
    glog.flags.minloglevel = glog.ERROR
    limit = multiply_add_limit()
    print(f"{args.threads} thread(s), limit {limit:.0f} GFLOP/s; a training step and its shares")
    for name in args.nets.split(","):
        train, _, batch, picture, _ = NETS[name]
        step, solver = make_step(name, batch)
        step()
        spent: Counter = Counter()
        watch(solver, spent)
        count, start = 0, time.perf_counter()
        while count < 3 or time.perf_counter() - start < args.seconds:
            step()
            count += 1
        whole = time.perf_counter() - start
        solver.close()
        spent["rest"] = whole - sum(spent.values())
        described = summary.summarize(summary.Definition(read(train, 0, batch, picture)))
        needed = 6 * described.total("multiply_adds") / limit / 1e9
        shares = ", ".join(f"{kind} {value / whole:.0%}" for kind, value in spent.most_common(SHOWN))
        figures = f"{1000 * whole / count:>9.2f} ms {needed * count / whole:>5.0%} of the limit"
        print(f"{name:<16}{batch:>4}{figures}: {shares}", flush=True)


if __name__ == "__main__":
    main()
