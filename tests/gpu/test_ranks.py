"""Training on two GPUs, in two processes: the numbers of one, signals, failures, exact resuming."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from caffetools.engine import devices, process_group
from caffetools.formats import binary, prototxt
from caffetools.formats import blob as blob_format
from caffetools.formats.db import open_db
from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2
from caffetools.tools import engines, reproduction, train
from tests.recorded import run_tool, tool_environment
from tests.solver.small_run import lay_out

pytestmark = [
    pytest.mark.skipif(bool(devices.why_no_gpu()) or devices.gpu_count() < 2, reason="fewer than two GPUs"),
    pytest.mark.skipif(sys.platform != "linux", reason="as NCCL, for Linux"),
]

NET = """
name: "Tiny"
layer { name: "mnist" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  transform_param { scale: 0.00390625 crop_size: CROP mirror: MIRROR }
  data_param { source: "mnist_train_lmdb" batch_size: BATCH backend: LMDB } }
layer { name: "mnist" type: "Data" top: "data" top: "label" include { phase: TEST }
  transform_param { scale: 0.00390625 crop_size: 6 }
  data_param { source: "mnist_t10k_lmdb" batch_size: 4 backend: LMDB } }
layer { name: "ip1" type: "InnerProduct" bottom: "data" top: "ip1"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }
MORE
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
  inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip2" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }
"""
SOLVER = 'net: "net.prototxt" base_lr: 0.2 momentum: 0.9 lr_policy: "fixed" snapshot_prefix: "s" solver_mode: GPU\n'
NO_EFFECTS = dict.fromkeys(("sigint_effect", "sighup_effect", "sigterm_effect"), "none")
RANDOM = {"MIRROR": "true", "MORE": 'layer { name: "d" type: "Dropout" bottom: "ip1" top: "ip1" }'}
PYTHON = 'layer { name: "p" type: "Python" bottom: "ip1" top: "ip1" python_param { module: "user" layer: "User" } }'
OUTPUT = (
    'layer { name: "o" type: "HDF5Output" bottom: "data" bottom: "label" hdf5_output_param { file_name: "out.h5" }'
    " include { phase: TRAIN } }"
)
USER = """
from multiprocessing import parent_process

class User:
    passes = 0

    def setup(self, bottom, top): pass
    def reshape(self, bottom, top): pass
    def forward(self, bottom, top):
        self.passes += 1
        if parent_process() and self.passes == 7:
            raise ValueError("broken")
    def backward(self, top, propagate_down, bottom): pass
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(solver: str, batch: int = 4, **parts: str) -> None:
    """Write the net, with parts of its text replaced, and the solver file."""
    text = NET
    for name, part in {"CROP": "6", "MIRROR": "false", "MORE": "", **parts, "BATCH": str(batch)}.items():
        text = text.replace(name, part)
    Path("net.prototxt").write_text(text)
    param = prototxt.parse(SOLVER, caffe_pb2.SolverParameter)
    param.MergeFrom(prototxt.parse(solver, caffe_pb2.SolverParameter))
    prototxt.write("solver.prototxt", param)


def weights(path: str) -> np.ndarray:
    """Return all parameters of a caffemodel in one array."""
    layers = binary.read(path, caffe_pb2.NetParameter).layer
    return np.concatenate([blob_format.to_array(blob).ravel() for layer in layers for blob in layer.blobs])


@pytest.mark.parametrize(
    ("gpu", "words"),
    [
        ("0,0", "--gpu=0,0 names GPU 0 more than once"),
        ("0,99", "--gpu=0,99: there is no GPU 99; this machine has "),
        ("0,x", "--gpu=0,x: a comma list of device numbers, or all, is expected"),
    ],
)
def test_devices_that_cannot_be_used_together(gpu, words):
    with pytest.raises(FatalError, match=words):
        engines.several(gpu)


def test_devices_that_are_named(monkeypatch):
    assert engines.several("all") == list(range(devices.gpu_count()))
    assert engines.several("1,0") == [1, 0]
    assert engines.several("1") == engines.several("") == []
    assert (engines.first("all"), engines.first("1,0")) == ("0", "1")
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(FatalError, match="several GPUs cannot be used: NCCL, which connects GPUs, is for Linux"):
        engines.several("0,1")


def on_two(group, arguments: dict):
    """Train in a group and return the parameters of all processes to rank 0."""
    training = train.train("solver.prototxt", gpu="0,1", group=group, **arguments)
    return group.gather((training.iter, training.net.flat_data.read_host().copy()))


def train_on_two(**arguments):
    group = process_group.start(["GPU 0", "GPU 1"], on_two, arguments)
    with group.guarded():
        return on_two(group, arguments)


