"""The command lines of README.md, in their order, in a small copy of the checkout that trains for a few iterations."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.docs.test_commands import commands
from tests.recorded import FORMATS, run_tool

ROOT = Path(__file__).parents[2]
#: These fetch or build what the fixture lays out, or are the whole of it; each has tests of its own.
ELSEWHERE = ("make", "data/mnist/get_mnist.sh", "scripts/create_mnist.sh")
LINES = [line for line in commands(ROOT / "README.md") if not line.startswith(ELSEWHERE)]
SMALLER = {"test_iter": 1, "test_interval": 10, "max_iter": 20, "display": 10, "snapshot": 10}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A folder with models/lenet, its databases, and the snapshots that the page speaks of."""
    folder = tmp_path_factory.mktemp("checkout")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEST_TMPDIR", str(folder))  # where logs go without --log_dir
        yield lay_out(folder)


def lay_out(folder):
    lenet = shutil.copytree(ROOT / "models" / "lenet", folder / "models" / "lenet", ignore=left)
    for ours, recorded in (("mnist_train_lmdb", "mnist_train_lmdb"), ("mnist_test_lmdb", "mnist_t10k_lmdb")):
        shutil.copytree(FORMATS / recorded, lenet / ours)
    solver = lenet / "lenet_solver.prototxt"
    text = solver.read_text()
    for name, value in SMALLER.items():
        text, count = re.subn(rf"(?m)^{name}: \d+$", f"{name}: {value}", text)
        assert count == 1, name
    solver.write_text(text)
    run_tool("caffe", "train", "--solver=models/lenet/lenet_solver.prototxt", cwd=folder, check=True)
    for done, shown in ((10, 5000), (20, 10000)):
        for path in lenet.glob(f"lenet_iter_{done}.*"):
            path.rename(path.with_name(path.name.replace(f"_{done}.", f"_{shown}.")))
    return folder


def left(folder, names):
    """What is not copied: what a run may have left in the checkout."""
    return [name for name in names if not name.endswith(".prototxt")]


def test_there_are_lines():
    assert len(LINES) >= 14


@pytest.mark.slow
@pytest.mark.parametrize("line", LINES)
def test_line(checkout, line):
    pytest.importorskip("matplotlib")
    program, *arguments = shlex.split(line.replace("/tmp/", f"{checkout}/"))
    result = run_tool(program, *arguments, cwd=checkout)
    assert result.returncode == 0, result.stderr
