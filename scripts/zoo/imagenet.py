"""What all nets for ImageNet have in common: data, the way losses are attached, and the three files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from scripts.zoo.definition import Definition, solver

CLASSES = 1000
#: Mean blue, green and red of the training pictures, as rounded for different nets.
MEAN = (104, 117, 123)
EXACT_MEAN = (103.939, 116.779, 123.68)
ROUNDED_MEAN = (103.94, 116.78, 123.68)

TRAINING_PICTURES = 1_281_167
TEST_PICTURES = 50_000


def classifier(net: Definition, scores: str) -> None:
    """Attach what is trained and measured to the scores of the classes."""
    net.accuracy("accuracy", scores)
    net.accuracy("accuracy_top5", scores, top_k=5)
    net.softmax_loss("loss", scores)


@dataclass
class Schedule:
    """How a net is trained.

    rule: a comment and the fields of the update rule and the rate. iter_size: batches that make one step.
    """

    rule: tuple[str, dict[str, object]]
    max_iter: int
    iter_size: int = 1
    test_interval: int = 1000
    display: int = 20


@dataclass
class Model:
    """An ImageNet classifier and how it is trained.

    folder: below models/. name: as comments call it. make: returns an empty Definition with a comment on top.
    body: adds the layers between data and the scores of the classes, given the net, the data's name and
    whether the net is trained; returns the scores. crop: pixels of a side. batch: (training, testing, use).
    schedules: solver files by their names without ending. mean, scale: the preprocessing. head: adds losses
    and measures.
    """

    folder: str
    name: str
    make: Callable[[str], Definition]
    body: Callable[[Definition, str, bool], str]
    crop: int
    batch: tuple[int, int, int]
    schedules: dict[str, Schedule]
    mean: tuple[float, ...] = MEAN
    scale: float = 1
    head: Callable[[Definition, str], None] = classifier

    def files(self) -> Iterator[tuple[str, str]]:
        yield f"{self.folder}/train_val.prototxt", self._train_val()
        yield f"{self.folder}/deploy.prototxt", self._deploy()
        for file, schedule in self.schedules.items():
            yield f"{self.folder}/{file}.prototxt", self._solver(file, schedule)

    def _train_val(self) -> str:
        net = self.make(f"{self.name}, trained and tested on ImageNet. Paths start at the checkout's root.")
        transform = {"crop_size": self.crop, "mean_value": self.mean}
        transform |= {"scale": self.scale} if self.scale != 1 else {}
        train, test, _ = self.batch
        net.data("data/ilsvrc12/ilsvrc12_train_lmdb", train, "TRAIN", mirror=True, **transform)
        data = net.data("data/ilsvrc12/ilsvrc12_val_lmdb", test, "TEST", **transform)
        self.head(net, self.body(net, data, True))
        return net.text()

    def _deploy(self) -> str:
        preprocessing = f"less the mean ({', '.join(f'{value:g}' for value in self.mean)})"
        preprocessing += f", times {self.scale:g}" if self.scale != 1 else ""
        net = self.make(
            f"{self.name} as it is used once trained: pictures in `data`, probabilities in `prob`.\n"
            f"Pictures are BGR, {preprocessing}."
        )
        data = net.input("data", self.batch[2], 3, self.crop, self.crop)
        net.softmax(self.body(net, data, False))
        return net.text()

    def _solver(self, file: str, schedule: Schedule) -> str:
        folder = f"models/{self.folder}"
        train, test, _ = self.batch
        batches = TEST_PICTURES // test
        step = train * schedule.iter_size
        epochs = schedule.max_iter * step / TRAINING_PICTURES
        size = f"{step}" if schedule.iter_size == 1 else f"{schedule.iter_size} x {train}"
        return solver(
            (
                f"Trains {self.name} on ImageNet, from the checkout's root:\n"
                f"caffe train --solver={folder}/{file}.prototxt",
                {"net": f"{folder}/train_val.prototxt"},
            ),
            (
                f"All {TEST_PICTURES:,} validation pictures ({batches:,} batches of {test}), "
                f"each {schedule.test_interval:,} iterations.",
                {
                    "test_iter": [batches],
                    "test_interval": schedule.test_interval,
                    "test_initialization": False,
                },
            ),
            schedule.rule,
            (
                f"{schedule.max_iter:,} batches of {size}: the {TRAINING_PICTURES:,} training pictures "
                f"about {epochs:.0f} times.",
                ({"iter_size": schedule.iter_size} if schedule.iter_size != 1 else {})
                | {"max_iter": schedule.max_iter, "display": schedule.display},
            ),
            ("", {"snapshot": 10_000, "snapshot_prefix": f"{folder}/{self.folder}", "solver_mode": "CPU"}),
        )
