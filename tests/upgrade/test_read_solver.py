"""Solver files: the old type enum, the snapshot prefix, and the loaders of nets beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format

from caffetools import upgrade
from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2

GOLDEN = Path(__file__).parents[1] / "golden" / "formats"


def solver_of(text: str) -> caffe_pb2.SolverParameter:
    return text_format.Parse(text, caffe_pb2.SolverParameter())


TYPES = [
    ("SGD", "SGD"),
    ("NESTEROV", "Nesterov"),
    ("ADAGRAD", "AdaGrad"),
    ("RMSPROP", "RMSProp"),
    ("ADADELTA", "AdaDelta"),
    ("ADAM", "Adam"),
]


@pytest.mark.parametrize(("old", "new"), TYPES)
def test_type(old, new, log):
    solver = solver_of(f"base_lr: 1 solver_type: {old}")
    assert upgrade.upgrade_solver(solver, "f") == solver_of(f'base_lr: 1 type: "{new}"')
    assert solver == solver_of(f"base_lr: 1 solver_type: {old}")
    assert log() == [
        "Attempting to upgrade input file specified using deprecated 'solver_type' field (enum)': f",
        "Successfully upgraded file specified using deprecated 'solver_type' field (enum) "
        "to 'type' field (string).",
        "Note that future Caffe releases will only support 'type' field (string) for a solver's type.",
    ]


def test_every_type_is_tested():
    assert {old for old, _ in TYPES} == set(caffe_pb2.SolverParameter.SolverType.keys())


def test_todays_solver_stays(log):
    solver = solver_of('type: "Adam"')
    assert upgrade.upgrade_solver(solver, "f") is solver
    assert log() == []


def test_both_types_are_refused():
    with pytest.raises(FatalError) as caught:
        upgrade.upgrade_solver(solver_of('solver_type: SGD type: "SGD"'), "f")
    assert str(caught.value) == (
        "Check failed: !param->has_solver_type() || !param->has_type() "
        "Failed to upgrade solver: old solver_type field (enum) and new type field (string) "
        "cannot be both specified in solver proto text."
    )


PREFIXES = [
    ("", "my.solver.prototxt", "my.solver", "was not specified and is set to my.solver"),
    ("", "models/s.prototxt", "models/s", "was not specified and is set to models/s"),
    ("", "models.d/solver", "models.d/solver", "was not specified and is set to models.d/solver"),
    (
        'snapshot_prefix: "snaps"',
        "models/s.prototxt",
        "snaps/s",
        "was a directory and is replaced to snaps/s",
    ),
    (
        'snapshot_prefix: "snaps/"',
        "models/s.prototxt",
        "snaps/s",
        "was a directory and is replaced to snaps/s",
    ),
    ('snapshot_prefix: "snaps/lenet"', "models/s.prototxt", "snaps/lenet", None),
    ('snapshot_prefix: ""', "models/s.prototxt", "", None),
]


@pytest.mark.parametrize(("text", "path", "prefix", "line"), PREFIXES)
def test_snapshot_prefix(text, path, prefix, line, tmp_path, monkeypatch, log):
    for folder in ("models", "models.d", "snaps"):
        (tmp_path / folder).mkdir()
    (tmp_path / path).write_text(text)
    monkeypatch.chdir(tmp_path)
    solver = upgrade.read_solver(path)
    assert solver.HasField("snapshot_prefix")
    assert solver.snapshot_prefix == prefix
    assert log() == ([f"snapshot_prefix {line}"] if line else [])


def test_read_solver_upgrades_before_it_sets_the_prefix(tmp_path, log):
    path = tmp_path / "s.prototxt"
    path.write_text("solver_type: ADAM")
    assert upgrade.read_solver(str(path)) == solver_of(f'type: "Adam" snapshot_prefix: "{tmp_path}/s"')
    assert [line.split()[0] for line in log()] == ["Attempting", "Successfully", "Note", "snapshot_prefix"]


@pytest.mark.parametrize("name", ["net.caffemodel", "net.binaryproto"])
def test_read_net_takes_weights_by_the_ending(name, tmp_path):
    old = text_format.Parse((GOLDEN / "v1.prototxt").read_text(), caffe_pb2.NetParameter())
    path = tmp_path / name
    path.write_bytes(old.SerializeToString())
    expected = text_format.Parse((GOLDEN / "v1_upgraded.prototxt").read_text(), caffe_pb2.NetParameter())
    assert upgrade.read_net(path) == expected
    assert upgrade.read_net_binary(str(path)) == expected


@pytest.mark.parametrize("name", ["net.prototxt", "net.txt", "net"])
def test_read_net_takes_all_else_as_text(name, tmp_path):
    path = tmp_path / name
    path.write_text((GOLDEN / "v1.prototxt").read_text())
    expected = text_format.Parse((GOLDEN / "v1_upgraded.prototxt").read_text(), caffe_pb2.NetParameter())
    assert upgrade.read_net(path) == expected
    assert upgrade.read_net_text(str(path)) == expected


@pytest.mark.parametrize(
    ("read", "kind"),
    [(upgrade.read_net_text, "NetParameter"), (upgrade.read_solver, "SolverParameter")],
)
def test_unknown_field_is_fatal(read, kind, tmp_path):
    path = tmp_path / "bad.prototxt"
    path.write_text("typo: 1")
    with pytest.raises(FatalError, match=f"Failed to parse {kind} file: {path}"):
        read(str(path))
