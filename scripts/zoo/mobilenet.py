"""MobileNet (Howard et al. 2017): 3x3 filters a channel, then 1x1 filters across channels."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.zoo.definition import MSRA, Definition
from scripts.zoo.imagenet import CLASSES, ROUNDED_MEAN, Model, Schedule

#: Filters and stride of the depthwise separable units (table 1 of the paper).
UNITS = {
    "2_1": (64, 1),
    "2_2": (128, 2),
    "3_1": (128, 1),
    "3_2": (256, 2),
    "4_1": (256, 1),
    "4_2": (512, 2),
    **{f"5_{i}": (512, 1) for i in range(1, 6)},
    "5_6": (1024, 2),
    "6": (1024, 1),
}

RULE = (
    "Stochastic gradient descent with little weight decay; the rate falls on a straight line to zero.",
    {"base_lr": 0.1, "lr_policy": "poly", "power": 1, "momentum": 0.9, "weight_decay": 0.00004},
)
# The paper: weight decay harms the depthwise filters, which have few weights.
NO_DECAY = ({"lr_mult": 1, "decay_mult": 0},)


def conv(net: Definition, name: str, relu: str, x: str, filters: int, kernel: int, **fields: object) -> str:
    x = net.convolution(name, x, filters, kernel, bias_term=False, **fields)
    return net.relu(relu, net.batch_norm(f"{name}/bn", f"{name}/scale", x))


def body(net: Definition, data: str, training: bool) -> str:
    channels = 32
    x = conv(net, "conv1", "relu1", data, channels, 3, stride=2, pad=1)
    for unit, (filters, stride) in UNITS.items():
        fields = {"stride": stride, "pad": 1, "group": channels, "params": NO_DECAY}
        x = conv(net, f"conv{unit}/dw", f"relu{unit}/dw", x, channels, 3, **fields)
        x = conv(net, f"conv{unit}/sep", f"relu{unit}/sep", x, filters, 1)
        channels = filters
    return net.convolution("fc7", net.global_average("pool6", x), CLASSES, 1)


MOBILENET = Model(
    "mobilenet",
    "MobileNet",
    make=lambda comment: Definition("MOBILENET", comment, weights=MSRA),
    body=body,
    crop=224,
    batch=(64, 50, 1),
    schedules={"solver": Schedule(RULE, max_iter=500_000, iter_size=4)},
    mean=ROUNDED_MEAN,
    scale=0.017,
)


def files() -> Iterator[tuple[str, str]]:
    return MOBILENET.files()
