"""Time reading and writing of the formats: a prototxt, the weights of AlexNet, and records of databases.

    python scripts/bench/bench_formats.py [--folder /tmp] [--records 200000] [--rounds 3]

Each line shows the best and the median of some rounds. Writing includes the wait until the disk has it all.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable

import google.protobuf
import numpy as np

from caffetools import glog
from caffetools.formats import binary, blob, hdf5, prototxt
from caffetools.formats.db import open_db
from caffetools.proto import caffe_pb2

ALEXNET = {
    "conv1": (96, 3, 11, 11), "conv2": (256, 48, 5, 5), "conv3": (384, 256, 3, 3), "conv4": (384, 192, 3, 3),
    "conv5": (256, 192, 3, 3), "fc6": (4096, 9216), "fc7": (4096, 4096), "fc8": (1000, 4096),
}  # fmt: skip
LAYER = """layer {
  name: "inception_3a/1x1"
  type: "Convolution"
  bottom: "pool2/3x3_s2"
  top: "inception_3a/1x1"
  param {
    lr_mult: 1
    decay_mult: 1
  }
  convolution_param {
    num_output: 64
    kernel_size: 1
    weight_filler {
      type: "xavier"
      std: 0.03
    }
  }
}
"""
RECORD = 28 * 28 + 16  # bytes: a digit of MNIST


def report(what: str, action: Callable[[], object], rounds: int, per_second: int = 0) -> None:
    """Print the times of an action, or its rates if it does so many things."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    best, median = min(times), statistics.median(times)
    if per_second:
        print(f"{what:44s} {per_second / best:11,.0f} /s {per_second / median:11,.0f} /s")
    else:
        print(f"{what:44s} {best * 1e3:11.1f} ms {median * 1e3:11.1f} ms")


def bench_text(rounds: int) -> None:
    lines = LAYER.count("\n")
    text = LAYER * (2000 // lines)
    net = prototxt.parse(text, caffe_pb2.NetParameter)
    report("prototxt of 2,000 lines: read", lambda: prototxt.parse(text, caffe_pb2.NetParameter), rounds)
    report("prototxt of 2,000 lines: print", lambda: prototxt.dumps(net), rounds)


def bench_weights(folder: str, rounds: int) -> None:
    rng = np.random.default_rng(0)
    layers = {name: {0: rng.random(shape, np.float32)} for name, shape in ALEXNET.items()}
    size = sum(blobs[0].nbytes for blobs in layers.values()) >> 20
    model = os.path.join(folder, "alexnet.caffemodel")

    def save() -> None:
        net = caffe_pb2.NetParameter()
        for name, blobs in layers.items():
            blob.fill_proto(net.layer.add(name=name).blobs.add(), blobs[0])
        binary.write(model, net)

    def load() -> None:
        for layer in binary.read(model, caffe_pb2.NetParameter).layer:
            blob.to_array(layer.blobs[0])

    report(f"caffemodel of {size} MiB: save", save, rounds)
    report(f"caffemodel of {size} MiB: load", load, rounds)
    report(f"HDF5 weights of {size} MiB: save", lambda: hdf5.write_net(f"{model}.h5", layers), rounds)
    report(f"HDF5 weights of {size} MiB: load", lambda: hdf5.read_net(f"{model}.h5"), rounds)


def bench_database(backend: str, folder: str, records: int, rounds: int) -> None:
    path = os.path.join(folder, backend)
    value = os.urandom(RECORD)

    def write() -> None:
        with open_db(backend, path, "new", overwrite=True) as db:
            for number in range(records):
                db.put(b"%08d" % number, value)
                if number % 1000 == 999:
                    db.commit()

    def iterate() -> None:
        with open_db(backend, path) as db:
            for _ in db:
                pass

    def walk() -> None:
        with open_db(backend, path) as db:
            cursor = db.cursor()
            while cursor.valid():
                cursor.key(), cursor.value()
                cursor.next()

    report(f"{backend}: write records of {RECORD} bytes", write, rounds, records)
    report(f"{backend}: iterate", iterate, rounds, records)
    report(f"{backend}: walk with a cursor", walk, rounds, records)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", help="where to write (default: the system's temporary folder)")
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    glog.flags.minloglevel = glog.WARNING
    print(f"protobuf {google.protobuf.__version__}{'best':>44s}{'median':>14s}")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        bench_text(args.rounds)
        bench_weights(folder, args.rounds)
        for backend in ("lmdb", "leveldb"):
            bench_database(backend, folder, args.records, args.rounds)


if __name__ == "__main__":
    main()
