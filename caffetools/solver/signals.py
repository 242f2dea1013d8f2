"""What Ctrl-C and friends do to a training run: the handler only notes the signal, the solver asks between steps.

Effects are those of the original's flags: stop, snapshot, none. SIGTERM, which killed the original without a snapshot,
stops as SIGINT does. A SIGINT that waits for an answer longer than PATIENCE may be followed by another, which ends the
program at once, without a snapshot; once the answer is being given, further ones change nothing.
"""

from __future__ import annotations

import signal
import time
from types import TracebackType

from caffetools.glog import fatal, plain

NONE, STOP, SNAPSHOT = "none", "stop", "snapshot"

PATIENCE = 2.0  # seconds; a held Ctrl-C repeats far faster


def check_effect(effect: str, flag: str) -> str:
    """Return `effect` if it is one of the three, else refuse it as the original does."""
    if effect not in (NONE, STOP, SNAPSHOT):
        fatal(f'Invalid signal effect "{effect}" was specified (--{flag} takes snapshot, stop or none)')
    return effect


class SignalWatch:
    """Installs handlers while it is entered; `requested()` says what to do now, once for each signal.

    effects: signal name -> effect. Names that the system lacks (SIGHUP on Windows) are left out.
    """

    def __init__(self, effects: dict[str, str]):
        self.effects = {
            getattr(signal, name): effect for name, effect in effects.items() if hasattr(signal, name)
        }
        self._pending: dict[int, float] = {}  # signal -> when it came first
        self._previous: dict[int, object] = {}

    def __enter__(self) -> SignalWatch:
        for number, effect in self.effects.items():
            if effect != NONE:
                self._previous[number] = signal.signal(number, self._note)
            else:
                self._previous[number] = signal.signal(number, signal.SIG_IGN)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _note(self, number, frame):
        now = time.monotonic()
        first = self._pending.setdefault(number, now)
        if number == signal.SIGINT and self.effects[number] == STOP and now - first > PATIENCE:
            plain("Interrupted again: ending at once, without a snapshot.")
            raise KeyboardInterrupt

    def requested(self) -> str:
        """Return the effect that is asked for; a snapshot comes before a stop where both are."""
        pending = tuple(self._pending)  # a handler may add to it meanwhile
        for effect in (SNAPSHOT, STOP):
            answered = [number for number in pending if self.effects[number] == effect]
            for number in answered:
                if effect == STOP:
                    self.effects[number] = NONE  # the run ends now, with a snapshot that nothing may disturb
                self._pending.pop(number, None)
            if answered:
                return effect
        return NONE
