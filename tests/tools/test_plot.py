"""`caffe plot`: the curves' points against the recorded logs, and the files."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from caffetools.glog import FatalError
from caffetools.pictures.curves import is_wide
from caffetools.tools.parse_log import parse_log
from caffetools.tools.plot import plot_logs
from caffetools.tools.run_curves import ACCURACY, LOSS, OTHER, RATE, kind, panels, run_names
from tests.cli.cli_run import ROOT, run
from tests.recorded import FORMATS

RECORDED = FORMATS / "log_train.txt"
LINES = """\
{0} 10:00:00.000000 7 solver.cpp:1] Solving net
{0} 10:00:01.500000 7 solver.cpp:1] Iteration 0, Testing net (#0)
{0} 10:00:02.000000 7 solver.cpp:1]     Test net output #0: loss3/top-5 = 0.25
{0} 10:00:03.000000 7 solver.cpp:1] Iteration 0 (3 iter/s, 1s/5 iters), loss = 4
{0} 10:00:03.000000 7 solver.cpp:1]     Train net output #0: loss1/loss = 6 (* 0.3 = 1.8 loss)
{0} 10:00:03.000000 7 solver.cpp:1]     Train net output #1: loss3/loss = 2 (* 1 = 2 loss)
{0} 10:00:03.000000 7 sgd_solver.cpp:1] Iteration 0, lr = 0.5
{0} 10:00:13.000000 7 solver.cpp:1] Iteration 5, loss = nan
{0} 10:00:13.000000 7 sgd_solver.cpp:1] Iteration 5, lr = 0.25
{0} 10:00:23.000000 7 solver.cpp:1] Iteration 10, loss = inf
"""


def curves(logs, x="iterations"):
    """By panel and label: the points of the curves."""
    return {
        (panel.title, curve.label, curve.run): list(zip(curve.x.tolist(), curve.y.tolist(), strict=True))
        for panel in panels([parse_log(log) for log in logs], x)
        for curve in panel.curves
    }


def test_curves_of_a_recorded_run():
    assert curves([RECORDED]) == {
        (LOSS, "training", 0): [
            (0, 2.29606),
            (10, 1.24569),
            (20, 0.134196),
            (30, 0.0128464),
            (40, 0.00365707),
        ],
        (LOSS, "test", 0): [(0, 2.30304), (20, 0.143932), (40, 0.00462408)],
        (ACCURACY, "test", 0): [(0, 0.15625), (20, 1), (40, 1)],
        (RATE, "", 0): [(0, 0.05), (10, 0.0499625), (20, 0.0499251), (30, 0.0498878)],
    }


def test_several_runs():
    both = curves([RECORDED, RECORDED])
    assert len(both) == 8
    assert both[LOSS, "test", 1] == both[LOSS, "test", 0]


@pytest.mark.parametrize("prefix", ["I1123", "I20261123"])
def test_seconds_and_values_that_are_not_finite(prefix, tmp_path):
    path = tmp_path / "a.log"
    path.write_text(LINES.format(prefix))
    found = curves([path], "seconds")
    x, y = zip(*found[LOSS, "training", 0], strict=True)
    assert x == (3, 13, 23)
    assert y[0] == 4 and math.isnan(y[1]) and math.isnan(y[2])
    assert found[RATE, "", 0] == [(3, 0.5), (13, 0.25)]
    assert found[LOSS, "training loss1/loss", 0] == [(3, 6)]
    assert found[LOSS, "training loss3/loss", 0] == [(3, 2)]
    assert found[ACCURACY, "test", 0][0][1] == 0.25
    (loss,) = [panel for panel in panels([parse_log(path)], "iterations") if panel.title == LOSS]
    assert loss.curves[0].missing == 2


def test_a_run_that_goes_on_from_an_earlier_iteration_leaves_a_gap(tmp_path):
    path = tmp_path / "a.log"
    path.write_text(
        "".join(f"I1123 10:00:00.0 7 s.cpp:1] Iteration {i}, loss = {i}\n" for i in (0, 10, 20, 10, 20))
    )
    x, y = zip(*curves([path])[LOSS, "training", 0], strict=True)
    assert x == (0, 10, 20, 10, 10, 20)
    assert math.isnan(y[3]) and (*y[:3], *y[4:]) == (0, 10, 20, 10, 20)


@pytest.mark.parametrize(
    ("output", "panel"),
    [
        ("accuracy", ACCURACY),
        ("loss1/top-1", ACCURACY),
        ("accuracy_top5", ACCURACY),
        ("loss", LOSS),
        ("loss1/loss1", LOSS),
        ("cross_entropy_loss", LOSS),
        ("l2_error", LOSS),
        ("prob", OTHER),
    ],
)
def test_panels_by_name(output, panel):
    assert kind(output) == panel


@pytest.mark.parametrize(
    ("values", "wide"), [([1, 100], True), ([1, 2], False), ([0, 100], False), ([np.nan], False)]
)
def test_logarithmic_axes(values, wide):
    class Line:
        y = np.array(values, np.float64)

    assert is_wide([Line]) == wide


def test_names_of_runs():
    assert run_names(["a/x.log", "b/y.log"]) == ["x.log", "y.log"]
    assert run_names(["a/x.log", "b/x.log"]) == ["a/x.log", "b/x.log"]


@pytest.mark.parametrize("logs", [[RECORDED], [RECORDED, RECORDED]])
def test_png(logs, tmp_path):
    pytest.importorskip("matplotlib")
    path = plot_logs([str(log) for log in logs], str(tmp_path / "curves.png"))
    pixels = np.asarray(Image.open(path).convert("RGB"))
    assert pixels.shape[1] == 1200 and 1000 < pixels.shape[0] < 1400
    for color in ((0, 114, 178), (213, 94, 0)):  # both series' colours
        assert (np.abs(pixels.astype(int) - color).max(axis=2) < 40).sum() > 200


def test_command(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "bad.log").write_text(LINES.format("I1123"))
    result = run("caffe", "plot", "--x=seconds", "--output=a.svg", str(RECORDED), "bad.log", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, "Saved a.svg\n"), result.stderr
    text = (tmp_path / "a.svg").read_text()
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert "bad.log (2 not finite)" in text  # beside the outlines of its letters


def test_command_for_a_schedule(tmp_path):
    pytest.importorskip("matplotlib")
    solver = ROOT / "models/lenet/lenet_solver.prototxt"
    result = run("caffe", "plot", f"--solver={solver}", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, "Saved lenet_solver_learning_rate.png\n"), result.stderr
    assert Image.open(tmp_path / "lenet_solver_learning_rate.png").width == 1200


@pytest.mark.parametrize("arguments", [[], ["--solver=a.prototxt", "x.log"]])
def test_usage(arguments, tmp_path):
    result = run("caffe", "plot", *arguments, cwd=tmp_path)
    assert result.returncode == 1
    assert "usage: caffe plot" in result.stderr


@pytest.mark.parametrize(
    ("text", "x", "words"),
    [
        (None, "iterations", "a.log: No such file"),
        ("nothing\n", "iterations", "shows no iteration"),
        ("] Iteration 3, loss = 4\n", "seconds", "do not begin with a time"),
        ("] Iteration 3, loss = 4\n", "epochs", "--x=epochs: it is one of iterations, seconds"),
    ],
)
def test_refused(text, x, words, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    if text:
        (tmp_path / "a.log").write_text(text)
    with pytest.raises(FatalError, match=words):
        plot_logs(["a.log"], x=x)


def test_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(FatalError, match="pip install 'caffetools\\[plot\\]'"):
        plot_logs([str(RECORDED)], str(tmp_path / "x.png"))
