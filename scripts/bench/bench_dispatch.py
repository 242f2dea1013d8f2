"""Show what an iteration costs beside its compiled kernels: Python, NumPy calls, and handing arguments over.

    python -m scripts.bench.bench_dispatch [--nets lenet,googlenet] [--batch 1] [--threads 1] [--layers]

Each net is trained twice on the same input. First as it is. Then with every kernel replaced by a compiled one
that takes the same arguments and does nothing (where a kernel returns something, the stand-in returns what the
kernel returned last): all of Python's work is still done, the choice of the compiled version by the types of the
arguments and the unpacking of arrays included, and what is left of an iteration's time is the dispatch. What the
table does not count as dispatch is inside the kernels: mainly the entry into a parallel region, some microseconds
where there are several threads.
"""

from __future__ import annotations

import argparse
import inspect
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numba
from numba.core.dispatcher import Dispatcher

from caffetools import glog
from caffetools.layer import TRAIN
from caffetools.proto import caffe_pb2
from caffetools.solver import Solver, rules
from scripts.bench.bench_nets import NETS, feed, read

Kernels = dict[int, tuple[Dispatcher, Callable]]


def make_solver(name: str, batch: int) -> Solver:
    """Return a solver of one of the benchmark's nets with random data."""
    train, _, _, picture, classes = NETS[name]
    param = caffe_pb2.SolverParameter(
        base_lr=1e-4, momentum=0.9, weight_decay=0.0005, lr_policy="fixed", random_seed=1, stop_on_nan=False
    )
    param.net_param.CopyFrom(read(train, TRAIN, batch, picture))
    solver = Solver(param, plan=True)  # as `caffe train` does
    feed(solver.net, classes)
    return solver


def kernels() -> dict[int, Dispatcher]:
    """Return all kernels that have been compiled, by their identity."""
    found = [value for module in _modules() for value in vars(module).values()]
    found += [rule.kernel for rule in rules.RULES.values()]
    return {id(value): value for value in found if isinstance(value, Dispatcher) and value.overloads}


def put(replacements: dict[int, Callable]) -> None:
    """Put functions in the place of others, given by identity, wherever a module names them."""
    for module in _modules():
        for name, value in list(vars(module).items()):
            if id(value) in replacements:
                setattr(module, name, replacements[id(value)])
    for name, rule in rules.RULES.items():
        if id(rule.kernel) in replacements:
            rules.RULES[name] = replace(rule, kernel=replacements[id(rule.kernel)])


def _modules():
    return [module for name, module in sys.modules.items() if name.startswith("caffetools.")]


class Recorder:
    """Calls a kernel, counts the calls and keeps what the last one returned."""

    def __init__(self, kernel: Dispatcher):
        self.kernel = kernel
        self.calls = 0
        self.result: object = None

    def __call__(self, *args):
        self.calls += 1
        self.result = self.kernel(*args)
        return self.result


def stand_in(recorder: Recorder) -> Callable:
    """Return a compiled function with the parameters of the recorder's kernel that returns its last result."""
    names = ", ".join(inspect.signature(recorder.kernel.py_func).parameters)
    scope = {"result": recorder.result}
    body = "pass" if recorder.result is None else "return result"
    exec(f"def nothing({names}): {body}", scope)
    return numba.njit(nogil=True)(scope["nothing"])


def microseconds(step: Callable[[], None], seconds: float) -> float:
    """Return the median time of a call."""
    times, end = [], time.perf_counter() + seconds
    while len(times) < 10 or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def layer_times(solver: Solver, seconds: float) -> dict[str, float]:
    """Return the microseconds of each layer's forward and backward, and of the update."""
    net, times = solver.net, {}
    for i, layer in enumerate(net.layers):
        times[f"{layer.name} forward"] = microseconds(lambda i=i: net.forward(i, i), seconds)
        if net.layer_needs_backward[i]:
            times[f"{layer.name} backward"] = microseconds(lambda i=i: net.backward(i, i), seconds)
    times["update"] = microseconds(solver.apply_update, seconds)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--nets", default="lenet,cifar10_quick,googlenet,squeezenet_v1.1,resnet50,mobilenet")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2, help="for each figure")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layers", action="store_true", help="a table of the layers' dispatch, too")
    args = parser.parse_args()
    numba.set_num_threads(args.threads)
    glog.flags.minloglevel = glog.ERROR
    print(f"a training step, batch {args.batch}, {args.threads} thread(s), microseconds")
    print(f"{'net':<16}{'in all':>9}{'kernels':>9}{'dispatch':>9}{'calls':>7}")
    for name in args.nets.split(","):
        show(name, args)


def show(name: str, args: argparse.Namespace) -> None:
    """Measure one net and print its line."""
    solver = make_solver(name, args.batch)
    solver.step(3)
    whole = microseconds(lambda: solver.step(1), args.seconds)
    originals = kernels()
    recorders = {key: Recorder(kernel) for key, kernel in originals.items()}
    put(recorders)
    solver = make_solver(name, args.batch)
    solver.step(1)
    for recorder in recorders.values():
        recorder.calls = 0
    solver.step(1)
    used = [recorder for recorder in recorders.values() if recorder.calls]
    stand_ins = {id(recorder): stand_in(recorder) for recorder in used}
    put(stand_ins)
    solver = make_solver(name, args.batch)
    solver.step(3)
    dispatch = microseconds(lambda: solver.step(1), args.seconds)
    calls = sum(recorder.calls for recorder in used)
    print(f"{name:<16}{whole:>9.0f}{whole - dispatch:>9.0f}{dispatch:>9.0f}{calls:>7}", flush=True)
    if args.layers:
        for what, value in layer_times(solver, args.seconds / 20).items():
            print(f"    {what:<30}{value:7.1f}")
    put({id(new): recorders_kernel(old, recorders) for old, new in stand_ins.items()})
    put({id(recorder): recorder.kernel for recorder in recorders.values()})


def recorders_kernel(identity: int, recorders: dict[int, Recorder]) -> Dispatcher:
    """Return the kernel of the recorder of this identity."""
    return next(recorder.kernel for recorder in recorders.values() if id(recorder) == identity)


if __name__ == "__main__":
    main()
