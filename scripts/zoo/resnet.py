"""ResNet-50, -101 and -152 (He et al. 2016): bottleneck units, each added to its own input."""

from __future__ import annotations

from collections.abc import Iterator
from string import ascii_lowercase

from scripts.zoo.definition import MSRA, Definition
from scripts.zoo.imagenet import CLASSES, Model, Schedule

#: Units of the stages conv2_x to conv5_x (table 1 of the paper).
UNITS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}

RULE = (
    "Stochastic gradient descent; the paper divided the rate by 10 whenever the error stalled.",
    {
        "base_lr": 0.1,
        "lr_policy": "multistep",
        "gamma": 0.1,
        "stepvalue": [150_000, 300_000, 450_000],
        "momentum": 0.9,
        "weight_decay": 0.0001,
    },
)


def conv(net: Definition, unit: str, branch: str, x: str, filters: int, kernel: int, **fields: int) -> str:
    """A convolution with its BatchNorm and Scale."""
    x = net.convolution(f"res{unit}_{branch}", x, filters, kernel, bias_term=False, **fields)
    return net.batch_norm(f"bn{unit}_{branch}", f"scale{unit}_{branch}", x)


def bottleneck(net: Definition, unit: str, x: str, filters: int, stride: int, project: bool) -> str:
    """1x1, 3x3 and 1x1 filters; the input goes around them, through 1x1 filters where shapes change."""
    around = conv(net, unit, "branch1", x, 4 * filters, 1, stride=stride) if project else x
    x = net.relu(f"res{unit}_branch2a_relu", conv(net, unit, "branch2a", x, filters, 1, stride=stride))
    x = net.relu(f"res{unit}_branch2b_relu", conv(net, unit, "branch2b", x, filters, 3, pad=1))
    x = conv(net, unit, "branch2c", x, 4 * filters, 1)
    return net.relu(f"res{unit}_relu", net.add(f"res{unit}", around, x))


def unit_names(layers: int, stage: int, units: int) -> list[str]:
    """2a, 2b, 2c; in the long stages of the deeper nets 3a, 3b1, 3b2 and so on."""
    if layers > 50 and stage in (3, 4):
        return [f"{stage}a", *(f"{stage}b{i}" for i in range(1, units))]
    return [f"{stage}{letter}" for letter in ascii_lowercase[:units]]


def model(layers: int) -> Model:
    def body(net: Definition, data: str, training: bool) -> str:
        x = net.convolution("conv1", data, 64, 7, stride=2, pad=3, bias_term=False)
        x = net.relu("conv1_relu", net.batch_norm("bn_conv1", "scale_conv1", x))
        x = net.max_pool("pool1", x, 3, 2)
        for stage, units in enumerate(UNITS[layers], 2):
            for i, unit in enumerate(unit_names(layers, stage, units)):
                stride = 2 if i == 0 and stage > 2 else 1
                x = bottleneck(net, unit, x, 32 * 2 ** (stage - 1), stride, project=i == 0)
        x = net.average_pool("pool5", x, 7)
        return net.inner_product("fc1000", x, CLASSES)

    return Model(
        f"resnet{layers}",
        f"ResNet-{layers}",
        make=lambda comment: Definition(f"ResNet-{layers}", comment, weights=MSRA),
        body=body,
        crop=224,
        batch=(32, 25, 1),
        schedules={"solver": Schedule(RULE, max_iter=600_000, iter_size=8)},
    )


RESNETS = [model(layers) for layers in UNITS]


def files() -> Iterator[tuple[str, str]]:
    for net in RESNETS:
        yield from net.files()
