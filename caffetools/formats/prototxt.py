"""Text protos: nets and solvers as people write them."""

from __future__ import annotations

import os
import re
from typing import TypeVar

from google.protobuf import text_format
from google.protobuf.message import Message

from caffetools import glog
from caffetools.formats import files
from caffetools.formats.prototxt_errors import Problem, Skipped, find_problem
from caffetools.formats.prototxt_printer import dumps

__all__ = ["dumps", "parse", "read", "write"]

M = TypeVar("M", bound=Message)


def read(path: str | os.PathLike[str], message_class: type[M]) -> M:
    """Read a text file as a message.

    :raises FatalError: the original's text, then what is wrong at which line and column; an E line goes first
    """
    data = files.read_bytes(path)
    return parse(data.decode("utf-8-sig", "surrogateescape"), message_class, os.fspath(path))


def parse(text: str, message_class: type[M], name: str = "<string>") -> M:
    """Read a text as a message; `name` stands for its file in errors.

    :raises FatalError: see :func:`read`
    """
    message, problem, skipped = message_class(), None, []
    try:
        text_format.Parse(text, message)
    except (text_format.ParseError, UnicodeError, ValueError) as err:
        problem, skipped = find_problem(text, message.DESCRIPTOR)
        if problem is None:
            problem = None if skipped else _as_reported(err)
    if problem is None and skipped:
        return _without(skipped, text, message_class, name)
    if problem is None and not message.IsInitialized():
        missing = "Message missing required fields: " + ", ".join(message.FindInitializationErrors())
        problem = Problem(0, 0, missing, missing[0].lower() + missing[1:])
    if problem is not None:
        _fail(problem, text, message.DESCRIPTOR, name)
    return message


def _without(skipped: list[Skipped], text: str, message_class: type[M], name: str) -> M:
    """Read a text without some fields, and say which they are."""
    data = text.encode("utf-8", "surrogateescape")
    for field in reversed(skipped):
        # Blanks take their place, so that what follows keeps its line and column.
        gap = re.sub(rb"[^\n]", b" ", data[field.start : field.end])
        data = data[: field.start] + gap + data[field.end :]
    for field in skipped:
        glog.info(f"{name}:{field.line}: {field.name} is left out: it changes nothing but how a fork of Caffe computes")
    return parse(data.decode("utf-8", "surrogateescape"), message_class, name)


def write(path: str | os.PathLike[str], message: Message) -> None:
    """Write a message as text, atomically, in the form of :func:`dumps`."""
    with files.atomic_path(path) as temporary, open(temporary, "w", encoding="ascii", newline="\n") as file:
        file.write(dumps(message))


def _as_reported(err: Exception) -> Problem:
    """An error that only Python's parser finds, such as a string that is no UTF-8."""
    message = re.sub(r"^\d+:\d+ : ", "", str(err))
    line, column = (err.GetLine(), err.GetColumn()) if isinstance(err, text_format.ParseError) else (0, 0)
    return Problem(line or 0, column or 0, message, message)


def _fail(problem: Problem, text: str, descriptor: object, name: str) -> None:
    """Log the parser's line and raise, both in the original's words; the reason follows in brackets."""
    place = f"{problem.line}:{problem.column}: " if problem.line else ""
    glog.error(f"Error parsing text-format {descriptor.full_name}: {place}{problem.message}")
    reason = problem.reason
    if "\0" in text:
        reason = "this is a binary file, not a prototxt; a .caffemodel is given as weights"
    where = f"{name}:{place}" if place else f"{name}: "
    glog.check(
        False,
        "ReadProtoFromTextFile(param_file, param)",
        f"Failed to parse {descriptor.name} file: {name} ({where}{reason})",
    )
