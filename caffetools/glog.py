"""Log lines, log files and fatal errors in the format of Google's glog, as every tool of Caffe prints them.

    Lmmdd hh:mm:ss.uuuuuu TTTTT file.py:LINE] message

``L`` is the severity (I, W, E or F), the time is local, ``TTTTT`` is the native thread id and the position is
the caller's. A message goes to the log files of its severity and of all below (see ``glog_files``), and to
stderr when the flags ask for it. Each flag also reads the environment: ``GLOG_<name>``.

Libraries call :func:`info`, :func:`warning` and :func:`error`, and raise :class:`FatalError` through
:func:`fatal` and the ``check`` functions; only the command line prints the F line (:func:`log_fatal`).
"""

from __future__ import annotations

import atexit
import contextlib
import fnmatch
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any, NoReturn

from caffetools.glog_files import LogFile, hostname

SEVERITIES = ("INFO", "WARNING", "ERROR", "FATAL")
INFO, WARNING, ERROR, FATAL = range(len(SEVERITIES))

#: Name, default and help text of every logging flag; the type is the default's.
FLAGS: tuple[tuple[str, bool | int | str, str], ...] = (
    ("logtostderr", False, "log to stderr and to no file"),
    ("alsologtostderr", False, "log to stderr as well as to the log files"),
    ("stderrthreshold", ERROR, "messages at or above this severity go to stderr too; see --minloglevel"),
    ("minloglevel", INFO, "drop messages below this severity: 0 INFO, 1 WARNING, 2 ERROR, 3 FATAL"),
    ("log_dir", "", "write log files to this folder only, instead of the system's temporary folder"),
    ("log_link", "", "put further links to the newest log files into this folder"),
    ("log_prefix", True, "start each line with severity, time, thread and source position"),
    ("log_year_in_prefix", False, "put the year before month and day in the prefix"),
    ("logbuflevel", INFO, "buffer messages up to this severity in log files; -1 buffers none"),
    ("logbufsecs", 30, "keep messages in a buffer for at most this many seconds"),
    ("max_log_size", 1800, "size in MB at which a log file is closed and a new one is begun"),
    ("colorlogtostderr", False, "colour the lines on stderr by severity if the terminal can"),
    ("v", 0, "show notes the original never printed if at least 1"),
    ("vmodule", "", "--v per source file: pattern=N,... where a pattern matches file names without .py"),
    ("stop_logging_if_full_disk", False, "stop writing to a log file while its disk is full"),
    ("log_backtrace_at", "", "print the call stack when the line file.py:LINE logs"),
    ("logemaillevel", 999, "mail messages at or above this severity to --alsologtoemail"),
    ("alsologtoemail", "", "addresses to mail log messages to"),
    ("drop_log_memory", True, "tell the system not to keep written log files in memory"),
)

_OLD_ENVIRONMENT = {
    "logtostderr": "GOOGLE_LOGTOSTDERR",
    "alsologtostderr": "GOOGLE_ALSOLOGTOSTDERR",
    "log_dir": "GOOGLE_LOG_DIR",
}
_COLORS = {WARNING: "3", ERROR: "1", FATAL: "1"}


def _from_environment(name: str, default: bool | int | str) -> bool | int | str:
    """A flag's default: ``GLOG_<name>``, then the variable's older name, then the built-in one."""
    text = os.environ.get(f"GLOG_{name}", os.environ.get(_OLD_ENVIRONMENT.get(name, "")))
    if text is None:
        return default
    if isinstance(default, bool):
        return text[:1] in ("t", "T", "y", "Y", "1", "")  # glog looks at the first character alone
    if isinstance(default, int):
        try:
            return int(text, 0)
        except ValueError:
            return default
    return text


class Flags:
    """Present values of the logging flags (see :data:`FLAGS`), as attributes."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Give every flag the value of its environment variable or its default."""
        for name, default, _ in FLAGS:
            setattr(self, name, _from_environment(name, default))


class FatalError(RuntimeError):
    """An error that ends a tool; its text is the text of the F line.

    A RuntimeError, because that is what scripts written for the original's Python module catch.

    :ivar file: name of the source file where it was raised
    :ivar line: line there
    :ivar exit_code: exit status of the tool, 134 like the original's abort()
    """

    def __init__(self, message: str = "", exit_code: int = 134) -> None:
        super().__init__(message)
        frame = _caller()
        self.file = os.path.basename(frame.f_code.co_filename)
        self.line = frame.f_lineno
        self.exit_code = exit_code


