"""AlexNet (Krizhevsky, Sutskever and Hinton 2012) and CaffeNet, which pools before it normalises."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from scripts.zoo.definition import Definition, gaussian
from scripts.zoo.imagenet import CLASSES, Model, Schedule


def body(pool_first: bool, bias: float) -> Callable[[Definition, str, bool], str]:
    """Return the layers. bias: its first value where the paper has 1, which opens the ReLUs behind it."""

    def build(net: Definition, data: str, training: bool) -> str:
        def shrink(index: int, x: str) -> str:
            """Normalise and pool, in one of the two orders."""

            def norm(x: str) -> str:
                return net.lrn(f"norm{index}", x, 5, 1e-4)

            def pool(x: str) -> str:
                return net.max_pool(f"pool{index}", x, 3, 2)

            return norm(pool(x)) if pool_first else pool(norm(x))

        x = net.relu("relu1", net.convolution("conv1", data, 96, 11, stride=4))
        x = shrink(1, x)
        # Two groups: the halves that ran on two GPUs and met in conv3 and the fully connected layers.
        x = net.relu("relu2", net.convolution("conv2", x, 256, 5, pad=2, group=2, bias=bias))
        x = shrink(2, x)
        x = net.relu("relu3", net.convolution("conv3", x, 384, 3, pad=1))
        x = net.relu("relu4", net.convolution("conv4", x, 384, 3, pad=1, group=2, bias=bias))
        x = net.relu("relu5", net.convolution("conv5", x, 256, 3, pad=1, group=2, bias=bias))
        x = net.max_pool("pool5", x, 3, 2)
        for index in (6, 7):
            x = net.inner_product(f"fc{index}", x, 4096, weights=gaussian(0.005), bias=bias)
            x = net.dropout(f"drop{index}", net.relu(f"relu{index}", x), 0.5)
        return net.inner_product("fc8", x, CLASSES)

    return build


RULE = (
    "Stochastic gradient descent; the rate falls to a tenth every 100,000 iterations.",
    {
        "base_lr": 0.01,
        "lr_policy": "step",
        "gamma": 0.1,
        "stepsize": 100_000,
        "momentum": 0.9,
        "weight_decay": 0.0005,
    },
)


def model(folder: str, name: str, pool_first: bool, bias: float) -> Model:
    return Model(
        folder,
        name,
        make=lambda comment: Definition(name, comment, weights=gaussian(0.01)),
        body=body(pool_first, bias),
        crop=227,
        batch=(256, 50, 10),
        schedules={"solver": Schedule(RULE, max_iter=450_000)},
    )


ALEXNET = model("alexnet", "AlexNet", pool_first=False, bias=0.1)
CAFFENET = model("caffenet", "CaffeNet", pool_first=True, bias=1)


def files() -> Iterator[tuple[str, str]]:
    for net in (ALEXNET, CAFFENET):
        yield from net.files()
