"""What is known about the nets of models/, from elsewhere than their files."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "models"


class Net(NamedTuple):
    """folder: below models/. shape: of one item at the input, in use. top: the last blob, its item's shape.

    parameters: of the net in use. multiply_adds: of one item; a float is a rounded figure. trained, used: the
    files. data: name and item's shape of the training net's data, where these are not the same.
    """

    folder: str
    shape: tuple[int, ...]
    top: tuple[str, tuple[int, ...]]
    parameters: int
    multiply_adds: float
    trained: str = "train_val"
    used: str = "deploy"
    data: tuple[str, tuple[int, ...]] | None = None

    @property
    def train_file(self) -> Path:
        return MODELS / self.folder / f"{self.trained}.prototxt"

    @property
    def use_file(self) -> Path:
        return MODELS / self.folder / f"{self.used}.prototxt"

    @property
    def data_shape(self) -> tuple[str, tuple[int, ...]]:
        """Name and shape of an item of the training net's data."""
        return self.data or ("data", self.shape)


SMALL = [
    # By hand: 520 + 25050 + 400500 + 5010, and 20 * 24^2 * 25 + 50 * 8^2 * 500 + 500 * 800 + 10 * 500.
    Net("lenet", (1, 28, 28), ("prob", (10,)), 431_080, 2_293_000, "lenet_train_test", "lenet"),
    # 784-1000-500-250-30 and back: the sum of in * out is 2,833,000, and 4,314 units have a bias.
    Net(
        "mnist_autoencoder",
        (1, 28, 28),
        ("decode1neuron", (784,)),
        2_833_000 + 4314,
        2_833_000,
        "mnist_autoencoder",
    ),
    # LeNet and an inner product from 10 to 2.
    Net(
        "mnist_siamese",
        (1, 28, 28),
        ("feat", (2,)),
        431_080 + 22,
        2_293_000 + 20,
        "mnist_siamese_train_test",
        "mnist_siamese",
        ("pair_data", (2, 28, 28)),
    ),
    # 2432 + 25632 + 51264, then 1024 * 64 + 64 and 650.
    Net(
        "cifar10_quick",
        (3, 32, 32),
        ("prob", (10,)),
        145_578,
        75 * 32 * 32**2 + 800 * 32 * 16**2 + 800 * 64 * 8**2 + 1024 * 64 + 640,
        "cifar10_quick_train_test",
        "cifar10_quick",
    ),
    # 2432 + 25632 + 51264, then 1024 * 10 + 10.
    Net(
        "cifar10_full",
        (3, 32, 32),
        ("prob", (10,)),
        89_578,
        75 * 32 * 32**2 + 800 * 32 * 16**2 + 800 * 64 * 8**2 + 1024 * 10,
        "cifar10_full_train_test",
        "cifar10_full",
    ),
]

#: AlexNet's filters, kernel, input channels of a group, and side of the output (paper, section 3.5).
ALEXNET = [(96, 11, 3, 55), (256, 5, 48, 27), (384, 3, 256, 13), (384, 3, 192, 13), (256, 3, 192, 13)]
ALEXNET_DENSE = [(4096, 256 * 6 * 6), (4096, 4096), (1000, 4096)]
ALEXNET_WEIGHTS = sum(m * k * k * c for m, k, c, _ in ALEXNET) + sum(m * n for m, n in ALEXNET_DENSE)
ALEXNET_BIASES = sum(layer[0] for layer in ALEXNET + ALEXNET_DENSE)
ALEXNET_WORK = sum(m * k * k * c * side**2 for m, k, c, side in ALEXNET) + sum(
    m * n for m, n in ALEXNET_DENSE
)

#: The same of the authors' Network in Network.
NIN = [
    *[(96, 11, 3, 54), (96, 1, 96, 54), (96, 1, 96, 54)],
    *[(256, 5, 96, 27), (256, 1, 256, 27), (256, 1, 256, 27)],
    *[(384, 3, 256, 13), (384, 1, 384, 13), (384, 1, 384, 13)],
    *[(1024, 3, 384, 6), (1024, 1, 1024, 6), (1000, 1, 1024, 6)],
]

FLAT, MAP = ("prob", (1000,)), ("prob", (1000, 1, 1))
LARGE = [
    Net("alexnet", (3, 227, 227), FLAT, ALEXNET_WEIGHTS + ALEXNET_BIASES, ALEXNET_WORK),
    Net("caffenet", (3, 227, 227), FLAT, ALEXNET_WEIGHTS + ALEXNET_BIASES, ALEXNET_WORK),
    # Users of the original's caffemodel count this number; the paper has "about 1.5 billion multiply-adds".
    Net("googlenet", (3, 224, 224), FLAT, 6_998_552, 1.58e9),
    Net(
        "nin",
        (3, 224, 224),
        MAP,
        sum(m * k * k * c + m for m, k, c, _ in NIN),
        sum(m * k * k * c * side**2 for m, k, c, side in NIN),
    ),
    # Parameters from here on: torchvision's documentation of its weights (num_params); its nets are the same
    # but for the place of a stride. Multiply-adds: likewise (15.47, 19.63 and 2.83 GFLOPS), or as noted.
    Net("vgg16", (3, 224, 224), FLAT, 138_357_544, 15.47e9),
    Net("vgg19", (3, 224, 224), FLAT, 143_667_240, 19.63e9),
    # Multiply-adds: Netscope's analysis of the authors' prototxts.
    Net("squeezenet_v1.0", (3, 227, 227), MAP, 1_248_424, 861.34e6),
    Net("squeezenet_v1.1", (3, 227, 227), MAP, 1_235_496, 387.75e6),
    # Multiply-adds: the paper's table 1 (3.8, 7.6 and 11.3 times 10^9).
    Net("resnet50", (3, 224, 224), FLAT, 25_557_032, 3.8e9),
    Net("resnet101", (3, 224, 224), FLAT, 44_549_160, 7.6e9),
    Net("resnet152", (3, 224, 224), FLAT, 60_192_808, 11.3e9),
    # Parameters: Keras' documentation (trainable). Multiply-adds: the paper's table 8 (569 million).
    Net("mobilenet", (3, 224, 224), MAP, 4_231_976, 569e6),
    Net("densenet121", (3, 224, 224), MAP, 7_978_856, 2.83e9),
]

NETS = SMALL + LARGE
