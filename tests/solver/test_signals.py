"""The signal watch by itself: each signal is answered once, and a handler may run at any moment."""

from __future__ import annotations

import os
import signal

import pytest

from caffetools.solver import signals
from caffetools.solver.signals import NONE, SNAPSHOT, STOP, SignalWatch

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


@pytest.fixture
def watch():
    with SignalWatch({"SIGINT": STOP, "SIGHUP": SNAPSHOT, "SIGTERM": STOP}) as entered:
        yield entered


def test_nothing_is_asked_for(watch):
    assert watch.requested() == NONE


def test_each_signal_is_answered_once(watch):
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGHUP)
    assert [watch.requested() for _ in range(3)] == [SNAPSHOT, STOP, NONE]


def test_after_the_stop_interrupts_change_nothing(watch):
    signal.raise_signal(signal.SIGINT)
    assert watch.requested() == STOP
    signal.raise_signal(signal.SIGINT)
    assert watch.requested() == NONE


def test_impatience_ends_at_once(watch, monkeypatch, capfd):
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)  # a held key
    monkeypatch.setattr(signals, "PATIENCE", -1)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert "without a snapshot" in capfd.readouterr().err


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGINT)
    with SignalWatch({"SIGINT": NONE}):
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) == before


def test_signals_that_the_system_lacks():
    with SignalWatch({"SIGNOTHING": STOP}) as entered:
        assert entered.requested() == NONE


class Noisy(dict):
    """Effects whose lookup brings in another signal, as one that arrives in the middle of `requested` would."""

    def __init__(self, *args, raised):
        super().__init__(*args)
        self.raised = raised

    def __getitem__(self, number):
        if self.raised:
            signal.raise_signal(self.raised.pop())
        return super().__getitem__(number)


def test_signal_in_the_middle_of_the_question(watch):
    watch.effects = Noisy(watch.effects, raised=[signal.SIGTERM])
    signal.raise_signal(signal.SIGHUP)
    answers = [watch.requested() for _ in range(3)]
    assert sorted(answers) == sorted([SNAPSHOT, STOP, NONE])
