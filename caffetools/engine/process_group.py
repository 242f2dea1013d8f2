"""Processes of one machine that train together: what rank 0 decides is told to all, and no one is left waiting.

Rank 0 talks to each of the others through a pipe; these know nobody but rank 0. A second pipe to each is its lifeline:
it says how a process ends. When one fails or is killed, rank 0 logs why, with the name of the device, and ends; when
rank 0 ends, so do the others, also in the middle of a computation that waits for ever.

`start` makes the processes of a group; those that others have started meet with `rendezvous.join`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from caffetools import glog
from caffetools.engine.group import Alone, LostPeer
from caffetools.glog import FatalError

#: Seconds in which the cause of a failure may turn up after its consequences.
GRACE = 1.0
#: Seconds until processes that have said that they are done are ended by force.
FAREWELL = 30.0
#: The exit status of a failed check, as everywhere.
ABORTED = 134
_DONE = "done"


@dataclass(frozen=True)
class Failure:
    """How a process ended. consequence: whether it only says that another one is gone."""

    text: str
    file: str = "process_group.py"
    line: int = 0
    consequence: bool = False


class ProcessGroup(Alone):
    """A process among several. The methods of `Alone` are to be called by all of them, in the same order.

    talks, lifelines: pipes to the others, to rank 0 only for those that are not rank 0. names: what the log calls the
    ranks. processes: those of the ranks from 1 on, where this one has started them.
    """

    can_ask = True

    def __init__(
        self,
        rank: int,
        names: Sequence[str],
        talks: Sequence[Connection],
        lifelines: Sequence[Connection],
        processes: Sequence[multiprocessing.process.BaseProcess] = (),
    ):
        super().__init__(rank, len(names))
        self.names = list(names)
        self._talks, self._lifelines, self._processes = list(talks), list(lifelines), list(processes)
        self._changed = threading.Condition()
        self._mine: Failure | None = None
        self._theirs: Failure | None = None
        self._ends_itself = False  # the main thread of rank 0, and has said or will say why
        watch = self._watch_others if self.leads else self._watch_rank_0
        threading.Thread(target=watch, name="lifelines", daemon=True).start()

    def agree(self, decide, otherwise=None):
        """Return what rank 0 decides: only there `decide` is called. Errors: LostPeer."""
        if not self.leads:
            return self.receive(0)
        value = decide()
        for rank in range(1, self.ranks):
            self.send(rank, value)
        return value

    def gather(self, value):
        """Return the values of all to rank 0, an empty list to the others. Errors: LostPeer."""
        if not self.leads:
            self.send(0, value)
            return []
        return [value, *(self.receive(rank) for rank in range(1, self.ranks))]

    def send(self, rank: int, value: object) -> None:
        """Send something to rank 0, or from it. Errors: LostPeer."""
        try:
            self._talk(rank).send(value)
        except OSError as error:
            raise self._lost(rank) from error

    def receive(self, rank: int) -> Any:
        """Return what `send` sends, and wait for it. Errors: LostPeer."""
        try:
            return self._talk(rank).recv()
        except (OSError, EOFError) as error:
            raise self._lost(rank) from error

    def _talk(self, rank):
        return self._talks[rank - 1 if self.leads else 0]

    def _lost(self, rank):
        # Its lifeline tells why, and ends this process as well.
        time.sleep(2 * GRACE)
        return LostPeer(f"{self.names[self.rank]} has lost {self.names[rank]}")

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Let all processes end when the body fails in one of them, and say why once; end the group after it."""
        ended = False
        try:
            yield
            self._end()
            ended = True
        except Exception as error:
            self._fail(_failure_of(error))
            raise
        finally:
            if not ended:
                self._ends_itself = True
                self._kill()

    def leave(self) -> None:
        """Tell the others how this process ends: that it is done, or with which error."""
        error = sys.exc_info()[1] or getattr(sys, "last_value", None)
        if not isinstance(error, Exception):
            self._say(_DONE)
        elif not self.leads:
            # Rank 0 says by itself what is wrong; that it is gone tells the others enough.
            self._say(_failure_of(error))

    def _say(self, words):
        for lifeline in self._lifelines:
            # One that is gone already is no reason not to tell the rest.
            with suppress(OSError):
                lifeline.send(words)

    def _end(self):
        self._say(_DONE)
        deadline = time.monotonic() + FAREWELL
        # Who still presses Ctrl-C when all is done and written has asked for nothing else.
        with _ignored() if self._processes else nullcontext():
            for process in self._processes:
                process.join(max(deadline - time.monotonic(), 0))
        self._kill()

    def _kill(self):
        """End the processes that this one has started: they ignore the signals that could be ignored."""
        for process in self._processes:
            if process.is_alive():
                process.kill()

    # How a failure becomes one line in the log of rank 0

    def _fail(self, failure):
        """Called by the main thread; returns where it shall go on to say why, as it would without others."""
        if not self.leads:
            self._say(failure)
            # Rank 0 says it and ends, which the lifeline tells.
            time.sleep(FAREWELL)
            return
        with self._changed:
            self._mine = failure
            self._changed.notify_all()
            before = self._theirs
            if failure.consequence or (before is not None and not _same(before, failure)):
                # The other thread knows better, says it and ends the process.
                self._changed.wait(3 * GRACE)
            self._ends_itself = True

    def _watch_rank_0(self):
        lifeline = self._lifelines[0]
        with suppress(OSError, EOFError):
            if lifeline.recv() == _DONE:
                return
        os._exit(ABORTED)

    def _watch_others(self):
        lifelines = {lifeline: rank for rank, lifeline in enumerate(self._lifelines, 1)}
        while lifelines:
            for lifeline in wait(list(lifelines)):
                failure = self._last_words(lifeline, lifelines.pop(lifeline))
                if failure is not None:
                    self._look_for_the_cause(failure, lifelines)
                    return

    def _last_words(self, lifeline, rank):
        """Return why a process has ended; None where it was done."""
        try:
            message = lifeline.recv()
        except (OSError, EOFError):
            return Failure(f"{self.names[rank]}: {self._end_of(rank)}")
        if message == _DONE:
            return None
        return Failure(f"{self.names[rank]}: {message.text}", message.file, message.line, message.consequence)

    def _end_of(self, rank):
        if not self._processes:
            return "its process has ended"
        process = self._processes[rank - 1]
        process.join(GRACE)
        code = process.exitcode
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
            return f"its process {process.pid} was killed by {name}{hint}"
        return f"its process {process.pid} has ended" + ("" if code is None else f" with exit status {code}")

    def _look_for_the_cause(self, failure, lifelines):
        """Wait for what the others say, log the cause unless the main thread is about to, and end."""
        with self._changed:
            self._theirs = failure
        deadline = time.monotonic() + GRACE
        while (left := deadline - time.monotonic()) > 0 and not self._ends_itself:
            with self._changed:
                # The main thread only learns of it, or has met the same: then it goes on to say so.
                if self._mine is not None and not self._mine.consequence and _same(failure, self._mine):
                    return
                self._changed.wait(0.02 if lifelines else left)
            for lifeline in wait(list(lifelines), 0):
                other = self._last_words(lifeline, lifelines.pop(lifeline))
                if failure.consequence and other is not None:
                    failure = other
        if self._ends_itself:
            return
        error = FatalError(failure.text)
        error.file, error.line = failure.file, failure.line
        glog.log_fatal(error)
        self._kill()
        # The main thread may wait for ever for what the device cannot finish.
        os._exit(ABORTED)


