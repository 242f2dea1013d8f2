"""Time whole nets against PyTorch: a training step (forward, backward, update) and inference, in one run and in turns.

    python -m scripts.bench.bench_nets [--only alexnet,googlenet] [--seconds 6] [--threads 2]

Both sides run the same layers with the same weights on the same random data; the results of the first pass are
shown side by side. A round times one call of each side; rounds are repeated for `--seconds`. The table shows medians
in milliseconds and the median of the rounds' ratios PyTorch time / our time, then the ratios' geometric mean.
"""

from __future__ import annotations

import argparse
import statistics
import time
from math import exp, log
from pathlib import Path

import numba
import numpy as np
import torch  # first: PyTorch's threads must not see the settings that the engine makes for its own

from caffetools import glog, graph, upgrade
from caffetools.formats import prototxt
from caffetools.layer import TEST, TRAIN, Context
from caffetools.net import Net
from caffetools.proto import caffe_pb2
from caffetools.solver import Solver
from caffetools.tools.net_inputs import with_inputs
from scripts.bench.torch_net import TorchNet

MODELS = Path(__file__).parents[2] / "models"

# A language model of characters, cut into pieces of 20 steps: models/ has no recurrent net.
LSTM = """
name: "LSTM"
layer { name: "data" type: "Input" top: "data" }
layer { name: "cont" type: "Input" top: "cont" }
layer { name: "label" type: "Input" top: "label" include { phase: TRAIN } }
layer {
  name: "lstm" type: "LSTM" bottom: "data" bottom: "cont" top: "lstm"
  recurrent_param { num_output: 256 weight_filler { type: "xavier" } }
}
layer {
  name: "predict" type: "InnerProduct" bottom: "lstm" top: "predict"
  inner_product_param { num_output: 100 axis: 2 weight_filler { type: "xavier" } }
}
layer {
  name: "loss" type: "SoftmaxWithLoss" bottom: "predict" bottom: "label" top: "loss" softmax_param { axis: 2 }
  include { phase: TRAIN }
}
layer {
  name: "prob" type: "Softmax" bottom: "predict" top: "prob" softmax_param { axis: 2 } include { phase: TEST }
}
"""

LSTM_STEPS = 20

# name: prototxt to train, prototxt to run, batch, shape of a picture, classes; of the LSTM, the text and the streams
NETS = {
    "lenet": ("lenet/lenet_train_test", "lenet/lenet", 64, (1, 28, 28), 10),
    "cifar10_quick": (
        "cifar10_quick/cifar10_quick_train_test", "cifar10_quick/cifar10_quick", 100, (3, 32, 32), 10,
    ),
    "alexnet": ("alexnet/train_val", "alexnet/deploy", 32, (3, 227, 227), 1000),
    "caffenet": ("caffenet/train_val", "caffenet/deploy", 32, (3, 227, 227), 1000),
    "googlenet": ("googlenet/train_val", "googlenet/deploy", 16, (3, 224, 224), 1000),
    "squeezenet_v1.1": ("squeezenet_v1.1/train_val", "squeezenet_v1.1/deploy", 16, (3, 227, 227), 1000),
    "vgg16": ("vgg16/train_val", "vgg16/deploy", 4, (3, 224, 224), 1000),
    "resnet50": ("resnet50/train_val", "resnet50/deploy", 8, (3, 224, 224), 1000),
    "mobilenet": ("mobilenet/train_val", "mobilenet/deploy", 16, (3, 224, 224), 1000),
    "lstm": (LSTM, LSTM, 16, (256,), 100),
}  # fmt: skip


def read(name: str, phase: int, batch: int, picture: tuple[int, ...]) -> caffe_pb2.NetParameter:
    """Return a net of models/ with Input layers of the benchmark's batch in place of its data."""
    if name is LSTM:
        param = prototxt.parse(name, caffe_pb2.NetParameter)
        steps = (LSTM_STEPS, batch)
        shapes = {"data": (*steps, *picture), "cont": steps, "label": steps}
    else:
        param = upgrade.read_net_text(MODELS / f"{name}.prototxt")
        shapes = {"data": (batch, *picture), "label": (batch,)}
    param.state.phase = phase
    param = graph.filter_net(param)
    tops = {top for layer in param.layer for top in layer.top if not layer.bottom}
    return with_inputs(param, {top: shapes[top] for top in tops})


