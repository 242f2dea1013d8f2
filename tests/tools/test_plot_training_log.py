"""plot_training_log: the eight charts of a recorded log."""

from __future__ import annotations

import pytest

from caffetools.cli import plot_training_log as program
from caffetools.glog import FatalError
from caffetools.tools.plot_training_log import describe_charts, plot
from tests.recorded import FORMATS, run_tool

pytest.importorskip("matplotlib")

LOG = str(FORMATS / "log_train.txt")
LOSS = {0: 2.30304, 20: 0.143932, 40: 0.00462408}
TRAIN_LOSS = [(0, 2.29606), (10, 1.24569), (20, 0.134196), (30, 0.0128464), (40, 0.00365707)]


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn: panels, the label of the axis, and the runs' names."""
    from caffetools.pictures import curves

    calls = []
    draw = curves.draw
    monkeypatch.setattr(curves, "draw", lambda *args: (calls.append(args), draw(*args))[1])
    return calls


@pytest.mark.parametrize(
    ("number", "title", "points"),
    [
        (0, "Test accuracy vs. iterations", [(0, 0.15625), (20, 1), (40, 1)]),
        (2, "Test loss vs. iterations", list(LOSS.items())),
        (
            4,
            "Train learning rate vs. iterations",
            [(0, 0.05), (10, 0.0499625), (20, 0.0499251), (30, 0.0498878)],
        ),
        (6, "Train loss vs. iterations", TRAIN_LOSS),
    ],
)
def test_charts(number, title, points, tmp_path, drawn):
    for offset, (axis, form) in enumerate([("iterations", "png"), ("seconds", "svg")]):
        picture = tmp_path / f"chart.{form}"
        plot(number + offset, str(picture), [LOG])
        assert picture.stat().st_size > 5000
        ((panel,), label, _), *_ = drawn[-1:]
        assert panel.title == title.replace("iterations", axis)
        assert label == {"iterations": "iteration", "seconds": "seconds of training"}[axis]
        (curve,) = panel.curves
        assert curve.y.tolist() == [value for _, value in points]
        if axis == "iterations":
            assert curve.x.tolist() == [iteration for iteration, _ in points]
        else:
            assert (curve.x >= 0).all() and (curve.x < 0.02).all() and sorted(curve.x) == curve.x.tolist()


def test_several_logs(tmp_path, drawn):
    plot(0, str(tmp_path / "a.png"), [LOG, str(FORMATS / "log_train_finetune.txt")])
    ((panel,), _, names), *_ = drawn
    assert names == ["log_train.txt", "log_train_finetune.txt"]
    assert [curve.run for curve in panel.curves] == [0, 1]


@pytest.mark.parametrize(
    ("number", "picture", "log", "message"),
    [
        (8, "a.png", LOG, "There is no chart 8. The charts are\n0: Test accuracy vs. Iterations"),
        (0, "a.jpg", LOG, "a.jpg: the name of a picture ends in .png or .svg"),
        (0, "a.png", "nowhere", "Cannot read the log nowhere"),
        (0, "a.png", "own.log", "There is no test accuracy in own.log"),
        (7, "a.png", "untimed.log", "the lines of untimed.log do not begin with a time"),
    ],
)
def test_mistakes(number, picture, log, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.log").write_text("I1123 19:39:09.5 2 s.py:9] Iteration 1, loss = 2\n")
    (tmp_path / "untimed.log").write_text("s.py] Iteration 1, loss = 2\n")
    with pytest.raises(FatalError, match=message):
        plot(number, picture, [log])
    assert not list(tmp_path.glob("a.*"))


def test_command(tmp_path):
    result = run_tool("plot_training_log", "6", "loss.svg", LOG, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, "Saved loss.svg\n")
    for arguments in ([], ["6", "loss.png"], ["loss", "loss.png", LOG]):
        assert run_tool("plot_training_log", *arguments, cwd=tmp_path).returncode == 1


def test_usage_names_the_charts():
    assert all(line in program.command.usage for line in describe_charts())
