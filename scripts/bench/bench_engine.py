"""GFLOP/s of the CPU engine's products and convolutions, beside the machine's limits, PyTorch and NumPy's BLAS.

    python scripts/bench/bench_engine.py [--repeats 5] [--only lenet] [--threads 2] [--no-torch]

All compute the same thing on the same random data with the same number of threads, in turns; the fastest of the
repeats counts. With one thread processor time is measured, which other programs disturb less. The limit is what a
micro-kernel reaches on operands in the first-level cache, on as many threads, measured in turns with each case; for
products of a few items with weights, which memory keeps waiting, GB/s of weights are shown beside what the machine can
read. A ratio is another's time / our time. PyTorch's columns stay empty where it is not installed, NumPy's where a
case is no plain matrix product.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median

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
# 1 x 1 convolutions, which are matrix products: name, images, channels, outputs, size
ONE_BY_ONE = (
    ("googlenet 3a 1x1", 16, 192, 64, 28),
    ("googlenet 4a red.", 16, 480, 96, 14),
    ("googlenet 5b 1x1", 16, 832, 384, 7),
    ("resnet 2a 64-256", 8, 64, 256, 56),
    ("resnet 4b 256-1024", 8, 256, 1024, 14),
    ("resnet 5b 2048-512", 8, 2048, 512, 7),
    ("mobilenet 2_1", 16, 32, 64, 112),
    ("mobilenet 5_1", 16, 512, 512, 14),
    ("mobilenet 6", 16, 1024, 1024, 7),
    ("squeezenet fire2 s", 16, 64, 16, 56),
    ("squeezenet fire2 e", 16, 16, 64, 56),
    ("squeezenet fire9 e", 16, 64, 256, 14),
)
# name, rows, columns, depth, trans_a, trans_b, beta
PRODUCTS = (
    ("gemm 1024", 1024, 1024, 1024, False, False, 0),
    ("gemm 1024 NT", 1024, 1024, 1024, False, True, 0),
    ("gemm 1024 TN", 1024, 1024, 1024, True, False, 0),
)
# name, batch, outputs, inputs
INNER_PRODUCTS = (
    ("lenet ip1", 64, 500, 800),
    ("lenet ip2", 64, 10, 500),
    ("cifar10 ip1", 100, 64, 1024),
    ("cifar10 ip2", 100, 10, 64),
    ("googlenet fc", 16, 1000, 1024),
    ("lstm x", 320, 1024, 256),
    ("lstm predict", 320, 100, 256),
    ("alexnet fc6", 32, 4096, 9216),
    ("alexnet fc7", 32, 4096, 4096),
    ("alexnet fc8", 32, 1000, 4096),
    ("vgg fc6", 4, 4096, 25088),
    ("vgg fc7", 4, 4096, 4096),
    ("vgg fc8", 4, 1000, 4096),
    ("vgg fc6, one", 1, 4096, 25088),
    ("vgg fc7, one", 1, 4096, 4096),
    ("fc7, eight", 8, 4096, 4096),
    ("googlenet fc, one", 1, 1000, 1024),
)
#: Batches that memory keeps waiting.
THIN = 8
#: Seconds until the threads of the library that was measured before stop waiting for work at the processors' expense
#: (OpenBLAS's do so for 2^28 ticks), and until those of the next one have spread over the processors.
PAUSE, SPREAD = 0.2, 0.05
clock = time.perf_counter
ROW = "{:<20}{:<9}{:>9}{:>9}{:>7}{:>6}{:>7}{:>12}{:>7}{:>10}{:>7}"


def fastest(
    functions: list[Callable[[], object]], repeats: int, limit: Callable[[], float]
) -> tuple[list[float], float]:
    """Return the shortest time of each function in seconds, and what the limit times that of the first is.

    They take turns, each several calls at a time. The limit is measured right after the first, since it changes with
    the processor's frequency, and the median of the turns' products counts.
    """
    calls, best, products = [], [float("inf")] * len(functions), []
    for function in functions:
        function()
        start = clock()
        function()
        calls.append(max(1, int(0.01 / (clock() - start))))
    for _ in range(repeats):
        for i, function in enumerate(functions):
            settle(function)
            start = clock()
            for _ in range(calls[i]):
                function()
            taken = (clock() - start) / calls[i]
            best[i] = min(best[i], taken)
            if i == 0:
                products.append(taken * limit())
    return best, median(products)


def settle(function: Callable[[], object]) -> None:
    """Let other libraries' threads fall asleep and wake this one's."""
    time.sleep(PAUSE)
    end = time.perf_counter() + SPREAD
    while time.perf_counter() < end:
        function()


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(out=empty(*shape), dtype=np.float32)


def empty(*shape: int) -> np.ndarray:
    from caffetools.engine.aligned import aligned_empty

    return aligned_empty(shape, np.float32)


def convolution_cases(torch):
    """Yield (name, what, operations, bytes that must be read, ours, PyTorch's, NumPy's) for the three products of each
    convolution; what is not there is None."""
    from caffetools.engine.cpu.conv import ConvPlan

    for name, n, c, m, k, stride, pad, size, group in CONVOLUTIONS:
        x, w, bias = random(n, c, size, size), random(m, c // group, k, k), random(m)
        plan = ConvPlan(x.shape, w.shape, stride, pad, 1, group)
        y, dy, dx, dw, db = empty(*plan.y_shape), random(*plan.y_shape), x * 0, w * 0, bias * 0
        operations = 2 * y.size * w[0].size
        forward = weights = data = None
        if torch:
            tx, tw, tb, tdy = (torch.from_numpy(v) for v in (x, w, bias, dy))

            def backward(mask, tx=tx, tw=tw, tdy=tdy, stride=stride, pad=pad, group=group):
                return torch.ops.aten.convolution_backward(
                    tdy, tx, tw, [tw.shape[0]], [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], group, mask
                )

            forward = partial(torch.conv2d, tx, tw, tb, stride, pad, 1, group)
            weights, data = partial(backward, [False, True, True]), partial(backward, [True, False, False])
        yield name, "forward", operations, 0, partial(plan.forward, x, w, bias, y), forward, None
        yield name, "weights", operations, 0, partial(plan.backward_weights, x, dy, dw, db), weights, None
        if c > 3:
            yield name, "data", operations, 0, partial(plan.backward_data, dy, w, dx), data, None


def one_by_one_cases(torch):
    """Yield the same for the forward products of 1 x 1 convolutions, without bias."""
    from caffetools.engine.cpu.conv import ConvPlan

    for name, n, c, m, size in ONE_BY_ONE:
        x, w = random(n, c, size, size), random(m, c, 1, 1)
        plan = ConvPlan(x.shape, w.shape)
        y = empty(*plan.y_shape)
        numpys = partial(np.matmul, w.reshape(m, c), x.reshape(n, c, -1), out=y.reshape(n, m, -1))
        theirs = partial(torch.conv2d, *(torch.from_numpy(v) for v in (x, w))) if torch else None
        yield name, "forward", 2 * y.size * c, 0, partial(plan.forward, x, w, None, y), theirs, numpys


def product_cases(torch):
    """Yield the same for matrix products."""
    for name, m, n, k, trans_a, trans_b, beta in PRODUCTS:
        a, b = random(*((k, m) if trans_a else (m, k))), random(*((n, k) if trans_b else (k, n)))
        yield name, "gemm", 2 * m * n * k, 0, *products(torch, trans_a, trans_b, a, b, beta)


def products(torch, trans_a, trans_b, a, b, beta):
    """Return ours, PyTorch's and NumPy's way to compute op(A) op(B) + beta C."""
    from caffetools.engine.cpu.gemm import gemm

    first, second = a.T if trans_a else a, b.T if trans_b else b
    shape = len(first), second.shape[1]
    c, numpys, total = empty(*shape), empty(*shape), empty(*shape)
    c[:] = total[:] = 0

    def blas():
        np.matmul(first, second, out=numpys)
        if beta:  # NumPy has no sum of products
            np.add(total, numpys, out=total)

    theirs = None
    if torch:
        tc, ta, tb = (torch.from_numpy(v) for v in (c.copy(), a, b))
        theirs = partial(torch.addmm, tc, ta.T if trans_a else ta, tb.T if trans_b else tb, beta=beta, out=tc)
    return partial(gemm, trans_a, trans_b, 1, a, b, beta, c), theirs, blas


def inner_product_cases(torch):
    """Yield the same for the three products of inner-product layers, the first with the bias that they all have."""
    from caffetools.engine.cpu.inner_product import inner_product

    for name, batch, outputs, inputs in INNER_PRODUCTS:
        x, w, bias, dy = random(batch, inputs), random(outputs, inputs), random(outputs), random(batch, outputs)
        y, numpys = empty(*dy.shape), empty(*dy.shape)
        operations, size = 2 * batch * outputs * inputs, w.nbytes if batch <= THIN else 0
        theirs = partial(torch.nn.functional.linear, *(torch.from_numpy(v) for v in (x, w, bias))) if torch else None

        def blas(x=x, w=w, bias=bias, y=numpys):
            np.matmul(x, w.T, out=y)
            np.add(y, bias, out=y)

        yield name, "forward", operations, size, partial(inner_product, x, w, bias, y), theirs, blas
        yield name, "dx", operations, size, *products(torch, False, False, dy, w, 0)
        # The gradient is read and written.
        yield name, "dw", operations, 2 * size, *products(torch, True, False, dy, x, 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="measure the cases whose name contains this")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--no-torch", action="store_true")
    options = parser.parse_args()
    use_threads(options.threads)
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
    from caffetools.engine.cpu.limit import multiply_add_limit, read_limit

    memory = read_limit(options.repeats, clock=clock)
    print(f"{options.threads} thread(s); memory is read at {memory:.0f} GB/s")
    titles = "ours ms", "GFLOP/s", "limit", "GB/s", "limit", "PyTorch ms", "ratio", "NumPy ms", "ratio"
    print(ROW.format("", "", *titles))
    for cases in (product_cases, inner_product_cases, one_by_one_cases, convolution_cases):
        for name, what, operations, size, ours, torchs, numpys in cases(torch):
            if options.only not in name:
                continue
            others = [other for other in (torchs, numpys) if other]
            measure_limit = partial(multiply_add_limit, 0, clock=clock)
            (best, *times), possible = fastest([ours, *others], options.repeats, measure_limit)
            columns = [f"{best * 1e3:.3f}", f"{operations / best / 1e9:.0f}", f"{operations / 1e9 / possible:.0%}"]
            columns += [f"{size / best / 1e9:.0f}", f"{size / best / 1e9 / memory:.0%}"] if size else ["", ""]
            for other in (torchs, numpys):
                taken = times.pop(0) if other else 0
                columns += [f"{taken * 1e3:.3f}", f"{taken / best:.2f}"] if other else ["", ""]
            print(ROW.format(name, what, *columns), flush=True)


def use_threads(count: int) -> None:
    """Start again with the number of threads that all libraries look at when they are loaded."""
    wanted = dict.fromkeys(("NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(count))
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | wanted)


if __name__ == "__main__":
    main()
