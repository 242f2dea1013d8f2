"""What a solver refuses before the first iteration, and what it tidies up: prefixes of snapshots, sizes of steps."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from caffetools.formats import prototxt
from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2
from caffetools.solver import Solver

NET = 'net_param { layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 } } } } lr_policy: "fixed" '


def make_solver(text):
    return Solver(prototxt.parse(NET + text, caffe_pb2.SolverParameter))


@pytest.mark.parametrize("when", ["snapshot: 5", "snapshot: 0"])
def test_unwritable_prefix(tmp_path, when):
    words = r"Cannot write to snapshot prefix '.*no/s'\.  Make sure that the directory exists and is writable\."
    with pytest.raises(FatalError, match=words):
        make_solver(f'{when} snapshot_prefix: "{tmp_path}/no/s"')


def test_prefix_that_is_never_used(tmp_path):
    make_solver(f'snapshot_after_train: false snapshot_prefix: "{tmp_path}/no/s"')


def test_missing_prefix():
    with pytest.raises(FatalError, match="In solver params, snapshot is specified but snapshot_prefix is not"):
        make_solver("snapshot: 5")


def test_probe_leaves_nothing(tmp_path):
    make_solver(f'snapshot: 5 snapshot_prefix: "{tmp_path}/s"')
    assert not list(tmp_path.iterdir())


def test_old_temporary_files_go(tmp_path):
    names = {
        ".s_iter_5.caffemodel.0a1b.tmp": 3600,
        ".s_iter_6.solverstate.2c3d.tmp": 1,
        ".other_iter_5.caffemodel.9f.tmp": 3600,
    }
    for name, age in names.items():
        path = Path(tmp_path, name)
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age,) * 2)
    make_solver(f'snapshot: 5 snapshot_prefix: "{tmp_path}/s"')
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(list(names)[1:])


def test_a_step_has_batches():
    with pytest.raises(FatalError, match=r"iter_size counts the batches of a step\."):
        make_solver("iter_size: 0 snapshot_after_train: false")
