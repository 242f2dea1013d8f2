"""Network in Network (Lin, Chen and Yan 2014), in the size that its authors trained on ImageNet."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.zoo.definition import Definition, gaussian
from scripts.zoo.imagenet import CLASSES, Model, Schedule


def body(net: Definition, data: str, training: bool) -> str:
    relu = iter((0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12))  # there is no relu4 in the authors' net

    def conv(name: str, x: str, filters: int, kernel: int, **fields: object) -> str:
        # Layers like conv4-1024 have tops without their size.
        top = name.partition("-")[0]
        fields = {"weights": gaussian(0.05), **fields}
        x = net.convolution(name, x, filters, kernel, top=top, **fields)
        return net.relu(f"relu{next(relu)}", x)

    x = conv("conv1", data, 96, 11, stride=4, weights=gaussian(0.01))
    x = conv("cccp2", conv("cccp1", x, 96, 1), 96, 1)
    x = net.max_pool("pool0", x, 3, 2)
    x = conv("conv2", x, 256, 5, pad=2)
    x = conv("cccp4", conv("cccp3", x, 256, 1), 256, 1)
    x = net.max_pool("pool2", x, 3, 2)
    x = conv("conv3", x, 384, 3, pad=1, weights=gaussian(0.01))
    x = conv("cccp6", conv("cccp5", x, 384, 1), 384, 1)
    x = net.dropout("drop", net.max_pool("pool3", x, 3, 2), 0.5)
    x = conv("conv4-1024", x, 1024, 3, pad=1)
    x = conv("cccp7-1024", x, 1024, 1)
    x = conv("cccp8-1024", x, CLASSES, 1, weights=gaussian(0.01))
    return net.average_pool("pool4", x, 6)


RULE = (
    "Stochastic gradient descent; the rate falls to a tenth every 200,000 iterations.",
    {
        "base_lr": 0.01,
        "lr_policy": "step",
        "gamma": 0.1,
        "stepsize": 200_000,
        "momentum": 0.9,
        "weight_decay": 0.0005,
    },
)

NIN = Model(
    "nin",
    "Network in Network",
    make=lambda comment: Definition("nin_imagenet", comment),
    body=body,
    crop=224,
    batch=(64, 50, 10),
    schedules={"solver": Schedule(RULE, max_iter=450_000)},
)


def files() -> Iterator[tuple[str, str]]:
    return NIN.files()
