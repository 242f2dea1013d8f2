"""Running a program of the package in a process of its own."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def run(program, *args, cwd=None, **env):
    """Run a program by its name; the log goes to stderr only, unless `env` or `args` say otherwise."""
    code = f"import sys; sys.argv[0] = {program!r}\nfrom caffetools.cli.commands import main\nmain()"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("GLOG_", "GOOGLE_", "FLAGS_"))}
    clean |= {"PYTHONPATH": str(ROOT), "GLOG_logtostderr": "1", **env}
    command = [sys.executable, "-c", code, *args]
    return subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, timeout=120)


def messages(log):
    """What follows the prefix on each line of a log."""
    return [line.partition("] ")[2] for line in log.splitlines() if "] " in line]
