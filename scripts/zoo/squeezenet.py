"""SqueezeNet 1.0 and 1.1 (Iandola et al. 2016): channels are squeezed before they meet 3x3 filters."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.zoo.definition import Definition, gaussian
from scripts.zoo.imagenet import CLASSES, Model, Schedule

#: Filters of fire2 to fire9: squeeze1x1, and each of the two expansions (table 1 of the paper).
FIRES = {
    2: (16, 64),
    3: (16, 64),
    4: (32, 128),
    5: (32, 128),
    6: (48, 192),
    7: (48, 192),
    8: (64, 256),
    9: (64, 256),
}


def fire(net: Definition, index: int, x: str) -> str:
    def conv(name: str, x: str, filters: int, kernel: int, pad: int = 0) -> str:
        x = net.convolution(f"fire{index}/{name}", x, filters, kernel, pad=pad)
        return net.relu(f"fire{index}/relu_{name}", x)

    squeezed, expanded = FIRES[index]
    x = conv("squeeze1x1", x, squeezed, 1)
    paths = conv("expand1x1", x, expanded, 1), conv("expand3x3", x, expanded, 3, pad=1)
    return net.concat(f"fire{index}/concat", paths)


RULE = (
    "Stochastic gradient descent; the rate falls on a straight line to zero.",
    {
        "base_lr": 0.04,
        "lr_policy": "poly",
        "power": 1,
        "momentum": 0.9,
        "weight_decay": 0.0002,
        "average_loss": 40,
    },
)


def model(version: str, filters: int, kernel: int, pooled: tuple[int, ...], pad: int) -> Model:
    """filters, kernel: of conv1. pooled: the modules whose output is pooled. pad: of conv10."""

    def body(net: Definition, data: str, training: bool) -> str:
        x = net.relu("relu_conv1", net.convolution("conv1", data, filters, kernel, stride=2))
        x = net.max_pool("pool1", x, 3, 2)
        for index in FIRES:
            x = fire(net, index, x)
            if index in pooled:
                x = net.max_pool(f"pool{index}", x, 3, 2)
        x = net.dropout("drop9", x, 0.5)
        x = net.relu("relu_conv10", net.convolution("conv10", x, CLASSES, 1, pad=pad, weights=gaussian(0.01)))
        return net.global_average("pool10", x)

    return Model(
        f"squeezenet_v{version}",
        f"SqueezeNet {version}",
        make=lambda comment: Definition(f"SqueezeNet_v{version}", comment, params=()),
        body=body,
        crop=227,
        batch=(32, 25, 10),
        schedules={"solver": Schedule(RULE, max_iter=170_000, iter_size=16, display=40)},
    )


# Padding a 1x1 convolution only adds a frame of biases, but the weights of 1.0 were trained with it.
SQUEEZENET_10 = model("1.0", filters=96, kernel=7, pooled=(4, 8), pad=1)
SQUEEZENET_11 = model("1.1", filters=64, kernel=3, pooled=(3, 5), pad=0)


def files() -> Iterator[tuple[str, str]]:
    for net in (SQUEEZENET_10, SQUEEZENET_11):
        yield from net.files()
