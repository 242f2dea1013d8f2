"""The commands of docs/data.md, as they stand there, from pictures to a classified one."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tools.records import datums

ROOT = Path(__file__).parents[2]
DATA = """
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: %s }
  transform_param { mean_file: "mean.binaryproto" } data_param { source: "%s_leveldb" batch_size: 8 backend: LEVELDB } }
"""
NET = """
layer { name: "pool1" type: "Pooling" bottom: "data" top: "pool1" pooling_param { pool: AVE kernel_size: 8 stride: 8 } }
layer { name: "ip1" type: "InnerProduct" bottom: "pool1" top: "ip1"
  inner_product_param { num_output: 3 weight_filler { type: "gaussian" std: 0.001 } } }
"""
COLOURS = ("red", "green", "blue")
FILES = {
    "train_val.prototxt": DATA % ("TRAIN", "train")
    + DATA % ("TEST", "val")
    + NET
    + """layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip1" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "ip1" bottom: "label" top: "accuracy" include { phase: TEST } }""",
    "deploy.prototxt": 'layer { name: "data" type: "Input" top: "data" '
    "input_param { shape { dim: 1 dim: 3 dim: 32 dim: 32 } } }"
    + NET
    + 'layer { name: "prob" type: "Softmax" bottom: "ip1" top: "prob" }',
    "solver.prototxt": 'net: "train_val.prototxt" base_lr: 0.00001 momentum: 0.9 lr_policy: "fixed" display: 10 '
    'max_iter: 40 test_iter: 2 test_interval: 20 snapshot: 40 snapshot_prefix: "net" random_seed: 1',
    "labels.txt": "red\ngreen\nblue\n",
}


def blocks(language):
    """The lines of all blocks of code in the document."""
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    return [line for part in text.split(f"```{language}\n")[1:] for line in part.split("```")[0].splitlines()]


def write_picture(path, colour, rng):
    """A picture of some size, of noise that is brighter in one colour."""
    pixels = rng.integers(0, 120, (rng.integers(20, 90), rng.integers(20, 90), 3))
    pixels[..., colour] += 130
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name, count in (("train", 24), ("val", 16)):
        lines = []
        for i in range(count):
            path = f"{name}/{COLOURS[i % 3]}/a picture {i}.{'png' if i % 2 else 'jpg'}"
            write_picture(tmp_path / "pictures" / path, i % 3, rng)
            lines.append(f"{path} {i % 3}\n")
        (tmp_path / f"{name}.txt").write_text("".join(lines))
    write_picture(tmp_path / "pictures" / "new.png", 1, rng)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_commands_of_the_document(folder):
    pytest.importorskip("plyvel")
    env = os.environ | {"PYTHON": sys.executable, "GLOG_logtostderr": "1", "PYTHONPATH": str(ROOT)}
    outputs = {}
    for line in blocks("sh"):
        program, *arguments = shlex.split(line)
        command = [ROOT / "bin" / program, *arguments]
        result = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, f"{line}\n{result.stdout}{result.stderr}"
        outputs.setdefault(line.split(" -")[0] if program == "caffe" else program, result)
        if arguments[0] == "train":
            (folder / "train.log").write_text(result.stderr)
    assert "classes     3, labels 0 to 2" in outputs["caffe data train_leveldb"].stdout
    first, best = outputs["classification"].stdout.splitlines()[:2]
    assert first == "---------- Prediction for pictures/new.png ----------"
    assert best.endswith(' - "green"') and float(best.split()[0]) > 0.9
    assert outputs["caffe test"].stderr.rstrip().splitlines()[-2].endswith("accuracy = 1")
    features = datums(folder / "ip1_leveldb", "leveldb")
    assert len(features) == 16
    labels = [int(np.argmax(datum.float_data)) for datum in features.values()]
    assert labels == [i % 3 for i in range(16)]
    with np.load(folder / "features.npz") as stored:
        assert {name: len(stored[name]) for name in ("pool1", "ip1")} == {"pool1": 16, "ip1": 16}
    assert (folder / "train.log.test").read_text().count("\n") == 4
