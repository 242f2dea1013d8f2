"""GoogLeNet (Szegedy et al. 2015): nine inception modules, with two more classifiers in training."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.zoo.definition import Definition
from scripts.zoo.imagenet import CLASSES, Model, Schedule

#: Filters of a module: 1x1; 3x3 reduce, 3x3; 5x5 reduce, 5x5; pool projection (table 1 of the paper).
MODULES = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
#: The modules whose output is pooled, and those whose output also feeds an auxiliary classifier.
POOLED = {"3b": "pool3/3x3_s2", "4e": "pool4/3x3_s2"}
CLASSIFIED = {"4a": "loss1", "4d": "loss2"}
AUXILIARY_WEIGHT = 0.3


def conv(net: Definition, prefix: str, name: str, x: str, filters: int, kernel: int, **fields: int) -> str:
    return net.relu(
        f"{prefix}/relu_{name}", net.convolution(f"{prefix}/{name}", x, filters, kernel, **fields)
    )


def inception(net: Definition, module: str, x: str) -> str:
    """Four paths with views of different size, side by side."""
    prefix = f"inception_{module}"
    n1, n3_reduce, n3, n5_reduce, n5, projection = MODULES[module]
    path1 = conv(net, prefix, "1x1", x, n1, 1)
    path3 = conv(net, prefix, "3x3", conv(net, prefix, "3x3_reduce", x, n3_reduce, 1), n3, 3, pad=1)
    path5 = conv(net, prefix, "5x5", conv(net, prefix, "5x5_reduce", x, n5_reduce, 1), n5, 5, pad=2)
    pooled = net.max_pool(f"{prefix}/pool", x, 3, 1, pad=1)
    path_pool = conv(net, prefix, "pool_proj", pooled, projection, 1)
    return net.concat(f"{prefix}/output", (path1, path3, path5, path_pool))


def measure(net: Definition, prefix: str, scores: str) -> None:
    net.accuracy(f"{prefix}/top-1", scores)
    net.accuracy(f"{prefix}/top-5", scores, top_k=5)


def auxiliary(net: Definition, prefix: str, x: str) -> None:
    """A classifier in the middle of the net, which brings gradients to the lower layers."""
    x = net.average_pool(f"{prefix}/ave_pool", x, 5, 3)
    x = conv(net, prefix, "conv", x, 128, 1)
    x = net.relu(f"{prefix}/relu_fc", net.inner_product(f"{prefix}/fc", x, 1024))
    x = net.dropout(f"{prefix}/drop_fc", x, 0.7)
    scores = net.inner_product(f"{prefix}/classifier", x, CLASSES, bias=0)
    net.softmax_loss(f"{prefix}/loss", scores, top=f"{prefix}/loss1", weight=AUXILIARY_WEIGHT)
    measure(net, prefix, scores)


def body(net: Definition, data: str, training: bool) -> str:
    x = net.relu("conv1/relu_7x7", net.convolution("conv1/7x7_s2", data, 64, 7, stride=2, pad=3))
    x = net.lrn("pool1/norm1", net.max_pool("pool1/3x3_s2", x, 3, 2), 5, 1e-4)
    x = conv(net, "conv2", "3x3_reduce", x, 64, 1)
    x = conv(net, "conv2", "3x3", x, 192, 3, pad=1)
    x = net.max_pool("pool2/3x3_s2", net.lrn("conv2/norm2", x, 5, 1e-4), 3, 2)
    for module in MODULES:
        x = inception(net, module, x)
        if training and module in CLASSIFIED:
            auxiliary(net, CLASSIFIED[module], x)
        if module in POOLED:
            x = net.max_pool(POOLED[module], x, 3, 2)
    x = net.dropout("pool5/drop_7x7_s1", net.average_pool("pool5/7x7_s1", x, 7), 0.4)
    return net.inner_product("loss3/classifier", x, CLASSES, bias=0)


def head(net: Definition, scores: str) -> None:
    net.softmax_loss("loss3/loss3", scores, weight=1)
    measure(net, "loss3", scores)


STEP = (
    "As in the paper: the rate falls by 4 % every 8 epochs (320,000 batches of 32).",
    {
        "base_lr": 0.01,
        "lr_policy": "step",
        "gamma": 0.96,
        "stepsize": 320_000,
        "momentum": 0.9,
        "weight_decay": 0.0002,
        "average_loss": 40,
    },
)
QUICK = (
    "Four times as fast as the paper: the rate is base_lr * (1 - iteration / max_iter) ^ power.",
    {
        "base_lr": 0.01,
        "lr_policy": "poly",
        "power": 0.5,
        "momentum": 0.9,
        "weight_decay": 0.0002,
        "average_loss": 40,
    },
)

GOOGLENET = Model(
    "googlenet",
    "GoogLeNet",
    make=lambda comment: Definition("GoogleNet", comment, bias=0.2),
    body=body,
    crop=224,
    batch=(32, 50, 10),
    schedules={
        "solver": Schedule(STEP, max_iter=10_000_000, test_interval=4000, display=40),
        "quick_solver": Schedule(QUICK, max_iter=2_400_000, test_interval=4000, display=40),
    },
    head=head,
)


def files() -> Iterator[tuple[str, str]]:
    return GOOGLENET.files()