@pytest.mark.parametrize(
    "settings",
    [
        "",
        pytest.param("iter_size: 2 clip_gradients: 0.1 layer_wise_reduce: false", marks=pytest.mark.slow),
        pytest.param("iter_size: 2 type: 'Adam' base_lr: 0.01", marks=pytest.mark.slow),
        pytest.param("precision: 'FLOAT16' loss_scale: 128", marks=pytest.mark.slow),
    ],
)
def test_two_batches_of_4_are_one_of_8(settings):
    settings = f"{settings} max_iter: 6 random_seed: 3"
    # Places of crops are random, and each process has random numbers of its own.
    write(settings, batch=8, CROP="0")
    train.train("solver.prototxt", gpu="0")
    expected = weights("s_iter_6.caffemodel")
    write(settings, batch=4, CROP="0")
    (_, mine), (_, other) = train_on_two()
    np.testing.assert_array_equal(mine, other)
    tolerance = {"rtol": 1e-2, "atol": 1e-3} if "FLOAT16" in settings else {"rtol": 1e-4, "atol": 1e-6}
    np.testing.assert_allclose(weights("s_iter_6.caffemodel"), expected, **tolerance)


@pytest.mark.slow
def test_a_run_in_two_halves_is_one_in_one_go(capfd):
    """With random numbers, tests between, and an average of the weights; without a seed, the snapshot keeps it."""
    settings = "snapshot: 3 test_iter: 2 test_interval: 2 ema_decay: 0.9 "
    write(settings + "max_iter: 6", **RANDOM)
    train.train("solver.prototxt", gpu="0,1")
    log = capfd.readouterr().err
    assert "Using GPUs 0, 1\n" in log
    assert log.count("Optimization Done.") == 2
    assert log.count("Snapshotting solver state") == 2
    expected = Path("s_iter_6.caffemodel").read_bytes()
    train.train("solver.prototxt", snapshot="s_iter_3.solverstate", gpu="0,1")
    assert Path("s_iter_6.caffemodel").read_bytes() == expected
    capfd.readouterr()
    train.train("solver.prototxt", snapshot="s_iter_3.solverstate", gpu="0")
    assert "s_iter_3.resume.json is of a run of 2 processes, 1 goes on: data starts from" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("early_stop: 'accuracy' early_stop_patience: 1 snapshot_best: 'loss' max_iter: 20", "Stopping early"),
        ("lr_policy: 'plateau' plateau_interval: 2 plateau_patience: 1 gamma: 0.1 max_iter: 9", "Plateau: "),
        ("time_limit: '1' max_iter: 100000", "The time limit of 1 is reached"),
    ],
    ids=["early stop", "plateau", "time limit"],
)
def test_rank_0_decides_for_all(settings, words, capfd):
    write(f"test_iter: 1 test_interval: 3 min_delta: 9 {settings}")
    (iteration, mine), (other_iteration, other) = train_on_two()
    assert words in capfd.readouterr().err
    assert iteration == other_iteration
    np.testing.assert_array_equal(mine, other)


def start(*flags: str) -> subprocess.Popen:
    """Start training in a process group of its own, as a terminal does; its log goes to log.txt."""
    command = [sys.executable, "-m", "caffetools.cli.caffe", "train", "--solver=solver.prototxt", "--gpu=0,1"]
    with open("log.txt", "w") as log:
        return subprocess.Popen([*command, *flags], env=tool_environment(), stderr=log, start_new_session=True)


def wait_for(words: str, seconds: float = 40) -> str:
    """Wait until the log has `words`; return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        log = Path("log.txt").read_text()
        if re.search(words, log):
            return log
        time.sleep(0.01)
    pytest.fail(f"{words!r} is not in\n{log[-2000:]}")


def processes_of(leader: int) -> list[int]:
    """Return the processes of a session that are still running."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = path.read_text().rsplit(")", 1)[1].split()[:4]
        except OSError:
            continue
        if int(session) == leader and state != "Z":
            found.append(int(path.parent.name))
    return found


def nobody_is_left(process) -> None:
    deadline = time.monotonic() + 30
    while processes_of(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(process.pid) == []


@pytest.mark.slow
def test_signals_of_a_terminal():
    """They reach all processes; there is one snapshot for SIGHUP, one for Ctrl-C, and then nobody is left."""
    write("max_iter: 1000000 display: 1 test_iter: 1 test_interval: 50")
    process = start()
    wait_for("Iteration 5 ")
    os.killpg(process.pid, signal.SIGHUP)
    wait_for("Snapshotting solver state")
    for _ in range(3):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.01)
    assert process.wait(60) == 0
    log = wait_for("Optimization stopped early.")
    assert log.count("Snapshotting solver state") == 2
    nobody_is_left(process)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_that_is_killed(killed):
    write("max_iter: 1000000 display: 1")
    process = start()
    wait_for("Iteration 5 ")
    (rank_1,) = [pid for pid in processes_of(process.pid) if "spawn_main" in _command(pid)]
    os.kill((process.pid, rank_1)[killed], signal.SIGKILL)
    assert process.wait(60) == (-signal.SIGKILL, 134)[killed]
    if killed:
        assert re.search(rf"\nF.*\] GPU 1: its process {rank_1} was killed by SIGKILL", wait_for(r"\nF"))
    nobody_is_left(process)


def _command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