def feed(net: Net, classes: int) -> list[torch.Tensor]:
    """Fill the inputs of a net with random data and return the same for PyTorch."""
    random = np.random.default_rng(0)
    for name in net.inputs:
        blob = net.blobs[name]
        if name == "label":
            blob.data[...] = random.integers(0, classes, blob.shape)
        elif name == "cont":  # sequences start with the batch, as PyTorch's do
            blob.data[...] = np.arange(blob.shape[0])[:, None] > 0
        else:
            blob.data[...] = random.standard_normal(blob.shape, np.float32)
    return [torch.from_numpy(np.array(net.blobs[name].data)) for name in net.inputs]


def training(name, batch, picture, classes):
    """Return our step, PyTorch's step, and both losses of the first pass."""
    param = caffe_pb2.SolverParameter(
        base_lr=1e-4, momentum=0.9, weight_decay=0.0005, lr_policy="fixed", random_seed=1, stop_on_nan=False
    )
    param.net_param.CopyFrom(read(name, TRAIN, batch, picture))
    solver = Solver(param, plan=True)  # as `caffe train` does
    inputs = feed(solver.net, classes)
    module = TorchNet(solver.net).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-4, momentum=0.9, weight_decay=0.0005)
    losses = []

    def theirs():
        optimizer.zero_grad(set_to_none=True)
        loss = module(*inputs)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    solver.step(1)
    theirs()
    return lambda: solver.step(1), theirs, (solver.smoothed_loss, losses[0])


def inference(name, batch, picture, classes):
    """Return our forward pass, PyTorch's, and the largest outputs of both."""
    net = Net(read(name, TEST, batch, picture), Context(), plan=True)  # as `caffe test` does
    for layer in net.layers:
        if layer.type == "BatchNorm":  # the statistics of a net that has seen normalised data: mean 0, variance 1
            for blob, value in zip(layer.blobs, (0, 1, 1), strict=True):
                blob.data[...] = value
    inputs = feed(net, classes)
    module = TorchNet(net).eval()

    def theirs():
        with torch.inference_mode():
            return module(*inputs)

    net.forward()
    mine = net.blobs[net.outputs[-1]].data
    return net.forward, theirs, (float(mine.max()), float(theirs().max()))


def race(ours, theirs, seconds: float) -> tuple[float, float, float]:
    """Time both sides in turns; return the medians in milliseconds and the median of the ratios."""
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + seconds
    while len(times[0]) < 5 or time.perf_counter() < end:
        for side, kept in zip((ours, theirs), times, strict=True):
            start = time.perf_counter()
            side()
            kept.append((time.perf_counter() - start) * 1000)
    ratio = statistics.median(b / a for a, b in zip(*times, strict=True))
    return statistics.median(times[0]), statistics.median(times[1]), ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="comma list of nets")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--threads", type=int, default=numba.config.NUMBA_NUM_THREADS)
    args = parser.parse_args()
    numba.set_num_threads(args.threads)
    torch.set_num_threads(args.threads)
    glog.flags.minloglevel = glog.ERROR
    ratios = []
    print(f"{args.threads} threads, PyTorch {torch.__version__}; milliseconds, ratio = PyTorch time / our time")
    print(f"{'net':<16}{'batch':>6}  {'what':<10}{'ours':>9}{'PyTorch':>9}{'ratio':>7}   first results")
    for name in args.only.split(",") if args.only else NETS:
        train, deploy, batch, picture, classes = NETS[name]
        for what, make, file in (("training", training, train), ("inference", inference, deploy)):
            ours, theirs, check = make(file, batch, picture, classes)
            mine, other, ratio = race(ours, theirs, args.seconds)
            ratios.append(ratio)
            print(
                f"{name:<16}{batch:>6}  {what:<10}{mine:>9.2f}{other:>9.2f}{ratio:>7.2f}   "
                f"{check[0]:.5g} {check[1]:.5g}",
                flush=True,
            )
    print(f"geometric mean of the ratios: {exp(sum(map(log, ratios)) / len(ratios)):.2f}, lowest {min(ratios):.2f}")


if __name__ == "__main__":
    main()
