"""What the module offers beside nets and solvers: modes, seeds, layer types, log lines."""

from __future__ import annotations

import re
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

import caffetools.pycaffe as caffe
from caffetools.engine import devices
from caffetools.proto.forks import is_of_a_fork
from tests.pycaffe.conftest import DEPLOY
from tests.recorded import tool_environment

# What `import caffe` offered.
NAMES = """
    Net SGDSolver NesterovSolver AdaGradSolver RMSPropSolver AdaDeltaSolver AdamSolver get_solver init_log log
    set_mode_cpu set_mode_gpu set_device set_random_seed layer_type_list Layer TRAIN TEST __version__
    NCCL Timer solver_count set_solver_count solver_rank set_solver_rank set_multiprocess has_nccl
    Classifier Detector io layers params NetSpec to_proto net_spec draw coord_map proto
"""


@pytest.mark.parametrize("name", NAMES.split())
def test_name(name):
    assert hasattr(caffe, name)


def test_phases():
    assert (caffe.TRAIN, caffe.TEST) == (0, 1)


def test_layer_types():
    types = caffe.layer_type_list()
    originals = [kind for kind in types if not is_of_a_fork(kind)]
    assert len(types) == len(set(types))
    assert len(originals) == 61
    assert {"Data", "Convolution", "Python", "LSTM", "SoftmaxWithLoss"} <= set(types)


def test_fatal_errors_are_runtime_errors():
    assert issubclass(caffe.FatalError, RuntimeError)


def test_cpu_is_always_there():
    assert caffe.set_mode_cpu() is None


@pytest.mark.parametrize("switch", [caffe.set_mode_gpu, lambda: caffe.set_device(0)])
def test_gpu_is_refused_with_the_reason(switch, monkeypatch):
    monkeypatch.setattr(devices, "CUDA_DRIVER", "libno-such-driver.so")
    with pytest.raises(RuntimeError, match="Cannot use GPU.*libno-such-driver.so cannot be loaded"):
        switch()


@pytest.mark.parametrize("pointer", ["_gpu_data_ptr", "_gpu_diff_ptr"])
def test_addresses_on_a_gpu_are_refused(pointer, deploy):
    with pytest.raises(RuntimeError, match=f"The {pointer[5:9]} of a blob has no address on a GPU: "):
        getattr(deploy.blobs["data"], pointer)


@pytest.mark.parametrize("call", [caffe.NCCL.new_uid, lambda: caffe.NCCL(None, b"uid")])
def test_nccl_is_refused(call):
    assert not caffe.has_nccl()
    with pytest.raises(RuntimeError, match="Cannot use NCCL: "):
        call()


def test_timer():
    timer = caffe.Timer()
    assert timer.ms == 0
    timer.start()
    time.sleep(0.02)
    timer.stop()
    first = timer.ms
    assert first >= 20 and timer.ms == first
    timer.start()
    assert 0 <= timer.ms < timer.ms


class TestSeveralProcesses:
    @pytest.fixture(autouse=True)
    def alone_again(self):
        yield
        caffe.set_solver_rank(0)
        caffe.set_solver_count(1)

    def test_alone(self):
        assert (caffe.solver_rank(), caffe.solver_count()) == (0, 1)

    @pytest.fixture
    def files(self, write):
        with h5py.File("d.h5", "w") as file:
            file["x"] = np.arange(12, dtype=np.float32).reshape(12, 1)
        write("d.h5\n", "list.txt")
        write("""
            layer {
              type: "HDF5Data" name: "x" top: "x" hdf5_data_param { source: "list.txt" batch_size: 2 }
            }
            layer { type: "InnerProduct" name: "ip" bottom: "x" top: "ip" inner_product_param { num_output: 1 } }
            layer { type: "Reduction" name: "loss" bottom: "ip" top: "loss" loss_weight: 1 }
        """)
        write('net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed"', "solver.prototxt")

    @pytest.mark.parametrize("rank", range(3))
    def test_each_reads_its_own_records(self, files, rank):
        caffe.set_multiprocess(True)
        caffe.set_solver_count(3)
        caffe.set_solver_rank(rank)
        nets = [caffe.get_solver("solver.prototxt").net, caffe.Net("net.prototxt", caffe.TRAIN)]
        for net in nets:
            seen = [value for _ in range(2) for value in net.forward(end="x")["x"].ravel().tolist()]
            assert seen == [rank, rank + 3, rank + 6, rank + 9]

    @pytest.mark.parametrize(
        ("call", "words"),
        [
            (lambda: caffe.set_solver_count(0), "solver_count >= 1 .0 vs. 1."),
            (lambda: caffe.set_solver_rank(-1), "solver_rank >= 0 .-1 vs. 0."),
        ],
    )
    def test_refusals(self, call, words):
        with pytest.raises(RuntimeError, match=words):
            call()

    def test_rank_that_is_too_large(self, files):
        caffe.set_solver_rank(2)
        with pytest.raises(RuntimeError, match="the solver rank 2 of 1: call set_solver_count"):
            caffe.get_solver("solver.prototxt")


class TestRandomSeed:
    @staticmethod
    def weights(seed):
        caffe.set_random_seed(seed)
        return [caffe.Net("net.prototxt", caffe.TRAIN).params["ip"][0].data.copy() for _ in range(2)]

    def test_same_seed(self, write):
        write(DEPLOY)
        for mine, other in zip(self.weights(3), self.weights(3), strict=True):
            np.testing.assert_array_equal(mine, other)

    def test_another_seed(self, write):
        write(DEPLOY)
        assert (self.weights(3)[0] != self.weights(4)[0]).all()

    def test_nets_differ_from_each_other(self, write):
        write(DEPLOY)
        first, second = self.weights(3)
        assert (first != second).all()

    def test_solvers_without_a_seed_of_their_own(self, write):
        loss = 'layer { type: "Reduction" name: "loss" bottom: "ip" top: "loss" loss_weight: 1 }'
        write(DEPLOY + loss)
        write('net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed"', "solver.prototxt")

        def weights():
            caffe.set_random_seed(8)
            return caffe.SGDSolver("solver.prototxt").net.params["ip"][0].data.copy()

        np.testing.assert_array_equal(weights(), weights())


def run(script, folder):
    """Run a script as a user does; return its standard error."""
    (folder / "script.py").write_text(f"import caffetools.pycaffe as caffe\n{script}\n")
    command = [sys.executable, "script.py"]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**tool_environment(), "GLOG_log_dir": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


class TestLog:
    def test_before_init_log(self, tmp_path):
        warning, line = run("caffe.log('hello')", tmp_path).splitlines()
        assert warning == "WARNING: Logging before InitGoogleLogging() is written to STDERR"
        assert re.fullmatch(r"I\d{4} [\d:.]+ +\d+ script.py:2\] hello", line)

    def test_level_and_stderr(self, tmp_path):
        assert run("caffe.init_log(1, True)\ncaffe.log('hello')", tmp_path) == ""
        assert run("caffe.init_log(0, True)\ncaffe.log('hello')", tmp_path).endswith("script.py:3] hello\n")

    def test_log_files(self, tmp_path):
        assert run("caffe.init_log()\ncaffe.log('hello')", tmp_path) == ""
        (file,) = (path for path in tmp_path.glob("script.py.*.log.INFO.*") if not path.is_symlink())
        assert file.read_text().endswith("script.py:3] hello\n")
