"""Two small nets for CIFAR-10, after Krizhevsky's cuda-convnet: a quick one and a more exact one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from scripts.zoo.definition import DOUBLE_RATE, Definition, gaussian, solver

DATA = "data/cifar10"
CLASSES = 10


def quick(net: Definition, data: str) -> str:
    x = net.convolution("conv1", data, 32, 5, pad=2, weights=gaussian(0.0001))
    x = net.relu("relu1", net.max_pool("pool1", x, 3, 2))
    x = net.relu("relu2", net.convolution("conv2", x, 32, 5, pad=2))
    x = net.average_pool("pool2", x, 3, 2)
    x = net.relu("relu3", net.convolution("conv3", x, 64, 5, pad=2))
    x = net.average_pool("pool3", x, 3, 2)
    x = net.inner_product("ip1", x, 64, weights=gaussian(0.1))
    return net.inner_product("ip2", x, CLASSES, weights=gaussian(0.1))


def full(net: Definition, data: str) -> str:
    def norm(name: str, x: str) -> str:
        return net.lrn(name, x, 3, 5e-5, norm_region="WITHIN_CHANNEL")

    x = net.convolution("conv1", data, 32, 5, pad=2, weights=gaussian(0.0001))
    x = norm("norm1", net.relu("relu1", net.max_pool("pool1", x, 3, 2)))
    x = net.relu("relu2", net.convolution("conv2", x, 32, 5, pad=2))
    x = norm("norm2", net.average_pool("pool2", x, 3, 2))
    # No multipliers, as in Caffe's example: here bias and weights learn at one rate.
    x = net.relu("relu3", net.convolution("conv3", x, 64, 5, pad=2, params=()))
    x = net.average_pool("pool3", x, 3, 2)
    # Krizhevsky decayed the classifier by 1 and the rest by 0.004, which is the solver's weight_decay.
    params = ({"lr_mult": 1, "decay_mult": 250}, {"lr_mult": 2, "decay_mult": 0})
    return net.inner_product("ip1", x, CLASSES, params=params)


def train_test(name: str, variant: str, body: Callable[[Definition, str], str]) -> str:
    net = make(name, f"CIFAR-10 {variant} for training and testing. Paths start at the checkout's root.")
    for part, phase in (("train", "TRAIN"), ("test", "TEST")):
        data = net.data(
            f"{DATA}/cifar10_{part}_lmdb", 100, phase, name="cifar", mean_file=f"{DATA}/mean.binaryproto"
        )
    scores = body(net, data)
    net.accuracy("accuracy", scores)
    net.softmax_loss("loss", scores)
    return net.text()


def deploy(name: str, variant: str, body: Callable[[Definition, str], str]) -> str:
    net = make(
        name,
        f"CIFAR-10 {variant} as it is used once trained: pictures in `data`, probabilities in `prob`.\n"
        f"Pictures are BGR, less the mean picture ({DATA}/mean.binaryproto).",
    )
    net.softmax(body(net, net.input("data", 1, 3, 32, 32)))
    return net.text()


def make(name: str, comment: str) -> Definition:
    return Definition(name, comment, params=DOUBLE_RATE, weights=gaussian(0.01))


def stage(
    net: str, suffix: str, rate: float, start: int, max_iter: int, snapshot: int, interval: int, display: int
) -> str:
    """Return a stage's solver. suffix: of the file. start: iteration of the snapshot that it goes on from."""
    path = f"models/{net}/{net}"
    command = f"caffe train --solver={path}_solver{suffix}.prototxt"
    command += f" \\\n    --snapshot={path}_iter_{start}.solverstate.h5" if start else ""
    return solver(
        (f"Trains {net}, from the checkout's root:\n{command}", {"net": f"{path}_train_test.prototxt"}),
        (
            f"All 10,000 test pictures (100 batches of 100), each {interval:,} iterations.",
            {"test_iter": [100], "test_interval": interval},
        ),
        (
            "Stochastic gradient descent at one rate; the next stage has a tenth of it.",
            {"base_lr": rate, "lr_policy": "fixed", "momentum": 0.9, "weight_decay": 0.004},
        ),
        (
            f"Up to iteration {max_iter:,}; 500 of 100 pictures are one epoch.",
            {"max_iter": max_iter, "display": display},
        ),
        (
            "",
            {"snapshot": snapshot, "snapshot_format": "HDF5", "snapshot_prefix": path, "solver_mode": "CPU"},
        ),
    )


def files() -> Iterator[tuple[str, str]]:
    for net, name, body in (
        ("cifar10_quick", "CIFAR10_quick", quick),
        ("cifar10_full", "CIFAR10_full", full),
    ):
        variant = net.removeprefix("cifar10_")
        yield f"{net}/{net}_train_test.prototxt", train_test(name, variant, body)
        yield f"{net}/{net}.prototxt", deploy(name, variant, body)
    for suffix, rate, start, max_iter in (("", 0.001, 0, 4000), ("_lr1", 0.0001, 4000, 5000)):
        text = stage("cifar10_quick", suffix, rate, start, max_iter, max_iter, 500, 100)
        yield f"cifar10_quick/cifar10_quick_solver{suffix}.prototxt", text
    stages = (("", 0.001, 0, 60_000), ("_lr1", 0.0001, 60_000, 65_000), ("_lr2", 0.00001, 65_000, 70_000))
    for suffix, rate, start, max_iter in stages:
        text = stage("cifar10_full", suffix, rate, start, max_iter, 5000 if start else 10_000, 1000, 200)
        yield f"cifar10_full/cifar10_full_solver{suffix}.prototxt", text
