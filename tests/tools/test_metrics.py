"""The folder of `--metrics`: rows against the log and the solver, TensorBoard's own reader, kills, resumed runs."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from caffetools import upgrade
from caffetools.glog import FatalError, fatal
from caffetools.tools.event_file import EventFile
from caffetools.tools.line_file import LineFile
from caffetools.tools.metrics import Metrics
from caffetools.tools.run_folder import Origin, RunFolder
from caffetools.tools.train import train
from tests.recorded import run_tool, tool_environment
from tests.solver.small_run import Recorder, lay_out, make_solver, solver_param


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    write_solver()
    return tmp_path


def write_solver(more=""):
    Path("solver.prototxt").write_text(str(solver_param(more)))


def rows(name="m", kind=None):
    found = [json.loads(line) for line in Path(name, "metrics.jsonl").read_text().splitlines()]
    return [row for row in found if kind in (None, row["kind"])]


def table(name):
    with open(name, newline="") as file:
        return list(csv.DictReader(file))


def train_with_recorder(metrics="m", more="", resume=None, interval=1):
    """Train with metrics and return what the solver told beside them."""
    solver = make_solver(more)
    if resume:
        solver.restore(resume)
    recorder = Recorder()
    origin = Origin("solver.prototxt", resume or "", [solver_net()], "", bool(resume))
    metrics = Metrics(metrics, solver, origin, interval)
    solver.listeners += [recorder, metrics]
    solver.solve()
    solver.close()
    metrics.close("done")
    return recorder


def solver_net():
    return upgrade.read_net_text("net.prototxt")


def test_rows_are_what_the_solver_computes():
    recorder = train_with_recorder(more='max_iter: 20 lr_policy: "exp" gamma: 0.9 average_loss: 3')
    steps, tests = rows(kind="train"), rows(kind="test")
    assert [row["iteration"] for row in steps] == list(range(20))
    losses = [row["loss"] for row in steps]
    assert losses == list(recorder.losses.values())  # the same bits
    assert [row["outputs"]["loss"] for row in steps] == losses
    assert [np.float32(row["lr"]) for row in steps] == [np.float32(rate) for rate in recorder.rates.values()]
    assert [row["lr"] for row in steps] == pytest.approx([0.05 * 0.9**it for it in range(20)], rel=1e-5)
    assert [row["gradient_norm"] for row in steps] == list(recorder.norms.values())
    smoothed = [np.mean(losses[max(0, i - 2) : i + 1]) for i in range(20)]
    assert [row["smoothed_loss"] for row in steps] == pytest.approx(smoothed, rel=1e-12)
    assert all(row["images_per_second"] > 0 and 0 <= row["data_wait"] <= 1 for row in steps)
    assert [(row["iteration"], row["net"]) for row in tests] == list(recorder.tests)
    assert [row["outputs"] for row in tests] == list(recorder.tests.values())


def test_tables_hold_the_same():
    train_with_recorder(more="max_iter: 12")
    for name, kind in (("m/train.csv", "train"), ("m/test_0.csv", "test")):
        for mine, row in zip(table(name), rows(kind=kind), strict=True):
            for key, value in row.items():
                if key == "outputs":
                    assert {f"output.{k}": v for k, v in value.items()}.items() <= {
                        k: float(v) for k, v in mine.items()
                    }.items()
                elif key not in ("kind", "net"):
                    assert float(mine[key]) == value


def test_rows_are_what_the_log_shows():
    result = run_tool("caffe", "train", "--solver=solver.prototxt", "--metrics=m", "--set", "solver.display=1",
                      cwd=Path.cwd(), check=True)  # fmt: skip
    logged = re.findall(r"Iteration (\d+) \(.* iter/s.*\), loss = (\S+)", result.stderr)
    assert [(int(it), float(loss)) for it, loss in logged] == [
        (row["iteration"], float(f"{row['smoothed_loss']:g}")) for row in rows(kind="train")
    ]
    accuracies = re.findall(r"Test net output #0: accuracy = (\S+)", result.stderr)
    assert [float(text) for text in accuracies] == [
        float(f"{row['outputs']['accuracy']:g}") for row in rows(kind="test")
    ]
    assert "Metrics go to m" in result.stderr


def test_large_outputs_are_left_out(capfd):
    net = Path("net.prototxt").read_text()
    net += 'layer { name: "probabilities" type: "Softmax" bottom: "ip1" top: "prob" }'
    Path("net.prototxt").write_text(net)
    train_with_recorder(more="max_iter: 3")
    assert all(set(row["outputs"]) == {"loss"} for row in rows(kind="train"))
    # A test's batch is smaller: 8 times 10.
    assert len(rows(kind="test")[0]["outputs"]["prob"]) == 80
    assert "output.prob[79]" in table("m/test_0.csv")[0]
    assert "Output 'prob' of net train has 120 elements and is left out" in capfd.readouterr().err


def test_interval():
    recorder = train_with_recorder(more="max_iter: 20", interval=7)
    assert [row["iteration"] for row in rows(kind="train")] == [0, 7, 14]
    assert [row["iteration"] for row in rows(kind="test")] == [iteration for iteration, _ in recorder.tests]


def test_events_in_the_reader_of_tensorboard():
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train_with_recorder(more="max_iter: 12")
    reader = EventAccumulator("m", size_guidance={"scalars": 0})
    reader.Reload()
    for tag, kind, value in (
        ("train/loss", "train", lambda row: row["loss"]),
        ("train/lr", "train", lambda row: row["lr"]),
        ("train/gradient_norm", "train", lambda row: row["gradient_norm"]),
        ("train/output/loss", "train", lambda row: row["outputs"]["loss"]),
        ("test_0/output/accuracy", "test", lambda row: row["outputs"]["accuracy"]),
    ):
        expected = [(row["iteration"], np.float32(value(row))) for row in rows(kind=kind)]
        assert [(event.step, np.float32(event.value)) for event in reader.Scalars(tag)] == expected


def test_without_tensorboard(monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", None)
    monkeypatch.setattr("caffetools.glog.flags.v", 1)
    train_with_recorder(more="max_iter: 3")
    assert len(rows(kind="train")) == 3
    assert not list(Path("m").glob("events*"))
    assert "pip install tensorboard" in capfd.readouterr().err


def test_a_resumed_run_has_each_iteration_once():
    whole = train_with_recorder("whole", "snapshot: 10 max_iter: 30")
    for path in Path().glob("s_*"):
        path.unlink()
    train_with_recorder("m", "snapshot: 10 max_iter: 25")
    with open("m/metrics.jsonl", "a") as file:
        file.write('{"kind": "tr')  # what a power cut leaves
    train_with_recorder("m", "snapshot: 10 max_iter: 30", resume="s_iter_20.solverstate")
    assert {row["iteration"]: row["loss"] for row in rows(kind="train")} == whole.losses
    assert len(rows(kind="train")) == 30
    mine, theirs = ([(row["iteration"], row["outputs"]) for row in rows(name, "test")] for name in ("m", "whole"))
    assert mine == theirs
    for name in ("train.csv", "test_0.csv"):
        iterations = [row["iteration"] for row in table(f"m/{name}")]
        assert iterations == [row["iteration"] for row in table(f"whole/{name}")]
    record = json.loads(Path("m/run.json").read_text())
    assert [(start["first_iteration"], start["snapshot"]) for start in record["starts"]] == [
        (0, ""),
        (20, "s_iter_20.solverstate"),
    ]


def test_events_of_a_resumed_run_replace_those_of_before():
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train_with_recorder("m", "snapshot: 10 max_iter: 25")
    time.sleep(1.1)  # the names of event files, by which they are ordered, count seconds
    train_with_recorder("m", "snapshot: 10 max_iter: 30", resume="s_iter_20.solverstate")
    reader = EventAccumulator("m", size_guidance={"scalars": 0})
    reader.Reload()
    assert [event.step for event in reader.Scalars("train/loss")] == list(range(30))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full")
def test_events_on_a_full_disk_end_with_a_warning(tmp_path, capfd):
    pytest.importorskip("tensorboard")
    from tensorboard.summary.writer.record_writer import RecordWriter

    file = EventFile(tmp_path, 0)
    file.close()
    with open("/dev/full", "wb", buffering=0) as full:
        file._writer = RecordWriter(full)
        for iteration in range(2):
            file.write(iteration, 0.0, {"train/loss": 1.0})
    assert capfd.readouterr().err.count("No space left on device. The run goes on without it.") == 1


def test_a_record_that_cannot_be_ended_does_not_end_the_run(monkeypatch, capfd):
    write_solver("max_iter: 3")
    monkeypatch.setattr(RunFolder, "end", full_disk(RunFolder.end))
    assert train("solver.prototxt", metrics="m").iter == 3
    assert "No space left on device. How the run ended is not on record." in capfd.readouterr().err


def full_disk(method):
    """Let a method of RunFolder find a full disk."""

    def end(self, *arguments):
        def write():
            fatal(f"Cannot write {self.folder}/run.json: No space left on device")

        self._write = write
        method(self, *arguments)

    return end


def test_another_run_is_not_overwritten():
    train_with_recorder(more="max_iter: 3")
    before = Path("m/metrics.jsonl").read_bytes()
    with pytest.raises(FatalError, match="m has the metrics of another run: name another folder, or resume"):
        train_with_recorder(more="max_iter: 3")
    assert Path("m/metrics.jsonl").read_bytes() == before


def test_nothing_of_another_run_is_taken_back():
    train_with_recorder(more="max_iter: 3")
    before = Path("m/metrics.jsonl").read_bytes()
    write_solver('max_iter: 3 snapshot_prefix: "other"')
    with pytest.raises(FatalError, match=r"m has the metrics of another run, with snapshots .*/s_\*, .* iteration 0"):
        train("solver.prototxt", snapshot="auto", metrics="m")
    assert Path("m/metrics.jsonl").read_bytes() == before


def test_a_run_goes_on_where_its_folder_was_moved(folder, monkeypatch):
    write_solver("max_iter: 10 snapshot: 4 snapshot_after_train: false")
    train("solver.prototxt", metrics="m")
    moved = folder.rename(folder.with_name(f"{folder.name}_moved"))
    monkeypatch.chdir(moved)
    train("solver.prototxt", snapshot="auto", metrics="m")
    assert [row["iteration"] for row in rows(kind="train")] == list(range(10))


def test_a_second_stage_under_another_prefix_goes_on_in_the_same_folder():
    train_with_recorder(more="max_iter: 3")
    write_solver('max_iter: 5 snapshot_prefix: "second"')
    train("solver.prototxt", snapshot="s_iter_3.solverstate", metrics="m")
    assert [row["iteration"] for row in rows(kind="train")] == list(range(5))


def test_a_fresh_start_under_auto_begins_the_files_anew():
    write_solver("max_iter: 6 snapshot_after_train: false")
    for _ in range(2):
        train("solver.prototxt", snapshot="auto", metrics="m")
    assert [row["iteration"] for row in rows(kind="train")] == list(range(6))


def newest_snapshot():
    names = [path.name for path in Path().glob("s_iter_*.solverstate")]
    return max((int(name.split("_")[-1].split(".")[0]) for name in names), default=0)


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_kill_leaves_whole_lines_and_the_run_goes_on():
    write_solver("max_iter: 100000000 snapshot: 10 test_interval: 20")
    command = [sys.executable, "-m", "caffetools.cli.caffe", "train", "--solver=solver.prototxt", "--metrics=m"]
    command.append("--snapshot=auto")
    for _ in range(2):
        goal = newest_snapshot() + 30
        process = subprocess.Popen(command, env=tool_environment(), stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 250
        while newest_snapshot() < goal and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        text = Path("m/metrics.jsonl").read_text()
        assert text.endswith("\n")
        iterations = [row["iteration"] for row in rows(kind="train")]
        assert iterations == list(range(len(iterations)))
        assert len(iterations) >= goal
        for name in ("train.csv", "test_0.csv"):
            assert Path("m", name).read_text().endswith("\n")


def test_what_is_not_finite():
    train_with_recorder(more="base_lr: 1e30 max_iter: 5 stop_on_nan: false test_interval: 5")
    text = Path("m/metrics.jsonl").read_text()
    found = [json.loads(line, parse_constant=lambda word: pytest.fail(word)) for line in text.splitlines()]
    losses = [row["loss"] for row in found if row["kind"] == "train"]
    assert "NaN" in losses or "Infinity" in losses
    assert any(not math.isfinite(float(loss)) for loss in losses)


# The record


def test_solver_and_net_as_they_were_used():
    write_solver('max_iter: 3 type: "Nesterov"')
    changes = ["solver.base_lr=0.25", "net.layer[conv1].convolution_param.num_output=5"]
    solver = train("solver.prototxt", metrics="m", changes=changes, settings={"ema_decay": 0.5}, stage="a,b", level=2)
    param = upgrade.read_solver("m/solver.prototxt")
    assert param.net == "m/net.prototxt"
    assert (param.base_lr, param.ema_decay, param.type) == (0.25, 0.5, "Nesterov")
    assert (param.train_state.level, list(param.train_state.stage)) == (2, ["a", "b"])
    net = upgrade.read_net_text("m/net.prototxt")
    expected = solver_net()
    expected.layer[2].convolution_param.num_output = 5
    assert net == expected
    assert solver.net.layer_by_name["conv1"].blobs[0].shape[0] == 5


def test_several_nets():
    text = Path("net.prototxt").read_text()
    Path("test.prototxt").write_text(text.replace('name: "Small"', 'name: "Tested"'))
    param = solver_param("max_iter: 3")
    param.ClearField("net")
    param.train_net, param.test_net[:] = "net.prototxt", ["test.prototxt"]
    Path("solver.prototxt").write_text(str(param))
    train("solver.prototxt", metrics="m")
    kept = upgrade.read_solver("m/solver.prototxt")
    assert (kept.train_net, list(kept.test_net)) == ("m/train_net.prototxt", ["m/test_net_0.prototxt"])
    assert upgrade.read_net_text("m/test_net_0.prototxt").name == "Tested"


def test_versions_seed_and_machine():
    write_solver("max_iter: 3")
    run_tool("caffe", "train", "--solver=solver.prototxt", "--metrics=m", cwd=Path.cwd(), check=True)
    start = json.loads(Path("m/run.json").read_text())["starts"][0]
    assert start["command"][1:] == ["train", "--solver=solver.prototxt", "--metrics=m"]
    assert start["folder"] == os.getcwd()
    assert (start["seed"], start["first_iteration"], start["iterations"], start["outcome"]) == (7, 0, 3, "done")
    assert start["packages"]["numpy"] == np.__version__
    assert start["packages"]["python"] == sys.version.split()[0]
    assert start["machine"]["cores"] == os.cpu_count()
    root = Path(__file__).parents[2]
    if (root / ".git").exists():
        head = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True)
        if head.returncode == 0:
            assert start["commit"].rstrip("+") == head.stdout.strip()


def test_seed_of_a_run_without_one():
    write_solver("max_iter: 2 random_seed: -1")
    solver = train("solver.prototxt", metrics="m")
    assert json.loads(Path("m/run.json").read_text())["starts"][0]["seed"] == solver.random.seed > 0


def test_a_failed_run_says_so():
    write_solver("max_iter: 50 base_lr: 1e30")
    with pytest.raises(FatalError, match="the loss is"):
        train("solver.prototxt", metrics="m")
    assert json.loads(Path("m/run.json").read_text())["starts"][0]["outcome"] == "failed"


# Files of lines


def test_a_cut_line_goes_and_the_rest_stays(tmp_path):
    path = tmp_path / "lines"
    path.write_text("1\n2\n3\n4")
    file = LineFile(path, lambda line: int(line) < 3)
    file.write("5")
    file.close()
    assert path.read_text() == "1\n2\n5\n"


def test_a_full_disk_ends_the_file_and_not_the_run(tmp_path, monkeypatch, capfd):
    path = tmp_path / "lines"
    file = LineFile(path)
    file.write("first")
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:3]))
    file.write("second")
    monkeypatch.undo()
    file.write("third")
    assert path.read_text() == "first\n"
    assert capfd.readouterr().err.count("No space left on device. The run goes on without it.") == 1


def test_a_folder_that_cannot_be_made():
    Path("m").write_text("a file")
    write_solver("max_iter: 2")
    with pytest.raises(FatalError, match="Cannot make the folder m: File exists"):
        train("solver.prototxt", metrics="m")
