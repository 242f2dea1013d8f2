"""What Ctrl-C and friends do to a training run: the handler only notes the signal, the solver asks between steps.

Effects are those of the original's flags: stop, snapshot, none. SIGTERM, which killed the original without a snapshot,
stops as SIGINT does. A second SIGINT while the first is being honoured ends the program at once.
"""

from __future__ import annotations

import signal
from types import TracebackType

from caffetools.glog import fatal

NONE, STOP, SNAPSHOT = "none", "stop", "snapshot"


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
        self._pending: set[int] = set()
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
        if number in self._pending and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._pending.add(number)

    def requested(self) -> str:
        """Return the effect that is asked for; a snapshot comes before a stop where both are."""
        wanted = {self.effects[number]: number for number in self._pending}
        for effect in (SNAPSHOT, STOP):
            if effect in wanted:
                self._pending = {n for n in self._pending if self.effects[n] != effect}
                return effect
        return NONE