flags = Flags()
_lock = threading.RLock()  # reentrant: a signal handler may log while the main thread is logging
_program: str | None = None
_files: dict[int, LogFile] = {}
_warned_before_init = False
_is_quiet = False
_stderr_hook: Callable[[], AbstractContextManager[Any]] | None = None


# Starting and stopping


def init(program: str | None = None, **values: bool | int | str) -> None:
    """Start logging under a program's name (default: ``sys.argv[0]``); `values` set flags.

    Until then everything goes to stderr, after one line of warning.
    """
    global _program
    with _lock:
        shutdown()
        for name, value in values.items():
            if not hasattr(flags, name):
                raise TypeError(f"no logging flag '{name}'")
            setattr(flags, name, value)
        _program = os.path.basename(program or sys.argv[0]) or "UNKNOWN"


def shutdown() -> None:
    """Close the log files and forget the program's name."""
    global _program
    with _lock:
        for file in _files.values():
            file.close()
        _files.clear()
        _program = None


def flush() -> None:
    """Write buffered messages to the log files."""
    with _lock:
        for file in _files.values():
            file.flush()


def set_stderr_hook(hook: Callable[[], AbstractContextManager[Any]] | None) -> None:
    """Let `hook()`, a context manager, surround every write to stderr: to clear and redraw a progress line.

    With tqdm: ``set_stderr_hook(lambda: tqdm.external_write_mode(file=sys.stderr))``. None removes it.
    """
    global _stderr_hook
    with _lock:
        _stderr_hook = hook


def set_quiet(quiet: bool) -> None:
    """Drop the I lines of this package and plain lines, not those of scripts: where another process speaks."""
    global _is_quiet
    _is_quiet = quiet


# Messages


def info(message: object) -> None:
    """Log an I line."""
    _log(INFO, message)


def warning(message: object) -> None:
    """Log a W line."""
    _log(WARNING, message)


def error(message: object) -> None:
    """Log an E line."""
    _log(ERROR, message)


def note(message: object) -> None:
    """Say what the original never said: as an I line with --v=1, else as a plain line on a terminal only.

    So a log that is redirected or kept in a file stays comparable, line for line, with the original's.
    """
    if _verbosity(_caller()) >= 1:
        _log(INFO, message)
    elif flags.minloglevel == INFO and _stderr_is_terminal():
        plain(message)


def plain(message: object) -> None:
    """Print a line without prefix on stderr, whatever the flags say."""
    if _is_quiet:
        return
    with _lock:
        _write_stderr(f"{message}\n")


def log_fatal(err: FatalError) -> None:
    """Log the F line of an error. The caller ends the program with ``err.exit_code``."""
    _emit(FATAL, str(err), err.file, err.line)
    flush()


def fatal(message: object) -> NoReturn:
    """Raise a FatalError."""
    raise FatalError(str(message))


def check(ok: object, expr: str, message: object = "") -> None:
    """Raise ``Check failed: expr message`` unless `ok`; `expr` is the condition as a reader should see it."""
    if not ok:
        raise FatalError(f"Check failed: {expr} {message}")


def check_eq(a: Any, b: Any, expr: str, message: object = "") -> None:
    """Raise ``Check failed: expr (a vs. b) message`` unless a == b."""
    _compare(a == b, a, b, expr, message)


def check_ne(a: Any, b: Any, expr: str, message: object = "") -> None:
    """Raise ``Check failed: expr (a vs. b) message`` unless a != b."""
    _compare(a != b, a, b, expr, message)


def check_lt(a: Any, b: Any, expr: str, message: object = "") -> None:
    """Raise ``Check failed: expr (a vs. b) message`` unless a < b."""
    _compare(a < b, a, b, expr, message)


def check_le(a: Any, b: Any, expr: str, message: object = "") -> None:
    """Raise ``Check failed: expr (a vs. b) message`` unless a <= b."""
    _compare(a <= b, a, b, expr, message)


def check_gt(a: Any, b: Any, expr: str, message: object = "") -> None:
    """Raise ``Check failed: expr (a vs. b) message`` unless a > b."""
    _compare(a > b, a, b, expr, message)


def check_ge(a: Any, b: Any, expr: str, message: object = "") -> None:
    """Raise ``Check failed: expr (a vs. b) message`` unless a >= b."""
    _compare(a >= b, a, b, expr, message)


def _compare(ok: object, a: Any, b: Any, expr: str, message: object) -> None:
    if not ok:
        raise FatalError(f"Check failed: {expr} ({_streamed(a)} vs. {_streamed(b)}) {message}")


