"""DenseNet-121 (Huang et al. 2017): in a block every unit sees the outputs of all units before it."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.zoo.definition import MSRA, Definition
from scripts.zoo.imagenet import CLASSES, ROUNDED_MEAN, Model, Schedule

GROWTH = 32  # channels that a unit adds
UNITS = (6, 12, 24, 16)  # of the four blocks (table 1 of the paper)

RULE = (
    "Nesterov's momentum; the rate falls to a tenth after 30 and 60 epochs.",
    {
        "type": "Nesterov",
        "base_lr": 0.1,
        "lr_policy": "multistep",
        "gamma": 0.1,
        "stepvalue": [150_000, 300_000],
        "momentum": 0.9,
        "weight_decay": 0.0001,
    },
)


def norm_relu_conv(
    net: Definition, name: str, relu: str, x: str, filters: int, kernel: int, **fields: int
) -> str:
    """In the paper's order. Not in place: every unit normalises the block's common input in its own way."""
    x = net.relu(relu, net.batch_norm(f"{name}/bn", f"{name}/scale", x, top=f"{name}/bn"))
    return net.convolution(name, x, filters, kernel, bias_term=False, **fields)


def body(net: Definition, data: str, training: bool) -> str:
    channels = 2 * GROWTH
    x = net.convolution("conv1", data, channels, 7, stride=2, pad=3, bias_term=False)
    x = net.relu("relu1", net.batch_norm("conv1/bn", "conv1/scale", x, top="conv1/bn"))
    x = net.max_pool("pool1", x, 3, 2, pad=1, round_mode="FLOOR")
    for stage, units in enumerate(UNITS, 2):
        for i in range(1, units + 1):
            unit = f"{stage}_{i}"
            new = norm_relu_conv(net, f"conv{unit}/x1", f"relu{unit}/x1", x, 4 * GROWTH, 1)
            new = norm_relu_conv(net, f"conv{unit}/x2", f"relu{unit}/x2", new, GROWTH, 3, pad=1)
            x = net.concat(f"concat_{unit}", (x, new))
        channels += units * GROWTH
        end = f"conv{stage}_blk"
        if stage <= len(UNITS):
            channels //= 2
            x = norm_relu_conv(net, end, f"relu{stage}_blk", x, channels, 1)
            x = net.average_pool(f"pool{stage}", x, 2, 2)
    x = net.relu(f"relu{stage}_blk", net.batch_norm(f"{end}/bn", f"{end}/scale", x, top=f"{end}/bn"))
    return net.convolution("fc6", net.global_average(f"pool{stage}", x), CLASSES, 1)


DENSENET121 = Model(
    "densenet121",
    "DenseNet-121",
    make=lambda comment: Definition("DENSENET_121", comment, weights=MSRA),
    body=body,
    crop=224,
    batch=(32, 25, 1),
    schedules={"solver": Schedule(RULE, max_iter=450_000, iter_size=8)},
    mean=ROUNDED_MEAN,
    scale=0.017,
)


def files() -> Iterator[tuple[str, str]]:
    return DENSENET121.files()
