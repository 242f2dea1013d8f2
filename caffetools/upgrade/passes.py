"""What an upgrade pass is, and how passes are run one after the other with the original's notices."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message

from caffetools.glog import error, info, warning

M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class Pass(Generic[M]):
    """One step from an old form to the next.

    needed: whether a message is in the old form. run: the message in the new form, the argument unchanged.
    attempt, success, trouble: what the log says before, and after with or without problems.
    outlook: the warning that follows, if any. problems: what `run` cannot carry over, as log lines.
    """

    needed: Callable[[M], bool]
    run: Callable[[M], M]
    attempt: str
    success: str
    trouble: str = ""
    outlook: str = ""
    problems: Callable[[M], Collection[str]] = lambda message: ()


@dataclass(frozen=True)
class Outcome(Generic[M]):
    """What a sequence of passes came to.

    message: the message in the current form, the one given if nothing was to do. changed: whether a pass was
    needed. complete: whether everything in the old form could be carried over.
    """

    message: M
    changed: bool
    complete: bool


def run_passes(passes: Iterable[Pass[M]], message: M, path: str) -> Outcome[M]:
    """Run the passes that `message`, read from `path`, needs, and log each."""
    changed, complete = False, True
    for step in passes:
        if not step.needed(message):
            continue
        info(f"{step.attempt}: {path}")
        problems = step.problems(message)
        for problem in problems:
            error(problem)
        message = step.run(message)
        if problems:
            error(step.trouble)
        else:
            info(step.success)
        if step.outlook:
            warning(step.outlook)
        changed, complete = True, complete and not problems
    return Outcome(message, changed, complete)


def carry_over(source: Message, target: Message, leave: Collection[str] = ()) -> None:
    """Copy every field that is set in `source`, except those in `leave`, to the same name in `target`."""
    for descriptor, value in source.ListFields():
        name = descriptor.name
        if name in leave:
            continue
        if hasattr(value, "MergeFrom"):  # a message or a repeated field
            getattr(target, name).MergeFrom(value)
        else:
            setattr(target, name, value)
