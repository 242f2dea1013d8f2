"""Nets of models/ with LMDBs of random records in the size that they expect, for benchmarks with data."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from caffetools import upgrade
from caffetools.formats import binary, prototxt
from caffetools.formats import blob as blob_format
from caffetools.formats.db import open_db
from caffetools.proto import caffe_pb2

MODELS = Path(__file__).parents[2] / "models"


@dataclass(frozen=True)
class Kind:
    """How a net is trained: its file, the shape of a record (before a crop), classes, and the batch here."""

    file: str
    record: tuple[int, int, int]
    classes: int
    batch: int


NETS = {
    "lenet": Kind("lenet/lenet_train_test", (1, 28, 28), 10, 64),
    "cifar10_quick": Kind("cifar10_quick/cifar10_quick_train_test", (3, 32, 32), 10, 100),
    "alexnet": Kind("alexnet/train_val", (3, 256, 256), 1000, 32),
    "caffenet": Kind("caffenet/train_val", (3, 256, 256), 1000, 32),
    "googlenet": Kind("googlenet/train_val", (3, 256, 256), 1000, 16),
    "squeezenet_v1.1": Kind("squeezenet_v1.1/train_val", (3, 256, 256), 1000, 16),
    "vgg16": Kind("vgg16/train_val", (3, 256, 256), 1000, 4),
    "resnet50": Kind("resnet50/train_val", (3, 256, 256), 1000, 8),
    "mobilenet": Kind("mobilenet/train_val", (3, 256, 256), 1000, 16),
}


def pictures(count: int, seed: int = 1):
    """Make pictures (256, 256, 3) that a JPEG coder finds about as hard as photographs."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        picture = random.normal(0, 6, (256, 256, 3)) + 128
        for side, strength in ((4, 50), (16, 25), (64, 12)):
            coarse = random.normal(0, strength, (side, side, 3)).astype(np.float32)
            planes = [Image.fromarray(coarse[..., c]).resize((256, 256)) for c in range(3)]
            picture += np.stack([np.asarray(plane) for plane in planes], 2)
        yield np.clip(picture, 0, 255).astype(np.uint8)


def write_records(path: Path, kind: Kind, count: int, encoded: bool) -> None:
    """Write a database of random records with random labels; encoded: as JPEG, for pictures of 256 x 256."""
    random = np.random.default_rng(2)
    channels, height, width = kind.record
    source = pictures(count) if encoded else None
    with open_db("lmdb", path, "new") as db:
        for i in range(count):
            datum = caffe_pb2.Datum(label=int(random.integers(kind.classes)))
            if source:
                file = io.BytesIO()
                Image.fromarray(next(source)).save(file, "JPEG", quality=90)
                datum.data, datum.encoded = file.getvalue(), True
            else:
                datum.data = random.integers(0, 256, channels * height * width, np.uint8).tobytes()
                datum.channels, datum.height, datum.width = kind.record
            db.put(b"%08d" % i, datum.SerializeToString())


def write_solver(folder: Path, name: str, encoded: bool = False, **settings) -> Path:
    """Write a net of `NETS` with its data to a folder, and a solver that trains it; return the solver's path.

    settings: fields of the solver; what is not given is as for a short run without tests and snapshots.
    """
    kind = NETS[name]
    encoded = encoded and kind.record[1] == 256
    database = folder / f"{'x'.join(map(str, kind.record))}_{'jpeg' if encoded else 'raw'}_lmdb"
    if not database.exists():
        write_records(database, kind, 128 if kind.record[1] == 256 else 4096, encoded)
    net = upgrade.read_net_text(MODELS / f"{kind.file}.prototxt")
    for layer in net.layer:
        if layer.type == "Data":
            layer.data_param.source, layer.data_param.batch_size = str(database), kind.batch
            if layer.transform_param.HasField("mean_file"):
                layer.transform_param.mean_file = str(folder / "mean.binaryproto")
                mean = caffe_pb2.BlobProto()
                blob_format.fill_proto(mean, np.full((1, *kind.record), 128, np.float32))
                binary.write(layer.transform_param.mean_file, mean)
    net_file, solver_file = folder / f"{name}.prototxt", folder / f"{name}_solver.prototxt"
    prototxt.write(net_file, net)
    solver = caffe_pb2.SolverParameter(
        net=str(net_file), base_lr=1e-4, momentum=0.9, weight_decay=0.0005, lr_policy="fixed", max_iter=1,
        display=1, random_seed=1, snapshot_after_train=False, test_iter=[1], test_interval=1_000_000,
        test_initialization=False,
    )  # fmt: skip
    for field, value in settings.items():
        setattr(solver, field, value)
    prototxt.write(solver_file, solver)
    return solver_file
