"""From failures to exit codes: whatever happens, one line says why and the code is the original's."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable

import click

from caffetools import glog
from caffetools.glog import FatalError

_ABORTED = 134  # SIGABRT as a shell reports it: the original's failed checks
_INTERRUPTED = 130
_BROKEN_PIPE = 141
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def run_tool(main: Callable[[], object], wants_traceback: Callable[[], object] = lambda: False) -> int:
    """Exit code of a program: of `main()`, an int or nothing, or of the way in which it failed.

    :param wants_traceback: asked after a failure whether to print the Python traceback as well
    """
    try:
        code = main()
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as err:
        return err.exit_code
    except click.ClickException as err:
        glog.plain(err.format_message())
        return err.exit_code
    except BrokenPipeError:
        glog.silence(sys.stdout)
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        return _INTERRUPTED
    except Exception as err:
        return _fatal(err, bool(wants_traceback()))


def _fatal(err: Exception, show_traceback: bool) -> int:
    fatal = err if isinstance(err, FatalError) else _as_fatal(err)
    glog.log_fatal(fatal)
    if show_traceback:
        glog.plain("*** Check failure stack trace: ***")
        glog.plain("".join(traceback.format_exception(type(err), err, err.__traceback__)).rstrip())
    return fatal.exit_code


def _as_fatal(err: Exception) -> FatalError:
    """The F line of an error that no tool foresaw, at the place in this package where it passed last."""
    if isinstance(err, OSError) and err.strerror:  # the machine's answer, not a mistake of the program
        text = f"{err.strerror}: {err.filename}" if err.filename else err.strerror
    elif isinstance(err, MemoryError):
        text = f"Out of memory. {err}".strip()
    else:
        text = f"Internal error: {type(err).__name__}: {err}"
    fatal = FatalError(f"{text} (run again with --traceback to see where)", exit_code=_ABORTED)
    for frame in traceback.extract_tb(err.__traceback__):
        if frame.filename.startswith(_PACKAGE):
            fatal.file, fatal.line = os.path.basename(frame.filename), frame.lineno or 0
    return fatal