@pytest.mark.slow
def test_python_layers_and_what_fails_in_one_of_the_others():
    write("max_iter: 1000000 display: 1", MORE=PYTHON)
    Path("user.py").write_text(USER)
    process = start()
    assert process.wait(60) == 134
    log = Path("log.txt").read_text()
    (line,) = re.findall(r"\n(F.*)", log)
    assert "GPU 1: Layer 'p' (class User of module user) failed in forward: ValueError: broken" in line
    assert "Iteration 5 " in log


@pytest.mark.slow
def test_what_all_fail_at_is_said_once():
    write("max_iter: 10")
    Path("net.prototxt").write_text(NET.replace("mnist_train_lmdb", "nowhere").replace("BATCH", "4"))
    process = start()
    assert process.wait(60) == 134
    assert len(re.findall(r"^F", Path("log.txt").read_text(), re.MULTILINE)) == 1


SCRIPT = """
import multiprocessing, sys
import caffe

def work(uid, rank, steps):
    caffe.init_log(0, True)
    caffe.set_device(rank)
    caffe.set_mode_gpu()
    caffe.set_solver_count(2)
    caffe.set_solver_rank(rank)
    caffe.set_multiprocess(True)
    solver = caffe.SGDSolver("solver.prototxt")
    nccl = caffe.NCCL(solver, uid)
    nccl.bcast()
    total, exchange = caffe.Timer(), caffe.Timer()
    solver.add_callback(total.start, exchange.start)
    solver.add_callback(nccl)
    solver.add_callback(lambda: None, exchange.stop)
    if solver.param.layer_wise_reduce:
        solver.net.after_backward(nccl)
    solver.step(steps - 2 * rank if "fail" in sys.argv else steps)
    if "fail" in sys.argv:
        raise ValueError("enough")
    if rank == 0:
        solver.snapshot()
    caffe.log(f"rank {rank}: {exchange.ms < 60000}")

if __name__ == "__main__":
    uid = caffe.NCCL.new_uid()
    assert caffe.has_nccl() and isinstance(uid, bytes)
    processes = [multiprocessing.Process(target=work, args=(uid, rank, 6)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    sys.exit(max(process.exitcode for process in processes))
"""


def run_script(*arguments: str) -> subprocess.CompletedProcess:
    Path("script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "caffetools.pycaffe", "script.py", *arguments]
    return subprocess.run(command, env=tool_environment(), capture_output=True, text=True, timeout=100)


@pytest.mark.slow
def test_a_script_for_the_original_that_starts_processes_itself():
    write("max_iter: 6 random_seed: 3 test_iter: 1 test_interval: 2", **RANDOM)
    train.train("solver.prototxt", gpu="0,1")
    expected = Path("s_iter_6.caffemodel").read_bytes()
    Path("s_iter_6.caffemodel").unlink()
    done = run_script()
    assert done.returncode == 0, done.stderr
    assert Path("s_iter_6.caffemodel").read_bytes() == expected
    assert done.stderr.count("Testing net") == 3
    assert done.stderr.count("Solver scaffolding done") == 1
    assert "rank 0: True" in done.stderr and "rank 1: True" in done.stderr


@pytest.mark.slow
def test_a_script_one_of_whose_processes_fails():
    write("max_iter: 6 random_seed: 3")
    done = run_script("fail")
    assert done.returncode == 134
    assert len(re.findall(r"^F.*\] rank 1: ValueError: enough$", done.stderr, re.MULTILINE)) == 1


@pytest.mark.slow
def test_each_reads_its_records_and_rank_0_writes():
    write("max_iter: 3 random_seed: 3", MORE=OUTPUT)
    train.train("solver.prototxt", gpu="0,1")
    with open_db("lmdb", "mnist_train_lmdb", "r") as database:
        labels = [caffe_pb2.Datum.FromString(value).label for _, value in database]
    assert written_labels() == (labels[::2] * 3)[:12]


def written_labels() -> list[float]:
    """Return the labels that the layer of OUTPUT has written."""
    with h5py.File("out.h5") as file:
        return file["label"][:].ravel().tolist()


@pytest.mark.slow
def test_a_run_is_reproduced():
    write("max_iter: 4 test_iter: 1 test_interval: 2", MIRROR="true", MORE=RANDOM["MORE"] + OUTPUT)
    train.train("solver.prototxt", gpu="0,1", metrics="run")
    assert reproduction.reproduce("run", **NO_EFFECTS) == 0


@pytest.mark.slow
def test_train_net():
    write("max_iter: 4 random_seed: 3 display: 2", MORE=OUTPUT)
    train.train("solver.prototxt", gpu="0,1")
    expected, labels = Path("s_iter_4.caffemodel").read_bytes(), written_labels()
    Path("s_iter_4.caffemodel").unlink()
    done = run_tool("train_net", "--solver", "solver.prototxt", "--gpus", "0", "1", "--timing", cwd=Path())
    assert done.returncode == 0, done.stderr
    assert Path("s_iter_4.caffemodel").read_bytes() == expected
    assert done.stderr.count("solver total: ") == 2
    assert written_labels() == labels
