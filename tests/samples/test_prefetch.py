"""The queue between data layers and their threads: order, errors, waiting, and an end without hanging."""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref

import pytest

from caffetools import glog
from caffetools.samples import prefetch
from caffetools.samples.prefetch import Prefetcher


class Source:
    """Counts up; `read` gives the next number, `fill` writes its square into the batch (a list)."""

    def __init__(self, fail_read_at=None, fail_fill_at=None, delay=lambda number: 0.0):
        self.number = 0
        self.fail_read_at = fail_read_at
        self.fail_fill_at = fail_fill_at
        self.delay = delay

    def read(self):
        number = self.number
        self.number += 1
        if number == self.fail_read_at:
            glog.fatal(f"cannot read {number}")
        return number

    def fill(self, number, batch):
        time.sleep(self.delay(number))
        if number == self.fail_fill_at:
            raise ValueError(f"cannot fill {number}")
        batch[:] = [number**2, threading.get_native_id()]


def eventually(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(0.05)  # time enough for a thread that does more than it should


@pytest.fixture
def start():
    """Makes prefetchers and closes them, so that no test leaves a thread behind."""
    made = []

    def make(source, depth=3, threads=1):
        made.append(Prefetcher(source.read, source.fill, [[] for _ in range(depth)], threads, "test"))
        return made[-1]

    yield make
    for prefetcher in made:
        prefetcher.close()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("test-")]


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_batches_come_in_the_order_of_reading(start, threads, depth):
    # Even batches take longer: with several threads the odd ones are ready before them.
    prefetcher = start(Source(delay=lambda number: 0.002 * (number % 2 == 0)), depth, threads)
    assert [prefetcher.take()[0] for _ in range(20)] == [number**2 for number in range(20)]


def test_several_threads_fill(start):
    prefetcher = start(Source(delay=lambda number: 0.005), depth=5, threads=3)
    workers = {prefetcher.take()[1] for _ in range(30)}
    assert 1 < len(workers) <= 3
    assert threading.get_native_id() not in workers


def test_no_more_is_read_than_there_are_batches(start):
    source = Source()
    prefetcher = start(source, depth=4)
    eventually(lambda: source.number >= 4)
    assert source.number == 4
    prefetcher.take()
    eventually(lambda: source.number >= 4)
    assert source.number == 4  # the consumer holds one of them
    prefetcher.take()
    eventually(lambda: source.number >= 5)
    assert source.number == 5


@pytest.mark.parametrize("threads", [1, 3])
def test_a_fatal_error_arrives_as_it_was_after_the_batches_before_it(start, threads):
    prefetcher = start(Source(fail_read_at=5), threads=threads)
    assert [prefetcher.take()[0] for _ in range(5)] == [0, 1, 4, 9, 16]
    for _ in range(2):
        with pytest.raises(glog.FatalError, match="^cannot read 5$") as caught:
            prefetcher.take()
        assert caught.value.file == "test_prefetch.py"


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_while_filling_arrives(start, threads):
    prefetcher = start(Source(fail_fill_at=4, delay=lambda number: 0.002 * (number == 3)), threads=threads)
    assert [prefetcher.take()[0] for _ in range(4)] == [0, 1, 4, 9]
    with pytest.raises(ValueError, match="cannot fill 4"):
        prefetcher.take()


def test_taking_from_a_closed_prefetcher_fails(start):
    prefetcher = start(Source(delay=lambda number: 0.01), depth=2)
    prefetcher.close()
    prefetcher.close()
    with pytest.raises(glog.FatalError, match="threads that prefetch data have ended"):
        for _ in range(3):
            prefetcher.take()


def test_waiting_is_counted_and_logged_every_thousandth_time(start, capfd, monkeypatch):
    monkeypatch.setattr(prefetch, "_LOG_EVERY", 3)
    monkeypatch.setattr(prefetch, "_waits", iter(range(1000)))
    prefetcher = start(Source(delay=lambda number: 0.3 if number == 0 else 0.01), depth=1)
    for _ in range(7):
        prefetcher.take()
    assert prefetcher.waits == 7
    assert 0.06 < prefetcher.waited_seconds < 10
    pattern = r"^I\d{4} .* +(\d+) prefetch\.py:\d+\] Waiting for data$"
    lines = re.findall(pattern, capfd.readouterr().err, re.M)
    assert lines == [str(threading.get_native_id())] * 3


def test_no_wait_where_batches_are_ready(start):
    prefetcher = start(Source(), depth=3)
    eventually(lambda: prefetcher.ready == 3)
    prefetcher.take()
    assert (prefetcher.waits, prefetcher.waited_seconds) == (0, 0)


def test_log_lines_of_a_thread_carry_its_number(start, capfd):
    class Talker(Source):
        def read(self):
            glog.info(f"I am {threading.get_native_id()}")
            return super().read()

    start(Talker(), depth=2).take()
    said = re.findall(r"^I.* (\d+) test_prefetch\.py:\d+\] I am (\d+)$", capfd.readouterr().err, re.M)
    assert said
    assert all(prefix == text != str(threading.get_native_id()) for prefix, text in said)


def test_a_dropped_prefetcher_ends_its_threads():
    prefetcher = Prefetcher((source := Source()).read, source.fill, [[], []], 2, "dropped")
    alive = weakref.ref(prefetcher)
    prefetcher.take()
    del prefetcher
    gc.collect()
    assert alive() is None
    eventually(lambda: not any("dropped" in thread.name for thread in threading.enumerate()))


PROGRAM = """
import sys, time
from caffetools.samples.prefetch import Prefetcher

def read():
    return time.sleep({read})

prefetcher = Prefetcher(read, lambda material, batch: None, [[], []])
print("ready", flush=True)
{body}
"""


def run(body: str, read: float = 0.01) -> subprocess.Popen:
    program = PROGRAM.format(read=read, body=textwrap.dedent(body))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", program], text=True, **pipes)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ("prefetcher.take()", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("raise RuntimeError('no more')", 1, "RuntimeError: no more"),
        ("prefetcher.take(); del prefetcher", 0, ""),
    ],
)
def test_a_program_ends_with_threads_at_work(body, status, reason):
    program = run(body)
    _, err = program.communicate(timeout=20)
    assert program.returncode == status
    assert reason in err


@pytest.mark.skipif(os.name == "nt", reason="sends a signal of POSIX systems")
def test_ctrl_c_while_waiting_ends_the_program():
    program = run("prefetcher.take()", read=2)
    assert program.stdout.readline() == "ready\n"
    time.sleep(0.3)
    program.send_signal(signal.SIGINT)
    _, err = program.communicate(timeout=20)
    assert "KeyboardInterrupt" in err
    assert program.returncode in (-signal.SIGINT, 130, 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_wait_for_ever():
    program = run(
        """
        import os
        prefetcher.take()
        child = os.fork()
        if child == 0:
            try:
                for _ in range(9):
                    prefetcher.take()
            except Exception as err:
                print(err, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        """
    )
    out, _ = program.communicate(timeout=20)
    assert "threads that prefetch data have ended" in out