def _same(theirs, mine):
    return theirs.text.endswith(f": {mine.text}")


def _failure_of(error):
    if isinstance(error, FatalError):
        return Failure(str(error), error.file, error.line, isinstance(error, LostPeer))
    frame = error.__traceback__
    while frame.tb_next is not None:
        frame = frame.tb_next
    file = os.path.basename(frame.tb_frame.f_code.co_filename)
    return Failure(f"{type(error).__name__}: {error}", file, frame.tb_lineno)


# Processes that this one starts

#: What the ranks from 1 on leave to rank 0, which a terminal sends them as well.
_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGHUP", "SIGTERM") if hasattr(signal, name)
)


def start(names: Sequence[str], work: Callable[..., object], *arguments: object) -> ProcessGroup:
    """Start a process for each name but the first and return the group, whose rank 0 is this process.

    work: a function of a module, called in the others with their group and `arguments`.
    """
    context = multiprocessing.get_context("spawn")
    talks, lifelines, processes = [], [], []
    for rank in range(1, len(names)):
        (talk, its_talk), (lifeline, its_lifeline) = context.Pipe(), context.Pipe()
        connections = its_talk, its_lifeline
        process = context.Process(
            target=_follow, args=(rank, list(names), connections, work, arguments), name=names[rank]
        )
        with _held_back():
            process.start()
        for connection in connections:
            # Or its end would go unnoticed.
            connection.close()
        talks.append(talk)
        lifelines.append(lifeline)
        processes.append(process)
    return ProcessGroup(0, names, talks, lifelines, processes)


@contextmanager
def _held_back():
    """Hold the signals back, also in a process that is started, until it has said that it ignores them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Where multiprocessing starts its tracker itself, together with the first process, it lets the signals through.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _ignored():
    """Ignore the signals meanwhile."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _follow(rank, names, connections, work, arguments):
    """What a started process does."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    glog.flags.minloglevel = glog.FATAL
    glog.set_quiet(True)
    talk, lifeline = connections
    group = ProcessGroup(rank, names, [talk], [lifeline])
    with suppress(Exception), group.guarded():
        work(group, *arguments)
