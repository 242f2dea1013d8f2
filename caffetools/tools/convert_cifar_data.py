"""`convert_cifar_data`: CIFAR-10's binary batches to a database for training and one for tests.

Pictures stay as they are in the files: planes of red, green and blue.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from caffetools.formats import cifar
from caffetools.glog import info
from caffetools.proto import caffe_pb2
from caffetools.tools.new_database import Writer, new_database

TRAINING_BATCHES = 5


def convert(folder: str, output: str, backend: str, force: bool = False) -> None:
    """Make `output`/cifar10_train_BACKEND and `output`/cifar10_test_BACKEND, with the keys 00000, 00001, ...

    folder: where data_batch_1.bin to data_batch_5.bin and test_batch.bin are. backend: "lmdb" or "leveldb". force:
    replace databases of these names.
    Errors: FatalError for files that are missing or damaged, and for databases that exist.
    """
    train, test = (os.path.join(output, f"cifar10_{part}_{backend}") for part in ("train", "test"))
    with ExitStack() as stack:
        writer = stack.enter_context(new_database(backend, train, force))
        info("Writing Training data")
        for number in range(1, TRAINING_BATCHES + 1):
            info(f"Training Batch {number}")
            path = os.path.join(folder, f"data_batch_{number}.bin")
            _store(*cifar.read_batch(path, "data_file", f"Unable to open train file #{number}"), writer)
        info("Writing Testing data")
        writer = stack.enter_context(new_database(backend, test, force))
        path = os.path.join(folder, "test_batch.bin")
        _store(*cifar.read_batch(path, "data_file", "Unable to open test file."), writer)


def _store(labels, pictures, writer: Writer) -> None:
    channels, height, width = cifar.SHAPE
    datum = caffe_pb2.Datum(channels=channels, height=height, width=width)
    for label, picture in zip(labels.tolist(), pictures, strict=True):
        datum.label = label
        datum.data = picture.tobytes()
        writer.put(b"%05d" % writer.count, datum.SerializeToString())
