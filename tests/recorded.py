"""Reading the recordings in tests/golden: logs of the original's tools, and running ours in the same way."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"
FORMATS = GOLDEN / "formats"

# Severity, date with or without the year, time, thread, source.
PREFIX = re.compile(r"^([IWEF])(?:\d{8}|\d{4}) \d\d:\d\d:\d\d\.\d{6} +\d+ [^\s:\]]+:\d+\] ?")
SPEED = re.compile(r"\(\S+ iter/s, \S+s/(\d+) iters\)")
MILLISECONDS = re.compile(r"\S+ ms\.")
NUMBER = re.compile(r"(?<![\w.])-?(?:\d+\.?\d*(?:e[+-]?\d+)?|nan|inf)(?![\w.])")

# Lines whose place depends on the speed of the prefetch threads, and what a C++ abort adds.
PASSING = ("Restarting data prefetching from start.", "Waiting for data")
ABORT = ("*** Check failure stack trace: ***", "Aborted")


def recorded_log(name: str) -> tuple[list[str], int, str, str]:
    """Return arguments, exit status, standard output and standard error of a recorded run."""
    text = (FORMATS / f"{name}.txt").read_text(encoding="utf-8")
    head, rest = text.split("--- stdout\n", 1)
    out, err = rest.split("--- stderr\n", 1)
    command, status = head.splitlines()
    return command.removeprefix("$ ").split(), int(status.removeprefix("exit status ")), out, err


def log_lines(text: str) -> list[str]:
    """Return severity and text of each line, without prefixes, times and speeds, and without passing lines."""
    lines = []
    for line in text.splitlines():
        match = PREFIX.match(line)
        body = f"{match[1]} {line[match.end() :]}" if match else line
        if (match and body[2:] in PASSING) or body in ABORT or body.startswith("compiling kernels"):
            continue
        lines.append(MILLISECONDS.sub("T ms.", SPEED.sub(r"(R iter/s, Ts/\1 iters)", body)).rstrip())
    return lines


def split_numbers(line: str) -> tuple[str, list[float]]:
    """Return a line with its numbers replaced by #, and the numbers."""
    return NUMBER.sub("#", line), [float(n) for n in NUMBER.findall(line)]


def run_tool(
    tool: str, *arguments: str, cwd: Path, check: bool = False, **kwargs
) -> subprocess.CompletedProcess:
    """Run one of our commands as a process of its own, as a user would, and return its result."""
    return subprocess.run(
        [sys.executable, "-m", f"caffetools.cli.{tool}", *arguments],
        cwd=cwd, env=tool_environment(), capture_output=True, text=True, timeout=300, check=check, **kwargs,
    )  # fmt: skip


def tool_environment() -> dict[str, str]:
    """Return an environment in which a process finds this checkout and logs nowhere but to stderr."""
    return {**os.environ, "PYTHONPATH": str(GOLDEN.parent.parent)}
