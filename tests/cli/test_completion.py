"""Completion, by typing into real shells and looking at the arguments that a program then gets."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time

import pytest

from tests.cli.cli_run import ROOT

START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
}
PREPARE = {
    "bash": "{stubs}; source ./script; bind 'set bell-style none' 2>/dev/null",
    "zsh": "{stubs}; autoload -Uz compinit; compinit -u -D; source ./script; unsetopt beep",
}
PROMPT = b"next> "
PROGRAMS = ("caffe", "caffe.bin", "convert_mnist_data")

# Typed before Tab, typed after it, arguments that the program gets. What is typed must not be ambiguous, also with
# the commands to come: a shell left in the middle of a choice would spoil the lines that follow.
CASES = [
    ("caffe device_q", "", ["device_query"]),
    ("caffe completio", " zsh", ["completion", "zsh"]),
    ("caffe upgrade_solver_proto_te", "", ["upgrade_solver_proto_text"]),
    ("caffe.bin device_quer", "", ["device_query"]),
    ("caffe train --sol", "x", ["train", "--solver=x"]),
    ("caffe train -sol", "x", ["train", "-solver=x"]),
    ("caffe train --solver=my_s", "", ["train", "--solver=my_solver.prototxt"]),
    ("caffe train -solver my_s", "", ["train", "-solver", "my_solver.prototxt"]),
    ("caffe train --solver folder/o", "", ["train", "--solver", "folder/other.prototxt"]),
    ("caffe train --snapshot=my_", "", ["train", "--snapshot=my_iter_1.solverstate.h5"]),
    ("caffe test -weights my_", "", ["test", "-weights", "my_iter_1.caffemodel"]),
    ("caffe -gpu 0 tim", "", ["-gpu", "0", "time"]),
    ("caffe time --phase=TE", "", ["time", "--phase=TEST"]),
    ("caffe train --sighup_effect sn", "", ["train", "--sighup_effect", "snapshot"]),
    ("caffe train --alsologtost", "", ["train", "--alsologtostderr"]),
    ("caffe train -noalsologtost", "", ["train", "-noalsologtostderr"]),
    ("caffe convert_mnist_data --back", "leveldb", ["convert_mnist_data", "--backend=leveldb"]),
    ("convert_mnist_data --backend=lev", "", ["--backend=leveldb"]),
    ("convert_mnist_data -backend le", " ims", ["-backend", "leveldb", "ims"]),
    ("convert_mnist_data my_iter_1.c", "", ["my_iter_1.caffemodel"]),
]


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """A folder with files to complete and, as a function of the shell, its script."""
    folder = tmp_path_factory.mktemp("completion")
    for name in ("my_solver.prototxt", "my_solver.txt", "my_iter_1.caffemodel", "my_iter_1.solverstate.h5"):
        (folder / name).touch()
    (folder / "folder").mkdir()
    (folder / "folder/other.prototxt").touch()
    (folder / "folder/other.txt").touch()

    def write(shell):
        command = [sys.executable, "-m", "caffetools.cli.caffe", "completion", shell]
        (folder / "script").write_bytes(
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
        )
        return folder

    return write


class Terminal:
    """An interactive shell on a terminal of its own."""

    def __init__(self, shell, folder):
        self.fd, theirs = pty.openpty()
        self.unread = b""
        env = {"PATH": os.environ["PATH"], "TERM": "dumb", "PS1": PROMPT.decode(), "HOME": str(folder)}
        self.process = subprocess.Popen(
            START[shell],
            cwd=folder,
            env=env,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def type(self, text):
        os.write(self.fd, text.encode())

    def read_until(self, end, seconds=20):
        """What the shell prints before `end`."""
        deadline = time.monotonic() + seconds
        while end not in self.unread:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.fd], [], [], left)[0], self.unread
            self.unread += os.read(self.fd, 4096)
        text, _, self.unread = self.unread.partition(end)
        return text.decode(errors="replace")

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.fd)


@pytest.fixture(scope="module", params=START)
def terminal(request, scripts):
    shell = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    terminal = Terminal(shell, scripts(shell))
    stubs = "; ".join(f"{name}() {{ printf '<%s>' \"$@\"; echo; }}" for name in PROGRAMS)
    terminal.read_until(PROMPT)
    terminal.type(PREPARE[shell].format(stubs=stubs) + "; echo read''y\n")
    terminal.read_until(b"ready")
    terminal.read_until(PROMPT)
    yield terminal
    terminal.close()


@pytest.mark.parametrize("before, after, args", CASES)
def test_typed(terminal, before, after, args):
    terminal.type(f"{before}\t")
    terminal.type(f"{after}\n")
    printed = terminal.read_until(PROMPT)
    assert "".join(f"<{arg}>" for arg in args) in printed.splitlines()


FISH_CASES = [
    ("caffe device_q", {"device_query"}),
    ("caffe -gpu 0 tim", {"time"}),
    ("caffe train --sol", {"--solver"}),
    ("caffe train -sol", {"-solver"}),
    ("caffe.bin train --sol", {"--solver"}),
    ("caffe train --noalsologtost", {"--noalsologtostderr"}),
    ("caffe time --phase=TE", {"--phase=TEST"}),
    ("caffe time -phase TE", {"TEST"}),
    ("convert_mnist_data --backend=l", {"--backend=lmdb", "--backend=leveldb"}),
]


@pytest.fixture(scope="module")
def fish(scripts):
    if shutil.which("fish") is None:
        pytest.skip("no fish")
    folder = scripts("fish")

    def complete(line):
        """What fish offers for a line: the words without their descriptions."""
        code = f"source ./script; complete -C {line!r}"
        command = ["fish", "--no-config", "-c", code]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        return [offer.split("\t")[0] for offer in result.stdout.splitlines()]

    return complete


@pytest.mark.parametrize("line, offers", FISH_CASES)
def test_fish(fish, line, offers):
    assert set(fish(line)) == offers


def test_fish_offers_files_of_the_pattern_first(fish):
    assert fish("caffe train --solver my_s")[0] == "my_solver.prototxt"
