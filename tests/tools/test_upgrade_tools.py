"""The three upgrade tools: files, log and exit status."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.protobuf import text_format

from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2
from caffetools.tools import upgrade

GOLDEN = Path(__file__).parents[1] / "golden" / "formats"
TOOLS = [upgrade.upgrade_net_text, upgrade.upgrade_net_binary, upgrade.upgrade_solver_text]


@pytest.fixture
def log(capsys):
    """A function that returns severity and text of the lines logged since its last call."""

    def lines() -> list[tuple[str, str]]:
        return re.findall(r"^([IWE])\S+ .*?\] (.*)$", capsys.readouterr().err, re.MULTILINE)

    return lines


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["v0", "v1"])
def test_as_recorded(name, log):
    source, target = f"{name}.prototxt", f"{name}_upgraded.prototxt"
    Path(source).write_bytes((GOLDEN / source).read_bytes())
    assert upgrade.upgrade_net_text(source, target) == 0
    recorded = (GOLDEN / f"log_upgrade_{name}.txt").read_text()
    assert log() == re.findall(r"^([IWE])\d\S+ .*?\] (.*)$", recorded, re.MULTILINE)
    assert Path(target).read_bytes() == (GOLDEN / target).read_bytes()


def test_binary_net(log):
    old = text_format.Parse((GOLDEN / "v0.prototxt").read_text(), caffe_pb2.NetParameter())
    old.layers[1].layer.blobs.add(data=[1, 2])
    Path("old").write_bytes(old.SerializeToString())
    assert upgrade.upgrade_net_binary("old", "new") == 0
    new = caffe_pb2.NetParameter.FromString(Path("new").read_bytes())
    assert list(new.layer[1].blobs[0].data) == [1, 2]
    del new.layer[1].blobs[:]
    assert new == text_format.Parse((GOLDEN / "v0_upgraded.prototxt").read_text(), caffe_pb2.NetParameter())
    assert log()[-1] == ("I", "Wrote upgraded NetParameter binary proto to new")


def test_solver(log):
    Path("old").write_text("net: 'n' solver_type: RMSPROP")
    assert upgrade.upgrade_solver_text("old", "new") == 0
    assert Path("new").read_text() == 'net: "n"\ntype: "RMSProp"\n'
    assert log()[-1] == ("I", "Wrote upgraded SolverParameter text proto to new")


CURRENT = [
    (upgrade.upgrade_net_text, b'name: "n"', b'name: "n"\n', "NetParameter text"),
    (upgrade.upgrade_net_binary, b"\n\1n", b"\n\1n", "NetParameter binary"),
    (upgrade.upgrade_solver_text, b'type: "Adam"', b'type: "Adam"\n', "SolverParameter text"),
]


@pytest.mark.parametrize(("tool", "old", "new", "kind"), CURRENT)
def test_a_file_in_todays_form_is_written_all_the_same(tool, old, new, kind, log):
    Path("old").write_bytes(old)
    assert tool("old", "new") == 0
    assert Path("new").read_bytes() == new
    assert log() == [
        ("E", "File already in latest proto format: old"),
        ("I", f"Wrote upgraded {kind} proto to new"),
    ]


def test_what_cannot_be_carried_over_is_status_1(log):
    Path("old").write_text('layers { layer { name: "l" type: "relu" pad: 2 } }')
    assert upgrade.upgrade_net_text("old", "new") == 1
    assert Path("new").read_text() == 'layer {\n  name: "l"\n  type: "ReLU"\n}\n'
    lines = log()
    assert lines[1] == ("E", "Unknown parameter pad for layer type relu")
    assert lines[-2:] == [
        ("E", "Encountered error(s) while upgrading prototxt; see details above."),
        ("I", "Wrote upgraded NetParameter text proto to new"),
    ]


UNREADABLE = [
    (upgrade.upgrade_net_text, b"layer { typo: 1 }", "text file as NetParameter", "typo"),
    (upgrade.upgrade_net_binary, b"layer { name: 'a' }", "binary file as NetParameter", ""),
    (upgrade.upgrade_solver_text, b"base_lr: fast", "text file as SolverParameter", "base_lr"),
]


@pytest.mark.parametrize(("tool", "data", "words", "reason"), UNREADABLE)
def test_what_cannot_be_read_is_status_2(tool, data, words, reason, log):
    Path("old").write_bytes(data)
    assert tool("old", "new") == 2
    assert not Path("new").exists()
    severity, text = log()[-1]
    assert severity == "E"
    assert text.startswith(f"Failed to parse input {words}: old")
    assert reason in text


@pytest.mark.parametrize("tool", TOOLS)
def test_a_missing_file_is_fatal(tool):
    with pytest.raises(FatalError, match="File not found: old"):
        tool("old", "new")


@pytest.mark.parametrize("tool", TOOLS)
def test_a_file_may_be_rewritten_in_place(tool):
    Path("net").write_bytes(b"")
    assert tool("net", "net") == 0
    assert Path("net").read_bytes() == b""
