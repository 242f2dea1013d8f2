"""Time LeNet's training step (forward, backward, update) against PyTorch, in one run and in turns.

    python scripts/bench/bench_lenet.py [--batch 64] [--rounds 15] [--steps 20] [--threads 2]

Both sides get the same random pictures and labels. A round times some steps of one side, then of the other; the table
shows the median and the minimum over the rounds, in milliseconds a step, and the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time

try:  # first: PyTorch's threads must not see the settings that the engine makes for its own
    import torch
except ImportError:
    torch = None

import numba
import numpy as np
from google.protobuf import text_format

from caffetools import glog
from caffetools.proto import caffe_pb2
from caffetools.solver import Solver

NET = """
name: "LeNet"
layer {{ name: "data" type: "Input" top: "data" top: "label"
  input_param {{ shape {{ dim: {batch} dim: 1 dim: 28 dim: 28 }} shape {{ dim: {batch} }} }} }}
layer {{ name: "conv1" type: "Convolution" bottom: "data" top: "conv1" param {{ lr_mult: 1 }} param {{ lr_mult: 2 }}
  convolution_param {{ num_output: 20 kernel_size: 5 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param {{ kernel_size: 2 stride: 2 }} }}
layer {{ name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2" param {{ lr_mult: 1 }} param {{ lr_mult: 2 }}
  convolution_param {{ num_output: 50 kernel_size: 5 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "pool2" type: "Pooling" bottom: "conv2" top: "pool2" pooling_param {{ kernel_size: 2 stride: 2 }} }}
layer {{ name: "ip1" type: "InnerProduct" bottom: "pool2" top: "ip1" param {{ lr_mult: 1 }} param {{ lr_mult: 2 }}
  inner_product_param {{ num_output: 500 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }}
layer {{ name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2" param {{ lr_mult: 1 }} param {{ lr_mult: 2 }}
  inner_product_param {{ num_output: 10 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }}
"""


def ours(images: np.ndarray, labels: np.ndarray):
    """Return a function that trains one step with caffetools, and its solver."""
    glog.flags.minloglevel = glog.WARNING
    param = caffe_pb2.SolverParameter(
        base_lr=0.01, momentum=0.9, weight_decay=0.0005, lr_policy="fixed", random_seed=1, max_iter=1 << 30
    )
    text_format.Parse(NET.format(batch=len(labels)), param.net_param)
    solver = Solver(param)
    solver.net.blobs["data"].data[...] = images
    solver.net.blobs["label"].data[...] = labels
    return lambda steps: solver.step(steps), solver


def theirs(images: np.ndarray, labels: np.ndarray):
    """Return a function that trains some steps with PyTorch."""
    nn = torch.nn
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(800, 500), nn.ReLU(inplace=True), nn.Linear(500, 10),
    )  # fmt: skip
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=0.0005)
    x, y = torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))
    loss_function = nn.CrossEntropyLoss()

    def step(steps):
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            loss_function(net(x), y).backward()
            optimizer.step()

    return step


def milliseconds(function, steps: int) -> float:
    """Return the time of one of `steps` steps."""
    start = time.perf_counter()
    function(steps)
    return (time.perf_counter() - start) * 1000 / steps


def layer_table(solver) -> None:
    """Print how long each layer of our net takes, forward and backward, in microseconds."""
    net = solver.net
    for i, name in enumerate(net.layer_names):
        repeat = 50
        forward = milliseconds(lambda n, i=i: [net.forward_layer(i) for _ in range(n)], repeat)
        run = net.layers[i].backward
        wanted = (net.tops[i], net.bottom_needs_backward[i], net.bottoms[i])
        backward = milliseconds(lambda n, run=run, wanted=wanted: [run(*wanted) for _ in range(n)], repeat)
        print(f"  {name:>8}  forward {forward * 1000:7.0f} us  backward {backward * 1000:7.0f} us")
    update = milliseconds(lambda n: [solver.apply_update() for _ in range(n)], 50)
    print(f"  {'update':>8}  {update * 1000:7.0f} us")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=numba.config.NUMBA_NUM_THREADS)
    parser.add_argument("--layers", action="store_true", help="print a table of our layers, too")
    args = parser.parse_args()
    random = np.random.default_rng(0)
    images = random.standard_normal((args.batch, 1, 28, 28), np.float32)
    labels = random.integers(0, 10, args.batch).astype(np.float32)
    numba.set_num_threads(args.threads)
    step, solver = ours(images, labels)
    sides = {"caffetools": step}
    if torch is not None:
        torch.set_num_threads(args.threads)
        sides[f"PyTorch {torch.__version__}"] = theirs(images, labels)
    else:
        print("PyTorch is not installed: no comparison (pip install caffetools[bench])")
    for side in sides.values():
        side(3)
    times = {name: [] for name in sides}
    for _ in range(args.rounds):
        for name, side in sides.items():
            times[name].append(milliseconds(side, args.steps))
    print(
        f"LeNet training step, batch {args.batch}, {args.threads} threads, {args.rounds} rounds of {args.steps} steps"
    )
    for name, values in times.items():
        print(f"{name:>20}: median {statistics.median(values):6.2f} ms, minimum {min(values):6.2f} ms")
    if len(times) == 2:
        mine, other = times.values()
        print(
            f"PyTorch time / our time: {statistics.median(b / a for a, b in zip(mine, other, strict=True)):.2f}"
        )
    if args.layers:
        layer_table(solver)


if __name__ == "__main__":
    main()
