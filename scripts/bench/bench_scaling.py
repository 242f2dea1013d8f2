"""Show how the time of a training step grows with the batch, the size of the pictures and the number of threads.

    python -m scripts.bench.bench_scaling [--seconds 1] [--threads 1,2] [--batches lenet,...] [--sizes googlenet,...]

The figures are medians in milliseconds of forward, backward and update, and pictures a second. The batches double
from 1 to 64. Pictures are squares, at the batch of the other benchmarks; a net whose last pooling has a fixed window
gets a global one instead, so that it takes any size.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable

import numba

from caffetools import glog
from caffetools.layer import TRAIN
from caffetools.proto import caffe_pb2
from caffetools.solver import Solver
from scripts.bench.bench_nets import NETS, feed, read

BATCHES = (1, 2, 4, 8, 16, 32, 64)
SIZES = (128, 192, 224, 320)
STEPS = 3  # at least


def make_step(name: str, batch: int, side: int | None = None) -> tuple[Callable[[], None], Solver]:
    """Return a function that trains one step, and its solver. side: of the pictures, if not the net's own."""
    train, _, _, picture, classes = NETS[name]
    shape = picture if side is None else (picture[0], side, side)
    param = caffe_pb2.SolverParameter(
        base_lr=1e-4, momentum=0.9, weight_decay=0.0005, lr_policy="fixed", random_seed=1, stop_on_nan=False
    )
    param.net_param.CopyFrom(read(train, TRAIN, batch, shape))
    if side is not None:
        make_last_pooling_global(param.net_param)
    solver = Solver(param, plan=True)
    feed(solver.net, classes)
    return lambda: solver.step(1), solver


def make_last_pooling_global(net: caffe_pb2.NetParameter) -> None:
    """Let the last average pooling take the whole plane."""
    pools = [layer for layer in net.layer if layer.type == "Pooling" and layer.pooling_param.pool == 1]
    window = pools[-1].pooling_param
    for field in ("kernel_size", "kernel_h", "kernel_w", "stride"):
        window.ClearField(field)
    window.global_pooling = True


def milliseconds(step: Callable[[], None], seconds: float) -> float:
    """Return the median time of a step."""
    step()
    times, end = [], time.perf_counter() + seconds
    while len(times) < STEPS or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def show(title: str, values: Iterable[int], make, threads: list[int], seconds: float) -> None:
    """Print a line for each value: what `make(value)` takes, and pictures a second with all threads."""
    heads = "".join(f"{f'{n} thread' + 's' * (n > 1):>12}" for n in threads)
    print(f"\n{title:<28}{heads}{'ratio':>7}{'pictures/s':>12}")
    for value in values:
        step, solver = make(value)
        found = []
        for count in threads:
            numba.set_num_threads(count)
            found.append(milliseconds(step, seconds))
        batch = solver.net.blobs[solver.net.inputs[0]].shape[0]
        solver.close()
        figures = "".join(f"{value:>12.2f}" for value in found)
        print(
            f"{value:>28}{figures}{found[0] / found[-1]:>7.2f}{1000 * batch / found[-1]:>12,.0f}", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1, help="for each figure; three steps at least")
    parser.add_argument("--threads", default=f"1,{numba.config.NUMBA_NUM_THREADS}")
    parser.add_argument("--batches", default="lenet,cifar10_quick,alexnet,squeezenet_v1.1")
    parser.add_argument("--sizes", default="googlenet,squeezenet_v1.1")
    args = parser.parse_args()
    glog.flags.minloglevel = glog.ERROR
    threads = sorted({int(text) for text in args.threads.split(",")})
    print("a training step in milliseconds")
    for name in filter(None, args.batches.split(",")):
        show(f"{name}, batch", BATCHES, lambda n, name=name: make_step(name, n), threads, args.seconds)
    for name in filter(None, args.sizes.split(",")):
        batch = NETS[name][2]
        title = f"{name}, batch {batch}, side"
        show(title, SIZES, lambda n, name=name, batch=batch: make_step(name, batch, n), threads, args.seconds)


if __name__ == "__main__":
    main()
