"""The command lines of docs/performance.md run as they stand; they take minutes, as benchmarks do."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.recorded import tool_environment

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
#: `make bench` and its kin run the same programs.
LINES = sorted(set(re.findall(r"^    ((?:python|caffe warm)(?: .*?)?)(?: +#.*)?$", TEXT, re.MULTILINE)))


def test_there_are_lines():
    assert len(LINES) >= 6


@pytest.mark.slow
@pytest.mark.parametrize("line", LINES)
def test_benchmark(line):
    pytest.importorskip("torch")
    program, *arguments = shlex.split(line)
    start = [] if program == "python" else ["-m", "caffetools.cli.caffe"]
    command, env = [sys.executable, *start, *arguments], tool_environment()
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=1800)
    assert result.returncode == 0, result.stderr
    assert re.search(r"\d", result.stdout + result.stderr)