def _streamed(value: Any) -> str:
    """A value as a C++ stream prints it: booleans as 0 and 1, floats with six digits."""
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:g}" if isinstance(value, float) else str(value)


# From message to destinations


_THIS_FILE = init.__code__.co_filename


def _caller() -> FrameType:
    """The innermost frame outside this file."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename == _THIS_FILE:
        frame = frame.f_back
    return frame


def _log(severity: int, message: object) -> None:
    if severity < flags.minloglevel:
        return
    frame = _caller()
    if _is_quiet and severity == INFO and frame.f_globals.get("__name__", "").startswith("caffetools."):
        return
    text = str(message)
    file = os.path.basename(frame.f_code.co_filename)
    if flags.log_backtrace_at == f"{file}:{frame.f_lineno}":
        import traceback

        text = f" (stacktrace:\n{''.join(traceback.format_stack(frame))}) {text}"
    _emit(severity, text, file, frame.f_lineno)


def _emit(severity: int, text: str, file: str, line: int) -> None:
    if severity < flags.minloglevel:
        return
    now = time.time_ns()
    message = f"{_prefix(severity, now, file, line)}{text}\n"
    with _lock:
        if _program is None:
            _warn_before_init()
        if _program is None or flags.logtostderr:
            _write_stderr(message, severity)
            return
        # stderr first: a full disk or a slow folder must not keep the reason of a failure from the user
        if flags.alsologtostderr or severity >= flags.stderrthreshold:
            _write_stderr(message, severity)
        for level in range(severity, -1, -1):
            if level not in _files:
                _files[level] = LogFile(_program, SEVERITIES[level], flags, _write_stderr)
            _files[level].write(message, at_once=severity > flags.logbuflevel)
        if severity >= flags.logemaillevel and flags.alsologtoemail:
            _mail(severity, message)


def _prefix(severity: int, now: int, file: str, line: int) -> str:
    if not flags.log_prefix:
        return ""
    seconds, nanoseconds = divmod(now, 1_000_000_000)
    day = "%Y%m%d" if flags.log_year_in_prefix else "%m%d"
    clock = time.strftime(f"{day} %H:%M:%S", time.localtime(seconds))
    letter, thread = SEVERITIES[severity][0], threading.get_native_id()
    return f"{letter}{clock}.{nanoseconds // 1000:06d} {thread:5d} {file}:{line}] "


def _verbosity(frame: FrameType) -> int:
    """--v for a frame's file: the first matching pattern of --vmodule decides, else --v."""
    module = os.path.splitext(os.path.basename(frame.f_code.co_filename))[0]
    for entry in filter(None, flags.vmodule.split(",")):
        pattern, _, level = entry.partition("=")
        if fnmatch.fnmatchcase(module, pattern) and level.lstrip("-").isdigit():
            return int(level)
    return flags.v


def _warn_before_init() -> None:
    global _warned_before_init
    if not _warned_before_init:
        _warned_before_init = True
        _write_stderr("WARNING: Logging before InitGoogleLogging() is written to STDERR\n")


def _stderr_is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # none at all (pythonw), or closed
        return False


def _write_stderr(text: str, severity: int = INFO) -> None:
    """Write to stderr; never raises, since a run must outlive the terminal or pipe that shows it."""
    stream = sys.stderr
    if stream is None:
        return
    if flags.colorlogtostderr and severity in _COLORS and os.environ.get("TERM", "dumb") != "dumb":
        text = f"\033[0;3{_COLORS[severity]}m{text}\033[m"
    try:
        with _stderr_hook() if _stderr_hook else contextlib.nullcontext():
            stream.write(text)
            stream.flush()
    except BrokenPipeError:
        silence(stream)
    except (OSError, ValueError):  # closed, or the disk behind a redirection is full
        pass


def silence(stream: Any) -> None:
    """Point a stream whose pipe broke at the null device, so that no later write, nor the exit, fails."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _mail(severity: int, message: str) -> None:
    import subprocess

    command = ["mail", "-s", f"[LOG] {SEVERITIES[severity]}: {_program}", *flags.alsologtoemail.split(",")]
    body = f"{hostname()}\n\n{message}"
    try:
        subprocess.run(command, input=body, text=True, check=True, stdout=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError) as err:
        _write_stderr(f"Problems sending mail to {flags.alsologtoemail}: {err}\n")


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()  # another thread of the parent may have held it at the fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(flush)
