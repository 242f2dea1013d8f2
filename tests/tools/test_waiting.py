"""The share of time spent waiting for data: counted in the layers, said by `caffe time` and `caffe train`."""

from __future__ import annotations

import re
import shutil
import time
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from google.protobuf import text_format

from caffetools import glog
from caffetools.blob import Blob
from caffetools.layer import Context, Layer
from caffetools.layers import layer_class
from caffetools.proto import caffe_pb2
from caffetools.solver import report
from tests.recorded import FORMATS, run_tool

LINE = re.compile(r"Waiting for data took ([\d.]+)% of the time \(([\d.e-]+) s of ([\d.e-]+) s\)$", re.M)


@pytest.fixture
def clock(monkeypatch):
    """Stands still at 100 seconds until it is moved."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(time, "perf_counter", lambda: now.seconds)
    return now


@pytest.fixture
def notes(monkeypatch):
    said = []
    monkeypatch.setattr(glog, "note", said.append)
    return said


def test_share(clock, notes):
    layers = [SimpleNamespace(waited_seconds=5.0) for _ in range(3)]
    wait = report.DataWait([SimpleNamespace(layers=layers[:1]), SimpleNamespace(layers=layers[1:])])
    layers[0].waited_seconds += 1
    layers[2].waited_seconds += 2
    clock.seconds += 12
    assert wait.seconds() == (3, 12)
    wait.note()
    wait.restart()
    assert wait.seconds() == (0, 0)
    assert notes == ["Waiting for data took 25.0% of the time (3 s of 12 s)"]


@pytest.mark.parametrize(("waited", "said"), [(0.0, False), (0.09, False), (0.11, True), (10.0, True)])
def test_display_lines_are_followed_by_shares_that_matter(waited, said, clock, notes):
    layer = SimpleNamespace(waited_seconds=0.0)
    line = report.DisplayLine(0, [SimpleNamespace(layers=[layer])])
    for display in range(1, 3):
        layer.waited_seconds += waited
        clock.seconds += 10
        line.show(display, 1, 0.5)
    share = f"Waiting for data took {10 * waited:.1f}% of the time since the last such line"
    assert notes == ([share] * 2 if said else [])


def test_layers_without_data_never_wait():
    assert Layer(caffe_pb2.LayerParameter(), Context()).waited_seconds == 0


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layers = []

    def make(text):
        param = text_format.Parse(text + ' name: "d" top: "data" top: "label"', caffe_pb2.LayerParameter())
        layer = layer_class(param.type)(param, Context())
        layers.append(layer)
        layer.top = [Blob(), Blob()]
        layer.setup([], layer.top)
        return layer

    yield make
    for layer in layers:
        layer.close()


DATA = f'type: "Data" data_param {{ source: "{FORMATS}/mnist_train_lmdb" backend: LMDB batch_size: 2000 prefetch: 1 }}'
IMAGES = f'type: "ImageData" image_data_param {{ source: "list.txt" root_folder: "{FORMATS}/images/" batch_size: 40 }}'


@pytest.mark.parametrize("text", [DATA, IMAGES], ids=["Data", "ImageData"])
def test_waits_are_counted_through_a_resume(text, make, tmp_path):
    name = sorted(path.name for path in (FORMATS / "images").glob("*.png"))[0]
    (tmp_path / "list.txt").write_text(f"{name} 0\n")
    layer = make(text)
    for _ in range(4):
        layer.forward([], layer.top)
    before = layer.waited_seconds
    assert before == layer.prefetcher.waited_seconds > 0
    layer.set_state(layer.get_state())
    assert layer.waited_seconds == before
    for _ in range(4):
        layer.forward([], layer.top)
    assert layer.waited_seconds > before


def test_hdf5_waits_where_it_reads_a_file(make, tmp_path):
    for name in ("a.h5", "b.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["data"], file["label"] = np.zeros((4, 2)), np.zeros(4)
    (tmp_path / "list.txt").write_text("a.h5\nb.h5\n")
    layer = make('type: "HDF5Data" hdf5_data_param { source: "list.txt" batch_size: 2 }')
    waits = []
    for _ in range(3):
        layer.forward([], layer.top)
        waits.append(layer.waited_seconds)
    assert waits[0] == waits[1] == 0 < waits[2]


@pytest.fixture
def folder(tmp_path):
    for name in ("train_test.prototxt", "solver.prototxt"):
        shutil.copyfile(FORMATS / name, tmp_path / name)
    for name in ("mnist_train_lmdb", "mnist_t10k_lmdb"):
        shutil.copytree(FORMATS / name, tmp_path / name)
    return tmp_path


COMMANDS = [
    ("time", "--model=train_test.prototxt", "--iterations=3"),
    ("train", "--solver=solver.prototxt"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=[command[0] for command in COMMANDS])
def test_commands_say_it_where_notes_are_shown(command, folder):
    # That they do not say it elsewhere is for test_logs.py, where whole logs are compared.
    shown = run_tool("caffe", *command, "--v=1", cwd=folder)
    assert shown.returncode == 0, shown.stderr
    lines = LINE.findall(shown.stderr)
    assert len(lines) == 1
    share, waited, passed = map(float, lines[0])
    assert 0 <= waited <= passed
    # The seconds are shown with three digits, so each may be off by half a per cent.
    assert share == pytest.approx(100 * waited / passed, rel=0.012, abs=0.1)
