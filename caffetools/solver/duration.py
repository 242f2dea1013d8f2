"""Lengths of time as people write them: 2h30m, 90m, 1.5h, 45s, 1d12h, or a number of seconds."""

from __future__ import annotations

import re

from caffetools.glog import fatal

_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_NUMBER = r"\d+(?:\.\d+)?"
_FORM = re.compile("".join(f"(?:({_NUMBER}){unit})?" for unit in _SECONDS), re.IGNORECASE)


def parse(text: str, field: str) -> float:
    """Return the seconds that a text means. field: the setting it stands in, for messages.

    Errors: FatalError for other forms, and for no time at all.
    """
    text = text.strip()
    if re.fullmatch(_NUMBER, text):
        seconds = float(text)
    else:
        match = _FORM.fullmatch(text)
        parts = match.groups() if match else ()
        seconds = sum(float(part or 0) * unit for part, unit in zip(parts, _SECONDS.values(), strict=False))
    if seconds <= 0:
        fatal(f"{field}: '{text}' is no length of time, such as 2h30m, 90m, 1.5h, 1d12h or 5400 (seconds)")
    return seconds
