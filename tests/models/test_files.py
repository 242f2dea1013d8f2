"""The files of models/: readable, complete, as generated, and with the right figures in the readmes."""

from __future__ import annotations

import pytest

from caffetools import upgrade
from caffetools.tools import summary
from scripts import generate_models
from tests.models.zoo import MODELS, NETS, ROOT

FILES = generate_models.files()
PROTOTXTS = sorted(MODELS.glob("*/*.prototxt"))
SOLVERS = [path for path in PROTOTXTS if "solver" in path.name]
DEFINITIONS = [path for path in PROTOTXTS if path not in SOLVERS]


def name(path):
    return str(path.relative_to(MODELS))


def test_every_folder_has_a_net_that_is_known():
    assert {path.name for path in MODELS.iterdir() if path.is_dir()} == {net.folder for net in NETS}


@pytest.mark.parametrize("path", FILES)
def test_is_as_generated(path):
    assert (MODELS / path).read_text(encoding="utf-8") == FILES[path]


@pytest.mark.parametrize("net", NETS, ids=lambda net: net.folder)
def test_folder_is_complete(net):
    folder = MODELS / net.folder
    assert net.train_file.is_file()
    assert net.use_file.is_file()
    assert (folder / "readme.md").is_file()
    assert any(path.parent == folder for path in SOLVERS)


@pytest.mark.parametrize("path", DEFINITIONS, ids=name)
def test_net_is_read_without_an_upgrade(path, capsys):
    param = upgrade.read_net_text(path)
    assert param.name
    assert len(param.layer) > 3
    assert "upgrade" not in capsys.readouterr().err


@pytest.mark.parametrize("path", SOLVERS, ids=name)
def test_solver_is_read_and_its_net_is_there(path):
    solver = upgrade.read_solver(path)
    folder = path.parent.relative_to(ROOT)
    assert (ROOT / solver.net).parent == path.parent
    assert (ROOT / solver.net).is_file()
    assert solver.snapshot_prefix.startswith(f"{folder}/")
    assert solver.max_iter > 0
    assert len(solver.test_iter) == max(1, len(solver.test_state))


@pytest.mark.parametrize("path", SOLVERS, ids=name)
def test_solver_says_how_it_is_run(path):
    assert f"caffe train --solver={path.relative_to(ROOT)}" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("net", NETS, ids=lambda net: net.folder)
def test_readmes_have_the_figures(net):
    described = summary.summarize(summary.read(net.use_file, "TEST"), 1)
    parameters = f"{described.total('parameters'):,}"
    multiply_adds = f"{described.total('multiply_adds'):,}"
    own = (MODELS / net.folder / "readme.md").read_text(encoding="utf-8")
    assert parameters in own
    assert multiply_adds in own
    (row,) = [line for line in (MODELS / "readme.md").read_text().splitlines() if f"]({net.folder})" in line]
    assert row.endswith(f"| {parameters} | {multiply_adds} |")
    assert f"| {' x '.join(map(str, net.shape))} |" in row
    statistics = described.total("statistics")
    assert not statistics or f"{statistics:,}" in own
