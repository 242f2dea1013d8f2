"""classify, detect, draw_net and train_net: what they print and write, as functions and as programs."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

import caffetools.pycaffe as caffe
from caffetools.pycaffe.scripts.classify import classify
from caffetools.pycaffe.scripts.common import PictureSettings
from caffetools.pycaffe.scripts.detect import detect
from caffetools.pycaffe.scripts.draw_net import draw_net
from caffetools.pycaffe.scripts.train import train
from tests.pycaffe.conftest import SMALL
from tests.recorded import run_tool

ROOT = Path(__file__).parents[2]

# Three classes: the means of the channels.
MEANS = """
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 2 dim: {channels} dim: 4 dim: 4 }} }} }}
layer {{
  name: "mean" type: "Pooling" bottom: "data" top: "mean" pooling_param {{ pool: AVE global_pooling: true }}
}}
"""
LABELS = ["reddish", "greenish", "bluish"]
RGB = np.array([0.2, 0.6, 0.4])  # of the pictures, which have one colour
PLAIN = PictureSettings(raw_scale="", channel_swap="")


@pytest.fixture
def files(write):
    """The net and its weights as the flags name them, pictures, labels."""
    write(MEANS.format(channels=1), "gray.prototxt")
    caffe.Net(write(MEANS.format(channels=3)), caffe.TEST).save("net.caffemodel")
    for name in ("red.png", "also.png", "other.jpg"):
        Image.new("RGB", (4, 4), tuple(int(value) for value in np.round(RGB * 255))).save(name)
    write("\n".join(LABELS) + "\n", "labels.txt")
    return {"model_def": "net.prototxt", "pretrained_model": "net.caffemodel"}


class TestClassify:
    @staticmethod
    def classify(*arguments, **options):
        return classify(*arguments, **{"images_dim": "4,4", **options})

    def test_picture(self, files, capsys):
        found = self.classify(
            "red.png", "out.npy", **files, settings=PLAIN, labels_file="labels.txt", top_k=2
        )
        np.testing.assert_allclose(found, [RGB], rtol=1e-5)
        np.testing.assert_array_equal(np.load("out.npy"), found)
        lines = capsys.readouterr().out.splitlines()
        assert re.fullmatch(r"Done in \d+\.\d\d s\.", lines.pop(3))
        assert lines == [
            "CPU mode",
            "Loading file: red.png",
            "Classifying 1 inputs.",
            "---------- Prediction for red.png ----------",
            '0.6000 - "greenish"',
            '0.4000 - "bluish"',
            "Saving results into out.npy",
        ]

    def test_folder(self, files, capsys):
        found = self.classify(".", "", **files, settings=PLAIN, ext="png", center_only=True)
        np.testing.assert_allclose(found, [RGB, RGB], rtol=1e-5)
        out = capsys.readouterr().out
        assert "Loading folder: .\nClassifying 2 inputs.\n" in out
        assert re.findall(r"-- Prediction for (\S+) --", out) == ["./also.png", "./red.png"]

    def test_array(self, files, capsys):
        pictures = np.random.default_rng(0).random((40, 4, 4, 3), np.float32)
        np.save("in.npy", pictures)
        found = self.classify("in.npy", "", **files, settings=PLAIN, images_dim="", top_k=0)
        np.testing.assert_allclose(found, pictures.mean((1, 2)), rtol=1e-5)
        assert "Prediction" not in capsys.readouterr().out

    def test_default_settings(self, files):
        found = self.classify("red.png", "", **files)
        np.testing.assert_allclose(found, [255 * RGB[::-1]], rtol=1e-4)

    @pytest.mark.parametrize("kind", ["numbers", "npy", "binaryproto", "vector"])
    def test_means(self, files, kind):
        mean = np.float32([10, 20, 30])
        picture = np.broadcast_to(mean[:, None, None], (3, 4, 4))
        np.save("mean.npy", picture)
        np.save("vector.npy", mean)
        Path("mean.binaryproto").write_bytes(caffe.io.array_to_blobproto(picture[None]).SerializeToString())
        name = {"numbers": "10,20,30", "vector": "vector.npy"}.get(kind, f"mean.{kind}")
        found = self.classify("red.png", "", **files, settings=PictureSettings(name, "0.5"))
        np.testing.assert_allclose(found, [(255 * RGB[::-1] - mean) / 2], rtol=1e-3)

    def test_net_of_one_channel(self, files):
        found = self.classify("red.png", "", **files | {"model_def": "gray.prototxt"})
        np.testing.assert_allclose(found, [[255 * RGB @ [0.2125, 0.7154, 0.0721]]], rtol=1e-5)

    @pytest.mark.parametrize(
        ("name", "options", "words"),
        [
            ("gone.png", {}, "gone.png: No such file or directory"),
            ("net.prototxt", {}, "cannot identify image file.*net.prototxt"),
            (".", {"ext": "gif"}, r"The folder \. has no file \*\.gif"),
            ("red.png", {"model_def": ""}, "--model_def is needed"),
            ("red.png", {"pretrained_model": ""}, "--pretrained_model is needed"),
            ("red.png", {"pretrained_model": "gone"}, "Could not open file gone"),
            ("red.png", {"images_dim": "a,b"}, "--images_dim=a,b: whole numbers"),
            ("red.png", {"settings": PictureSettings("a,b")}, "--mean_file=a,b: a .npy file"),
            ("red.png", {"settings": PictureSettings("gone.npy")}, "gone.npy: No such file"),
            ("red.png", {"settings": PictureSettings("1,2")}, "Mean channels incompatible with input"),
            ("red.png", {"settings": PictureSettings(raw_scale="x")}, "--raw_scale=x: a number"),
            ("red.png", {"labels_file": "gone.txt"}, "gone.txt: No such file"),
            (
                "red.png",
                {"labels_file": "net.prototxt"},
                "Number of labels is different from the output layer",
            ),
            ("red.png", {"gpu": True}, "Cannot use GPU"),
        ],
    )
    def test_refusals(self, files, monkeypatch, name, options, words):
        monkeypatch.setattr("caffetools.engine.devices.CUDA_DRIVER", "libno-such-driver.so")
        with pytest.raises(caffe.FatalError, match=words):
            self.classify(name, "", **files | options)

    def test_array_of_another_shape(self, files):
        np.save("in.npy", np.zeros((4, 4, 3)))
        with pytest.raises(caffe.FatalError, match=r"the shape \(4, 4, 3\): pictures \(n, height"):
            self.classify("in.npy", "", **files)


@pytest.fixture
def windows(files):
    """A picture whose left half is red and whose right half is blue, and three windows."""
    pixels = np.zeros((10, 20, 3), np.uint8)
    pixels[:, :10, 0] = pixels[:, 10:, 2] = 255
    Image.fromarray(pixels).save("halves.png")
    Path("windows.csv").write_text(
        "n,filename,xmin,ymin,xmax,ymax\n1,halves.png,0,0,4,4\n2,red.png,0,0,4,4\n3,halves.png,10,2,14,6\n"
    )
    return [
        ("halves.png", "0 0 4 4", [1, 0, 0]),
        ("halves.png", "2 10 6 14", [0, 0, 1]),
        ("red.png", "0 0 4 4", RGB),
    ]


class TestDetect:
    OPTIONS = {"settings": PLAIN, "context_pad": 0}

    def test_csv(self, files, windows, capsys):
        detect("windows.csv", "out.csv", **files, **self.OPTIONS, labels_file="labels.txt", top_k=3)
        header, *rows = csv.reader(Path("out.csv").read_text().splitlines())
        assert header == ["filename", "ymin", "xmin", "ymax", "xmax", *LABELS]
        for row, (name, window, scores) in zip(rows, windows, strict=True):
            assert row[:5] == [name, *window.split()]
            np.testing.assert_allclose(np.array(row[5:], float), scores, rtol=1e-5)
        lines = capsys.readouterr().out.splitlines()
        assert lines[:2] == ["CPU mode", "Loading input..."]
        assert re.fullmatch(r"Processed 3 windows in \d+\.\d{3} s\.", lines[2])
        assert lines[3:6] == [
            '1.0000 - "reddish" halves.png 0 0 4 4',
            '1.0000 - "bluish" halves.png 2 10 6 14',
            '0.6000 - "greenish" red.png 0 0 4 4',
        ]
        assert re.fullmatch(r"Saved to out.csv in \d+\.\d{3} s\.", lines[6])

    def test_hdf5(self, files, windows):
        detect("windows.csv", "out.h5", **files, **self.OPTIONS)
        with h5py.File("out.h5") as file:
            assert [name.decode() for name in file["filename"]] == [name for name, _, _ in windows]
            assert file["window"][1].tolist() == [2, 10, 6, 14]
            np.testing.assert_allclose(file["prediction"], [scores for _, _, scores in windows], rtol=1e-5)

    def test_context(self, files, windows):
        """A window of the red half next to the blue one: half of the input is context, some of which is blue."""
        Path("one.csv").write_text("filename,ymin,xmin,ymax,xmax\nhalves.png,3,5,7,9\n")
        (found,) = detect("one.csv", "out.csv", **files, settings=PLAIN, context_pad=1)
        red, green, blue = found["prediction"].ravel()
        assert 0 == green < blue < red < 1

    def test_result_is_read_back_as_input(self, files, windows):
        first = detect("windows.csv", "out.csv", **files, **self.OPTIONS)
        again = detect("out.csv", "again.csv", **files, **self.OPTIONS)
        for one, other in zip(first, again, strict=True):
            np.testing.assert_array_equal(one["prediction"], other["prediction"])

    @pytest.mark.parametrize(
        ("name", "text", "output", "options", "words"),
        [
            ("w.csv", "filename,ymin\n", "o.csv", {}, "w.csv has no column xmin, ymax, xmax"),
            (
                "w.csv",
                "filename,ymin,xmin,ymax,xmax\na,1,2,3,x\n",
                "o.csv",
                {},
                "w.csv, line 2: numbers are expected",
            ),
            (
                "w.csv",
                "filename,ymin,xmin,ymax,xmax\na,1,2,3\n",
                "o.csv",
                {},
                "w.csv, line 2: numbers are expected",
            ),
            ("w.csv", "filename,ymin,xmin,ymax,xmax\n", "o.csv", {}, "w.csv has no windows"),
            ("w.csv", "", "o.txt", {}, "o.txt: the results are written to a file that ends in .csv or .h5"),
            ("w.txt", "red.png", "o.csv", {}, "needs the module selective_search_ijcv_with_python"),
            ("w.txt", "red.png", "o.csv", {"crop_mode": "list"}, "--crop_mode=list takes a .csv file"),
            (
                "w.csv",
                "",
                "o.csv",
                {"crop_mode": "lists"},
                "--crop_mode=lists: it is list or selective_search",
            ),
            (
                "w.csv",
                "filename,ymin,xmin,ymax,xmax\ngone.png,1,2,3,4\n",
                "o.csv",
                {},
                "gone.png: No such file",
            ),
            (
                "w.csv",
                "filename,ymin,xmin,ymax,xmax\nred.png,9,9,12,12\n",
                "o.csv",
                {},
                "lies outside of a picture",
            ),
        ],
    )
    def test_refusals(self, files, write, name, text, output, options, words):
        write(text, name)
        with pytest.raises(caffe.FatalError, match=words):
            detect(name, output, **files, **self.OPTIONS, **options)
        assert not Path(output).exists()


class TestDrawNet:
    @pytest.fixture(autouse=True)
    def net(self, write):
        write(SMALL)

    def test_with_pydot(self, capsys):
        pytest.importorskip("pydot")
        draw_net("net.prototxt", "net.dot", rankdir="TB", display_lrm=True)
        assert capsys.readouterr().out == "Drawing net to net.dot\n"
        text = Path("net.dot").read_text()
        assert "rankdir=TB" in text and "lr mult: 1" in text

    def test_without_pydot(self, monkeypatch):
        monkeypatch.setattr("caffetools.pycaffe.scripts.draw_net.find_spec", lambda name: None)
        draw_net("net.prototxt", "net.svg", phase="TRAIN")
        assert "<svg" in Path("net.svg").read_text()

    def test_unknown_phase(self):
        with pytest.raises(caffe.FatalError, match="--phase=DEV: it is one of ALL, TRAIN, TEST"):
            draw_net("net.prototxt", "net.svg", phase="DEV")


class TestTrain:
    @pytest.fixture(autouse=True)
    def solver(self, write):
        write(SMALL)
        write(
            'net: "net.prototxt" base_lr: 1e-4 lr_policy: "fixed" max_iter: 4 display: 2 type: "Adam" momentum: 0.9 '
            'snapshot_prefix: "small"',
            "solver.prototxt",
        )

    def test_training(self):
        solver = train("solver.prototxt")
        assert (solver.iter, type(solver)) == (4, caffe.AdamSolver)
        assert Path("small_iter_4.caffemodel").exists()

    def test_continued(self, write):
        train("solver.prototxt")
        write(Path("solver.prototxt").read_text().replace("max_iter: 4", "max_iter: 6"), "solver.prototxt")
        assert train("solver.prototxt", "small_iter_4.solverstate").iter == 6

    def test_timing(self, capfd):
        train("solver.prototxt", timing=True)
        log = capfd.readouterr().err
        names = ["data", "conv", "ip", "ip_blob_ip_0_split", "relu", "twice", "loss"]
        for kind, expected in (("forw", names), ("back", names[::-1])):
            assert re.findall(rf"^{kind} +\d+ +(\S+) : \d+\.\d\d$", log, re.M) == expected * 2
        assert len(re.findall(r"^solver total: \d+\.\d\d$", log, re.M)) == 2

    def test_refusals(self, monkeypatch):
        monkeypatch.setattr("caffetools.engine.devices.CUDA_DRIVER", "libno-such-driver.so")
        with pytest.raises(caffe.FatalError, match="--solver is needed"):
            train("")
        with pytest.raises(caffe.FatalError, match="Cannot use GPU 1: no NVIDIA driver"):
            train("solver.prototxt", gpus=["1", "2"])


class TestPrograms:
    """As processes, with the flags in the original's way of writing them."""

    @pytest.mark.parametrize("way", ["command", "script"])
    def test_classify(self, files, tmp_path, way):
        arguments = [
            "--model_def", "net.prototxt", "--pretrained_model", "net.caffemodel", "--images_dim", "4,4",
            "--mean_file", "", "--raw_scale", "1", "--channel_swap", "0,1,2", "--center_only", "red.png", "out.npy",
        ]  # fmt: skip
        if way == "command":
            done = run_tool("classify", *arguments, cwd=tmp_path)
        else:
            command = [sys.executable, ROOT / "python" / "classify.py", *arguments]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert '0.6000 - "class1"' in done.stdout
        np.testing.assert_allclose(np.load("out.npy"), [RGB], rtol=1e-5)

    def test_detect(self, files, windows, tmp_path):
        flags = [
            "--model_def=net.prototxt",
            "--pretrained_model=net.caffemodel",
            "--crop_mode=list",
            "--gpu=false",
        ]
        done = run_tool("detect", *flags, "windows.csv", "out.csv", cwd=tmp_path)
        assert done.returncode == 134 and "A context of 16 pixels on each side leaves no room" in done.stderr
        done = run_tool("detect", *flags, "--context_pad=1", "windows.csv", "out.csv", cwd=tmp_path)
        assert done.returncode == 0 and len(Path("out.csv").read_text().splitlines()) == 4

    def test_train_net(self, write, tmp_path):
        write(SMALL)
        write(
            'net: "net.prototxt" base_lr: 1e-4 lr_policy: "fixed" max_iter: 2 snapshot_prefix: "m"',
            "s.prototxt",
        )
        done = run_tool("train_net", "--solver", "s.prototxt", "--timing", cwd=tmp_path)
        assert done.returncode == 0 and Path("m_iter_2.caffemodel").exists()
        done = run_tool("train_net", "--solver", "s.prototxt", "--gpus", "99", "1", cwd=tmp_path)
        assert done.returncode == 134 and "Cannot use GPU 99" in done.stderr

    @pytest.mark.parametrize("tool", ["classify", "detect", "draw_net"])
    def test_usage(self, tool, tmp_path):
        done = run_tool(tool, cwd=tmp_path)
        assert done.returncode == 1 and "usage:" in done.stderr
