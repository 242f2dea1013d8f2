"""VGG-16 and VGG-19 (Simonyan and Zisserman 2015, nets D and E): only 3x3 filters, in five blocks."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.zoo.definition import XAVIER, Definition
from scripts.zoo.imagenet import CLASSES, EXACT_MEAN, Model, Schedule

FILTERS = (64, 128, 256, 512, 512)

RULE = (
    "Stochastic gradient descent; the paper divided the rate by 10 three times, when validation stalled.",
    {
        "base_lr": 0.01,
        "lr_policy": "multistep",
        "gamma": 0.1,
        "stepvalue": [100_000, 200_000, 300_000],
        "momentum": 0.9,
        "weight_decay": 0.0005,
    },
)


def model(layers: int, depths: tuple[int, ...]) -> Model:
    """depths: convolutions of each block. layers: those with parameters, fully connected ones included."""

    def body(net: Definition, data: str, training: bool) -> str:
        x = data
        for block, (filters, depth) in enumerate(zip(FILTERS, depths, strict=True), 1):
            for i in range(1, depth + 1):
                x = net.relu(f"relu{block}_{i}", net.convolution(f"conv{block}_{i}", x, filters, 3, pad=1))
            x = net.max_pool(f"pool{block}", x, 2, 2)
        for index in (6, 7):
            x = net.relu(f"relu{index}", net.inner_product(f"fc{index}", x, 4096))
            x = net.dropout(f"drop{index}", x, 0.5)
        return net.inner_product("fc8", x, CLASSES)

    return Model(
        f"vgg{layers}",
        f"VGG-{layers}",
        make=lambda comment: Definition(f"VGG_ILSVRC_{layers}_layers", comment, weights=XAVIER),
        body=body,
        crop=224,
        batch=(64, 50, 10),
        schedules={"solver": Schedule(RULE, max_iter=370_000, iter_size=4)},
        mean=EXACT_MEAN,
    )


VGG16 = model(16, (2, 2, 3, 3, 3))
VGG19 = model(19, (2, 2, 4, 4, 4))


def files() -> Iterator[tuple[str, str]]:
    for net in (VGG16, VGG19):
        yield from net.files()
