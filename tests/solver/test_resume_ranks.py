"""Where processes that train together resume, all of them take up their parts of the side file, or none does."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import pytest

from caffetools.engine.cpu.rng import RandomSource
from caffetools.formats import prototxt
from caffetools.proto import caffe_pb2
from caffetools.solver import Solver
from tests.groups import connected, in_threads

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="as NCCL, for Linux")

SOLVER = """
base_lr: 0.1 lr_policy: "fixed" max_iter: 4 snapshot_prefix: "s" solver_mode: CPU
early_stop: "loss" early_stop_patience: 2 test_iter: 1 test_interval: 2
net_param {
  layer { name: "x" type: "DummyData" top: "x" top: "y"
    dummy_data_param { shape { dim: 2 dim: 3 } data_filler { type: "uniform" } } }
  layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 3 } }
  layer { name: "drop" type: "Dropout" bottom: "ip" top: "ip" }
  layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "y" top: "loss" }
}
"""
SIDE_FILE = Path("s_iter_0.resume.json")


def make(seed, **options):
    param = prototxt.parse(SOLVER, caffe_pb2.SolverParameter)
    return Solver(param, random=RandomSource(seed), **options)


def moment(solver):
    """Return what a side file may change."""
    states = [layer.get_state() for net in (solver.net, *solver.test_nets) for layer in net.layers]
    return copy.deepcopy([states, solver.random.seed, solver.control.get_state(), list(solver.losses)])


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """A side file of two processes, and what it says of the dropouts' next random numbers: those of both."""
    monkeypatch.chdir(tmp_path)
    make(seed=5).snapshot()
    data = json.loads(SIDE_FILE.read_text())
    data["losses"] = [0.25]
    data["train_net"]["drop"]["next_start"] = 100
    other = copy.deepcopy({name: data[name] for name in ("random", "train_net")})
    other["train_net"]["drop"]["next_start"], other["test_nets"] = 200, []
    data.update(ranks=2, others=[other])
    SIDE_FILE.write_text(json.dumps(data))
    return data


@pytest.fixture
def resume(saved):
    """A function that restores solvers of two ranks, and returns them and what they were before."""

    def call():
        with connected(2) as groups:
            solvers = [make(seed=7 + group.rank, group=group) for group in groups]
            before = [moment(solver) for solver in solvers]
            in_threads([lambda s=s: s.restore("s_iter_0.solverstate") for s in solvers])
        return solvers, before

    return call


def test_each_takes_up_its_part(resume, capfd):
    solvers, _ = resume()
    assert [solver.net.layers[2].next_start for solver in solvers] == [100, 200]
    assert [list(solver.losses) for solver in solvers] == [[0.25], [0.25]]
    assert "resuming without it" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data["others"][0]["train_net"].update(drop={"key": 1}), "rank 1: s_iter_0.resume.json cannot"),
        (lambda data: data["others"][0].pop("random"), "rank 1: s_iter_0.resume.json cannot"),
        (lambda data: data["train_net"].update(drop={"key": 1}), "] s_iter_0.resume.json cannot"),
        # Of which rank 0 alone has anything.
        (lambda data: data["control"].update(early_stop=3), "] s_iter_0.resume.json cannot"),
        (lambda data: data.update(iter=3), "] s_iter_0.resume.json belongs to another snapshot"),
    ],
    ids=["a layer of rank 1", "random numbers of rank 1", "a layer of rank 0", "decisions of rank 0", "all"],
)
def test_what_one_cannot_take_up_none_does(damage, words, saved, resume, capfd):
    damage(saved)
    SIDE_FILE.write_text(json.dumps(saved))
    solvers, before = resume()
    assert [moment(solver) for solver in solvers] == before
    log = capfd.readouterr().err
    assert words in log
    assert log.count("resuming without it, data starts from the beginning") == 1
