"""`extract_seconds`: when each line of a training log with an iteration was written."""

from __future__ import annotations

from caffetools.formats.files import atomic_path
from caffetools.glog import fatal
from caffetools.tools.parse_log import starts_training, timed_lines


def extract(log: str, output: str) -> int:
    """Write the seconds since the start of training, a line for each line of `log` that names an iteration.

    Return their number. Errors: FatalError for a log that cannot be read or in which no training starts.
    """
    seconds: list[float] = []
    started = False
    for line, clock in timed_lines(log):
        if starts_training(line):
            clock.start(seconds[-1] if seconds else 0.0)
            started = True
        if started and "Iteration" in line:
            seconds.append(clock.seconds)
    if not started:
        fatal(f"Start time not found: {log} has no line that says what net is being solved")
    with atomic_path(output) as temporary, open(temporary, "w", encoding="ascii") as file:
        file.writelines(f"{second:f}\n" for second in seconds)
    return len(seconds)
