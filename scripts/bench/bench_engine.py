"""GFLOP/s of the CPU engine's products and convolutions, beside the machine's limit and PyTorch.

    python scripts/bench/bench_engine.py [--repeats 5] [--only lenet] [--threads 2] [--no-torch]

Both sides compute the same thing on the same random data with the same number of threads, in turns; the
fastest of the repeats counts. With one thread processor time is measured, which other programs disturb less.
PyTorch's columns stay empty where it is not installed. The limit is what a
micro-kernel reaches on operands in the first-level cache, on as many threads.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import numpy as np

# name, images, channels, outputs, filter, stride, pad, size, group
CONVOLUTIONS = (
    ("lenet conv1", 64, 1, 20, 5, 1, 0, 28, 1),
    ("lenet conv2", 64, 20, 50, 5, 1, 0, 12, 1),
    ("cifar10 conv1", 100, 3, 32, 5, 1, 2, 32, 1),
    ("cifar10 conv2", 100, 32, 32, 5, 1, 2, 16, 1),
    ("cifar10 conv3", 100, 32, 64, 5, 1, 2, 8, 1),
    ("alexnet conv1", 16, 3, 96, 11, 4, 0, 227, 1),
    ("alexnet conv2", 16, 96, 256, 5, 1, 2, 27, 2),
    ("alexnet conv3", 16, 256, 384, 3, 1, 1, 13, 1),
    ("vgg conv1_2", 2, 64, 64, 3, 1, 1, 224, 1),
    ("vgg conv3_2", 2, 256, 256, 3, 1, 1, 56, 1),
    ("vgg conv5_1", 4, 512, 512, 3, 1, 1, 14, 1),
    ("resnet conv1", 8, 3, 64, 7, 2, 3, 224, 1),
    ("resnet 3x3 28", 8, 128, 128, 3, 1, 1, 28, 1),
    ("resnet 3x3 7", 8, 512, 512, 3, 1, 1, 7, 1),
    ("resnet 3x3 s2", 8, 256, 256, 3, 2, 1, 28, 1),
    ("resnet 1x1 56", 8, 64, 256, 1, 1, 0, 56, 1),
    ("resnet 1x1 14", 8, 1024, 256, 1, 1, 0, 14, 1),
    ("resnet 1x1 s2", 8, 512, 1024, 1, 2, 0, 28, 1),
)
# name, rows, columns, depth, trans_a, trans_b, beta
PRODUCTS = (
    ("gemm 1024", 1024, 1024, 1024, False, False, 0),
    ("gemm 1024 NT", 1024, 1024, 1024, False, True, 0),
    ("lenet ip1 dx", 64, 800, 500, False, False, 0),
    ("lenet ip1 dw", 500, 800, 64, True, False, 1),
    ("lenet ip2 dx", 64, 500, 10, False, False, 0),
    ("lenet ip2 dw", 10, 500, 64, True, False, 1),
    ("alexnet fc7 dx", 32, 4096, 4096, False, False, 0),
    ("alexnet fc7 dw", 4096, 4096, 32, True, False, 1),
)
# name, batch, outputs, inputs
INNER_PRODUCTS = (
    ("lenet ip1", 64, 500, 800),
    ("lenet ip2", 64, 10, 500),
    ("alexnet fc7", 32, 4096, 4096),
    ("alexnet fc7, one", 1, 4096, 4096),
)
clock = time.perf_counter
ROW = "{:<18}{:<10}{:>10}{:>9}{:>7}{:>11}{:>9}{:>8}"


def fastest(functions: list[Callable[[], object]], repeats: int) -> list[float]:
    """Return the shortest time of each function in seconds; they take turns, each several calls at a time."""
    calls, best = [], [float("inf")] * len(functions)
    for function in functions:
        function()
        start = clock()
        function()
        calls.append(max(1, int(0.01 / (clock() - start))))
    for _ in range(repeats):
        for i, function in enumerate(functions):
            start = clock()
            for _ in range(calls[i]):
                function()
            best[i] = min(best[i], (clock() - start) / calls[i])
    return best


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape, np.float32)


def convolution_cases(torch):
    """Yield (name, what, operations, ours, theirs) for the three products of each convolution."""
    from caffetools.engine.cpu.conv import ConvPlan

    for name, n, c, m, k, stride, pad, size, group in CONVOLUTIONS:
        x, w, bias = random(n, c, size, size), random(m, c // group, k, k), random(m)
        plan = ConvPlan(x.shape, w.shape, stride, pad, 1, group)
        y, dy, dx, dw, db = np.empty(plan.y_shape, np.float32), random(*plan.y_shape), x * 0, w * 0, bias * 0
        operations = 2 * y.size * w[0].size
        theirs = dict.fromkeys(("forward", "weights", "data"))
        if torch:
            tx, tw, tb, tdy = (torch.from_numpy(v) for v in (x, w, bias, dy))

            def backward(mask, tx=tx, tw=tw, tdy=tdy, stride=stride, pad=pad, group=group):
                return torch.ops.aten.convolution_backward(
                    tdy, tx, tw, [tw.shape[0]], [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], group, mask
                )

            theirs = {
                "forward": lambda a=(tx, tw, tb, stride, pad, 1, group): torch.conv2d(*a),
                "weights": lambda backward=backward: backward([False, True, True]),
                "data": lambda backward=backward: backward([True, False, False]),
            }
        yield name, "forward", operations, lambda p=plan, a=(x, w, bias, y): p.forward(*a), theirs["forward"]
        yield (
            name,
            "weights",
            operations,
            lambda p=plan, a=(x, dy, dw, db): p.backward_weights(*a),
            theirs["weights"],
        )
        if c > 3:
            yield name, "data", operations, lambda p=plan, a=(dy, w, dx): p.backward_data(*a), theirs["data"]


def product_cases(torch):
    """Yield the same for matrix products."""
    from caffetools.engine.cpu.gemm import gemm
    from caffetools.engine.cpu.inner_product import inner_product

    for name, m, n, k, trans_a, trans_b, beta in PRODUCTS:
        a, b, c = (
            random(*((k, m) if trans_a else (m, k))),
            random(*((n, k) if trans_b else (k, n))),
            random(m, n) * 0,
        )
        theirs = None
        if torch:
            ta, tb, tc = (torch.from_numpy(v) for v in (a, b, c.copy()))
            ta, tb = ta.T if trans_a else ta, tb.T if trans_b else tb
            theirs = lambda t=(tc, ta, tb), beta=beta: torch.addmm(*t, beta=beta, out=t[0])  # noqa: E731
        yield name, "gemm", 2 * m * n * k, lambda t=(trans_a, trans_b, 1, a, b, beta, c): gemm(*t), theirs
    for name, batch, outputs, inputs in INNER_PRODUCTS:
        x, w, bias, y = (
            random(batch, inputs),
            random(outputs, inputs),
            random(outputs),
            random(batch, outputs),
        )
        theirs = None
        if torch:
            tx, tw, tb = (torch.from_numpy(v) for v in (x, w, bias))
            theirs = lambda t=(tx, tw, tb): torch.nn.functional.linear(*t)  # noqa: E731
        yield (
            name,
            "forward",
            2 * batch * outputs * inputs,
            lambda t=(x, w, bias, y): inner_product(*t),
            theirs,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="measure the cases whose name contains this")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--no-torch", action="store_true")
    options = parser.parse_args()
    os.environ["NUMBA_NUM_THREADS"] = str(options.threads)
    if options.threads == 1:
        global clock
        clock = time.process_time
    torch = None
    if not options.no_torch:
        try:
            import torch

            torch.set_num_threads(options.threads)
            torch.set_grad_enabled(False)
        except ImportError:
            print("PyTorch is not installed: its columns stay empty")
    from caffetools.engine.cpu.limit import multiply_add_limit

    limit = multiply_add_limit(options.repeats, clock=clock)
    print(f"{options.threads} thread(s), multiply-add limit {limit:.0f} GFLOP/s")
    print(ROW.format("", "", "ours ms", "GFLOP/s", "limit", "PyTorch ms", "GFLOP/s", "ratio"))
    for cases in (convolution_cases, product_cases):
        for name, what, operations, ours, theirs in cases(torch):
            if options.only not in name:
                continue
            first, *second = fastest([ours, theirs] if theirs else [ours], options.repeats)
            columns = [
                f"{first * 1e3:.3f}",
                f"{operations / first / 1e9:.0f}",
                f"{operations / first / limit / 1e7:.0f}%",
            ]
            if second:
                rate = f"{operations / second[0] / 1e9:.0f}"
                columns += [f"{second[0] * 1e3:.3f}", rate, f"{second[0] / first:.2f}"]
            print(ROW.format(name, what, *columns, *[""] * (6 - len(columns))), flush=True)


if __name__ == "__main__":
    main()
