"""The table of commands, the console_scripts and the launchers name the same programs, and these run."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys

import pytest

from caffetools.cli import commands
from caffetools.cli.command import Tool
from tests.cli.cli_run import ROOT

PROGRAMS = ("caffe", *commands.TOOLS)
NAMES = [name for program in PROGRAMS for name in (program, f"{program}.bin")]


def console_scripts():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options.entry_points"]["console_scripts"].strip().splitlines()
    return dict(line.split(" = ") for line in lines)


def test_console_scripts():
    expected = {name: f"caffetools.cli.{name.removesuffix('.bin')}:command" for name in NAMES}
    assert console_scripts() == expected


def test_launchers():
    assert sorted(os.listdir(ROOT / "bin")) == sorted(NAMES)
    assert {os.readlink(ROOT / "bin" / name) for name in NAMES if name != "caffe"} == {"caffe"}
    assert os.access(ROOT / "bin" / "caffe", os.X_OK)


@pytest.mark.parametrize("name", NAMES)
def test_launcher_runs_from_anywhere(name, tmp_path):
    (tmp_path / "click.py").write_text("raise SystemExit('the current folder is no place to import from')\n")
    result = subprocess.run(
        [ROOT / "bin" / name, "--version"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{name} version 1.0.0\n", "")


def test_launcher_without_its_packages(tmp_path):
    """A Python without click: what comes from the environment's site-packages is switched off."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    python.chmod(0o755)
    env = {"PATH": os.environ["PATH"], "PYTHON": str(python)}
    result = subprocess.run([ROOT / "bin" / "caffe", "--version"], env=env, capture_output=True, text=True)
    assert result.returncode == 1
    assert "the packages it needs are not installed" in result.stderr
    assert "Traceback" not in result.stderr


def test_launcher_takes_the_name_of_a_link_to_it(tmp_path):
    link = tmp_path / "caffe.bin"
    link.symlink_to(ROOT / "bin" / "caffe")
    env = {"PATH": os.environ["PATH"], "PYTHON": sys.executable}
    result = subprocess.run([link, "--version"], env=env, capture_output=True, text=True)
    assert result.stdout == "caffe.bin version 1.0.0\n"


@pytest.mark.parametrize("name", [*PROGRAMS, *commands.ACTIONS])
def test_commands_of_the_table(name):
    command = commands.load(name)
    assert isinstance(command, Tool) and command.name == name
    assert command.examples and command.short_help
    assert all(flag.help for flag in command.flags)


def test_unknown_program_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/nonsense"])
    with pytest.raises(
        SystemExit, match="nonsense: no such program; the names are caffe, convert_mnist_data"
    ):
        commands.main()
