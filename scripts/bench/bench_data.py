"""Time the data layers: how many records a second, alone and while a net computes.

    python -m scripts.bench.bench_data [--folder /tmp] [--seconds 2] [--rounds 3] [--threads 1 2]
    python -m scripts.bench.bench_data --nets lenet,alexnet

The first table takes batches as fast as they come. The second trains a small convolutional net on the encoded
pictures, and the same net on data that are always there: the step's time, and which share of it was spent
waiting. Each figure is the best of some rounds. All databases are made for the occasion: digits of 28 x 28,
pictures of 256 x 256 raw and as JPEG. Where the machine has other work, the processor time of a record tells more
than their number: threads that hinder each other need more of it.

With `--nets` it is nets of models/ that are trained, each by `caffe train` for some seconds from its first iteration
on, and the table shows the last line of its log: which share of the time it waited for data. That counts the first
batch, for which every run waits. "later" tells how many of the display lines that follow are followed in turn by a
line that says so because the share since the last one is 1 % or more.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
from google.protobuf import text_format
from PIL import Image

from caffetools import glog
from caffetools.blob import Blob
from caffetools.formats.db import open_db
from caffetools.layer import TRAIN, Context
from caffetools.layers import layer_class
from caffetools.proto import caffe_pb2
from caffetools.samples import prefetch
from caffetools.solver import Solver
from scripts.bench.lmdb_nets import NETS, pictures, write_solver

DATA = 'type: "Data" data_param {{ source: "{name}" backend: LMDB batch_size: {batch} }}'
FILES = 'type: "ImageData" image_data_param {{ source: "{name}" batch_size: {batch} shuffle: true }}'
CROP = "transform_param { crop_size: 227 mirror: true mean_value: 104 mean_value: 117 mean_value: 123 }"
VARIED = (
    "transform_param { crop_size: 227 mirror: true augmentation { random_resized_crop { } max_rotation: 10 "
    "brightness: 0.2 contrast: 0.2 saturation: 0.2 } }"
)
CASES = {
    "digits, raw": (DATA.format(name="digits", batch=64), "transform_param { scale: 0.00390625 }"),
    "256 x 256, raw": (DATA.format(name="raw", batch=32), CROP),
    "256 x 256, JPEG": (DATA.format(name="jpeg", batch=32), CROP),
    "256 x 256, JPEG files": (FILES.format(name="list.txt", batch=32), CROP),
    "256 x 256, JPEG, augmented": (DATA.format(name="jpeg", batch=32), VARIED),
}
NET = """
layer {{ name: "data" top: "data" top: "label" {data} }}
layer {{ name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param {{ num_output: {width} kernel_size: 11 stride: 4 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }}
layer {{ name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param {{ kernel_size: 3 stride: 2 }} }}
layer {{ name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
  convolution_param {{ num_output: {width} kernel_size: 5 pad: 2 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }}
layer {{ name: "pool2" type: "Pooling" bottom: "conv2" top: "pool2" pooling_param {{ kernel_size: 3 stride: 2 }} }}
layer {{ name: "ip" type: "InnerProduct" bottom: "pool2" top: "ip" inner_product_param {{ num_output: 10 }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }}
"""
ALWAYS_THERE = (
    'type: "DummyData" dummy_data_param { shape { dim: 32 dim: 3 dim: 227 dim: 227 } shape { dim: 32 } }'
)


def make_sources(count: int = 512, digits: int = 10_000) -> None:
    """Write the databases, the picture files and their list to the current folder."""
    random = np.random.default_rng(2)
    with open_db("lmdb", "digits", "new") as db:
        for i in range(digits):
            data = random.integers(0, 256, 28 * 28, np.uint8).tobytes()
            datum = caffe_pb2.Datum(channels=1, height=28, width=28, data=data, label=i % 10)
            db.put(b"%08d" % i, datum.SerializeToString())
    size = 0
    with open_db("lmdb", "raw", "new") as raw, open_db("lmdb", "jpeg", "new") as jpeg:
        for i, picture in enumerate(pictures(count)):
            file = io.BytesIO()
            Image.fromarray(picture).save(file, "JPEG", quality=90)
            Path(f"{i}.jpg").write_bytes(file.getvalue())
            size += len(file.getvalue())
            planes = np.ascontiguousarray(picture[:, :, ::-1].transpose(2, 0, 1)).tobytes()
            datum = caffe_pb2.Datum(channels=3, height=256, width=256, data=planes, label=i % 10)
            raw.put(b"%08d" % i, datum.SerializeToString())
            datum = caffe_pb2.Datum(data=file.getvalue(), label=i % 10, encoded=True)
            jpeg.put(b"%08d" % i, datum.SerializeToString())
    Path("list.txt").write_text("".join(f"{i}.jpg {i % 10}\n" for i in range(count)))
    print(f"{digits} digits, {count} pictures of {size / count / 1024:.1f} KiB as JPEG\n")


def take_records(data: str, seconds: float) -> tuple[float, float]:
    """Take batches from a layer for some seconds; return records a second and their processor time in ms."""
    param = text_format.Parse(f'name: "d" {data}', caffe_pb2.LayerParameter())
    layer = layer_class(param.type)(param, Context(TRAIN))
    top = [Blob(), Blob()]
    layer.setup([], top)
    try:
        for _ in layer.batches:  # those that were made ready meanwhile do not count
            layer.forward([], top)
        taken, start, worked = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - start < seconds:
            layer.forward([], top)
            taken += top[1].count
        return taken / (time.perf_counter() - start), 1000 * (time.process_time() - worked) / taken
    finally:
        layer.close()


def step(data: str, width: int, seconds: float) -> tuple[float, float]:
    """Train a net for some seconds; return the milliseconds of a step and the share of waiting."""
    param = caffe_pb2.SolverParameter(base_lr=1e-6, lr_policy="fixed", max_iter=1 << 30, random_seed=1)
    text_format.Parse(NET.format(data=data, width=width), param.net_param)
    solver = Solver(param)
    try:
        solver.step(5)
        data_layer = solver.net.layers[0]
        steps, start, waited = 0, time.perf_counter(), data_layer.waited_seconds
        while time.perf_counter() - start < seconds:
            solver.step(1)
            steps += 1
        passed = time.perf_counter() - start
        return 1000 * passed / steps, (data_layer.waited_seconds - waited) / passed
    finally:
        solver.close()


def trained_by_log(solver: Path, seconds: float) -> tuple[float, str, str]:
    """Run `caffe train` for some seconds from its first iteration on.

    Returns iterations a second, what the log says about waiting at the end, and after how many display lines.
    """
    command = [
        sys.executable,
        "-m",
        "caffetools.cli.caffe",
        "train",
        f"--solver={solver}",
        "--logtostderr",
        "--v=1",
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    rates, waiting, said = [], "", ""
    waits = 0
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            said += line
            if re.search(r"Iteration 0 \(", line):
                end = time.monotonic() + seconds
            rate = re.search(r"Iteration \d+ \((\S+) iter/s", line)
            if rate:
                rates.append(float(rate[1]))
                if time.monotonic() > end:
                    process.send_signal(signal.SIGINT)
            waits += "of the time since the last such line" in line and len(rates) > 2
            found = re.search(r"Waiting for data took (.* of the time \(.*\))", line)
            waiting = found[1] if found else waiting
    if process.returncode:
        sys.exit(f"{said[-2000:]}{' '.join(command)} failed")
    return float(np.median(rates[1:])), waiting, f"{waits} of {len(rates) - 2}"


def show_nets(folder: Path, names: list[str], seconds: float) -> None:
    """Train nets on raw records and, where they are large enough, on JPEGs, and print what their logs say."""
    print(f"{'net':<18}{'batch':>6}  {'records':<8}{'images/s':>9}{'later':>10}   waiting for data took")
    for name in names:
        for encoded in (False, True) if NETS[name].record[1] == 256 else (False,):
            batch = NETS[name].batch
            solver = write_solver(folder, name, encoded, max_iter=1 << 30, display=100 if batch > 60 else 2)
            rate, waiting, later = trained_by_log(solver, seconds)
            kind = "JPEG" if encoded else "raw"
            print(f"{name:<18}{batch:>6}  {kind:<8}{rate * batch:>9,.0f}{later:>10}   {waiting}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", default=None, help="where the databases go for the time being")
    parser.add_argument("--seconds", type=float, default=2, help="of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[1, 2], help="that decode; raw records have one"
    )
    parser.add_argument("--nets", help="comma list of nets to train instead; 'all' for all of them")
    args = parser.parse_args()
    glog.flags.minloglevel = glog.ERROR
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        if args.nets:
            show_nets(Path(folder), list(NETS) if args.nets == "all" else args.nets.split(","), args.seconds)
            return
        os.chdir(folder)
        make_sources()
        show_rates(args.threads, args.rounds, args.seconds)
        show_steps(args.threads, args.rounds, args.seconds)
        os.chdir("/")


def show_rates(threads: list[int], rounds: int, seconds: float) -> None:
    heads = "".join(f"{f'threads: {n}':>20s}" for n in threads)
    print(f"{'records a second (CPU ms each)':30s}{heads}")
    for name, (data, transform) in CASES.items():
        rates = {}
        for _ in range(rounds):
            for n in threads[:1] if "raw" in name else threads:
                with mock.patch.object(prefetch, "processors", lambda n=n: n):
                    result = take_records(f"{data} {transform}", seconds)
                rates[n] = max(rates.get(n, result), result)
        figures = "".join(f"{f'{rate:,.0f} ({cost:.3f})':>20s}" for rate, cost in rates.values())
        print(f"{name:30s}{figures}", flush=True)


def show_steps(threads: list[int], rounds: int, seconds: float) -> None:
    heads = "".join(f"{f'threads: {n}':>20s}" for n in threads)
    print(f"\n{'ms a step of 32 (waiting)':30s}{heads}{'always there':>20s}")
    data = " ".join(CASES["256 x 256, JPEG"])
    for width in (16, 96):
        best = {}
        for _ in range(rounds):
            for n in (*threads, 0):
                with mock.patch.object(prefetch, "processors", lambda n=n: n):
                    result = step(data if n else ALWAYS_THERE, width, seconds)
                best[n] = min(best.get(n, result), result)
        figures = "".join(f"{f'{best[n][0]:.0f} ({best[n][1]:.0%})':>20s}" for n in threads)
        print(f"{f'net with {width} filters':30s}{figures}{best[0][0]:20.0f}", flush=True)


if __name__ == "__main__":
    main()
