"""Processes that train together: they agree, and no one is left waiting for one that is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from caffetools.engine import rendezvous
from caffetools.engine.group import Alone
from caffetools.engine.rendezvous import join, new_key
from tests.recorded import tool_environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="as NCCL, for Linux")

PROGRAM = """
import os, signal, sys, time
from caffetools import glog
from caffetools.engine.group import LostPeer
from caffetools.engine.process_group import start

if __name__ != "__main__" and signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
    print("a signal would end this process before it can ignore it", flush=True)

def work(group):
{work}

if __name__ == "__main__":
    group = start(["GPU 4", "GPU 5", "GPU 6"], work)
    try:
        with group.guarded():
            work(group)
        print("done", flush=True)
    except glog.FatalError as error:
        print("main:", error, flush=True)
        sys.exit(134)
"""


@pytest.fixture
def run(tmp_path):
    """A function that runs `work(group)` in three processes."""

    def call(work: str, **options) -> subprocess.Popen:
        path = tmp_path / "program.py"
        path.write_text(PROGRAM.format(work=textwrap.indent(textwrap.dedent(work), "    ")))
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [sys.executable, path], env=tool_environment(), stdout=pipe, stderr=pipe, text=True, **options
        )

    return call


def results(process) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_alone():
    assert Alone().agree(lambda: 3, 4) == 3
    assert Alone().gather(5) == [5]
    assert Alone(1, 2).agree(lambda: 3, 4) == 4
    assert Alone(1, 2).gather(5) == []


def test_agree_and_gather(run):
    code, out, _ = results(
        run("""
        numbers = group.agree(lambda: [group.rank, 7])
        rows = group.gather((group.rank, numbers))
        assert group.leads or not rows
        if group.leads:
            print(rows, group.ranks, flush=True)
        """)
    )
    assert code == 0
    assert out == "[(0, [0, 7]), (1, [0, 7]), (2, [0, 7])] 3\ndone\n"


FAILURES = {
    "an error of another rank while rank 0 waits for ever": (
        "if group.rank == 1: glog.fatal('label 11')\ntime.sleep(60)",
        "GPU 5: label 11",
        "",
    ),
    "an error that is no check": (
        "if group.rank == 2: {}['x']\ntime.sleep(60)",
        "GPU 6: KeyError: 'x'",
        "",
    ),
    "a process that is killed": (
        "if group.rank == 1: os.kill(os.getpid(), signal.SIGKILL)\ngroup.gather(1); time.sleep(60)",
        "was killed by SIGKILL, as the system does when memory runs out",
        "",
    ),
    "a process that ends": (
        "if group.rank == 1: os._exit(3)\ntime.sleep(60)",
        "has ended with exit status 3",
        "",
    ),
    "rank 0 fails": (
        "if group.leads: glog.fatal('no memory')\ntime.sleep(60)",
        "",
        "main: no memory\n",
    ),
    "all fail for the same reason": ("glog.fatal('no file')", "", "main: no file\n"),
    "a consequence comes before its cause": (
        """
if group.rank == 1: raise LostPeer('NCCL: remote error')
time.sleep(0.3)
if group.rank == 2: glog.fatal('the cause')
group.receive(1)
""",
        "GPU 6: the cause",
        "",
    ),
}


#: Each takes a second in which causes may turn up.
QUICK = ("an error of another rank while rank 0 waits for ever", "rank 0 fails", "all fail for the same reason")


@pytest.mark.parametrize(
    ("work", "logged", "said"),
    [pytest.param(*case, id=name, marks=[] if name in QUICK else pytest.mark.slow) for name, case in FAILURES.items()],
)
def test_one_failure_ends_all(run, work, logged, said):
    code, out, err = results(run(work))
    assert (code, out) == (134, said)
    assert len([line for line in err.splitlines() if "] " in line]) == bool(logged)
    assert logged in err


def test_others_leave_signals_to_rank_0_and_end_with_it(run):
    process = run(
        "print(os.getpid(), flush=True)\ntime.sleep(60)",
        start_new_session=True,
    )
    pids = [int(process.stdout.readline()) for _ in range(3)]
    os.killpg(process.pid, signal.SIGHUP)
    process.wait(60)
    process.stdout.close()
    process.stderr.close()
    assert process.returncode == -signal.SIGHUP
    deadline = time.monotonic() + 30
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(alive(pid) for pid in pids)


def test_a_signal_while_the_others_say_farewell_changes_nothing(run, tmp_path):
    signalled = tmp_path / "signalled"
    process = run(
        f"""
        if group.leads:
            print("over", flush=True)
        else:
            while not os.path.exists({str(signalled)!r}):
                time.sleep(0.02)
        """,
        start_new_session=True,
    )
    assert process.stdout.readline() == "over\n"
    time.sleep(0.5)  # rank 0 waits for them by then
    os.killpg(process.pid, signal.SIGINT)
    signalled.touch()
    assert results(process)[:2] == (0, "done\n")


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_processes_of_others_meet():
    key, found = new_key(), {}
    threads = [
        threading.Thread(target=lambda rank=rank: found.update({rank: join(key, rank, 3)})) for rank in (2, 1, 0)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {rank: group.rank for rank, group in found.items()} == {0: 0, 1: 1, 2: 2}
    assert found[0].agree(lambda: "x") == "x"
    assert [found[rank].agree(None) for rank in (1, 2)] == ["x", "x"]
    for group in found.values():
        for lifeline in group._lifelines:
            lifeline.send("done")


@pytest.mark.parametrize(("rank", "words"), [(0, "other ranks: 1"), (1, "the process of rank 0")])
def test_somebody_does_not_come(rank, words, monkeypatch):
    monkeypatch.setattr(rendezvous, "MEETING", 0.1)
    with pytest.raises(RuntimeError, match=words):
        join(new_key(), rank, 2)


def test_a_key_that_is_none():
    with pytest.raises(RuntimeError, match="has 32 bytes, this one 3"):
        join(b"uid", 0, 2)
