"""Every command line of the documentation runs as it stands, in the order of its page."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.recorded import run_tool, tool_environment
from tests.solver.small_run import lay_out, solver_param

ROOT = Path(__file__).parents[2]
#: These have tests of their own, with other files.
ELSEWHERE = {"data.md", "performance.md", "run_control.md"}
PAGES = sorted(path for path in (ROOT / "docs").glob("*.md") if path.name not in ELSEWHERE)
DEPLOY = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 24 dim: 24 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 6 kernel_size: 5 stride: 2 } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "ip1" type: "InnerProduct" bottom: "conv1" top: "ip1" inner_product_param { num_output: 10 } }
"""


def commands(page: Path) -> list[str]:
    """Return the lines of a page's blocks of shell."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [line.split(" #")[0].strip() for line in joined.splitlines() if line.strip()]


LINES = [(page.name, line) for page in PAGES for line in commands(page)]


def cases():
    """Yield the lines as cases of a test; those of a command that an earlier line has tried are slow ones.

    Weights that are exported and imported are a command of their own, since one line needs what the other wrote.
    """
    tried = set()
    for page, line in LINES:
        command = (*line.split()[:2], "safetensors" in line)
        yield pytest.param(page, line, id=f"{page}: {line}"[:70], marks=[pytest.mark.slow] if command in tried else [])
        tried.add(command)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a net, its solver, and a snapshot."""
    folder = tmp_path_factory.mktemp("docs")
    lay_out(folder)
    (folder / "solver.prototxt").write_text(str(solver_param("max_iter: 10 display: 5 snapshot: 10")))
    (folder / "deploy.prototxt").write_text(DEPLOY)
    run_tool("caffe", "train", "--solver=solver.prototxt", cwd=folder, check=True)
    pixels = np.random.default_rng(0).integers(0, 256, (160, 200, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "picture.png")
    (folder / "scripts").symlink_to(ROOT / "scripts")
    return folder


def test_there_are_lines():
    assert len(LINES) >= 25


@pytest.mark.parametrize(("page", "line"), list(cases()))
def test_line(folder, page, line):
    if "export" in line or "import" in line:
        pytest.importorskip("onnx")
        pytest.importorskip("safetensors")
    program, *arguments = shlex.split(line)
    if program == "python":
        command, env = [sys.executable, *arguments], tool_environment()
        result = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr
        return
    if program == "parse_log" and not (folder / "caffe.INFO").exists():
        run_tool("caffe", "train", "--solver=solver.prototxt", "--log_dir=.", cwd=folder, check=True)
    result = run_tool(program, *arguments, cwd=folder)
    assert result.returncode == 0, result.stderr
