"""Log lines for scripts. Until `init_log` is called they go to stderr, with a warning before them."""

from __future__ import annotations

from caffetools import glog

#: log(message): write an I line, with the place in the script that called it.
log = glog.info


def init_log(level: int | None = None, to_stderr: bool | None = None) -> None:
    """Start log files, named after the script, of lines of at least a level.

    level: 0 info, 1 warning, 2 error, 3 fatal. to_stderr: write to stderr only.
    """
    flags: dict[str, int | bool] = {}
    if level is not None:
        flags["minloglevel"] = level
    if to_stderr is not None:
        flags["logtostderr"] = to_stderr
    glog.init(**flags)
