"""The click command that every program is: gflags' parser, its help, the log and the exit codes."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import click

from caffetools import glog
from caffetools.cli.failures import run_tool
from caffetools.cli.flags import LOG_FLAGS, META_FLAGS, Flag, FlagParser, source_name
from caffetools.cli.usage import Report


class Tool(click.Command):
    """A program. Its callback gets the declared flags and, as `args`, the positional arguments.

    :param usage: usage message: what it does, then ``usage: <program> ...``
    :param examples: command lines as a user types them
    :param log_to_stderr: whether INFO lines go to stderr unless the flags say otherwise
    :param also: further flags that it accepts and ignores
    """

    def __init__(
        self,
        name: str,
        *,
        usage: str,
        examples: Sequence[str] = (),
        log_to_stderr: bool = True,
        also: Iterable[Flag] = (),
        **attrs: Any,
    ) -> None:
        super().__init__(name, add_help_option=False, short_help=usage.partition("\n")[0], **attrs)
        self.usage = usage
        self.examples = tuple(examples)
        self.log_to_stderr = log_to_stderr
        self.own_flags = [param for param in self.params if isinstance(param, Flag)]
        mine = {flag.name for flag in self.own_flags}
        self.params += [flag for flag in (*also, *META_FLAGS, *LOG_FLAGS) if flag.name not in mine]

    @property
    def flags(self) -> list[Flag]:
        """All flags that it accepts."""
        return [param for param in self.params if isinstance(param, Flag)]

    @property
    def file(self) -> str:
        """Its source file."""
        return source_name(inspect.unwrap(self.callback).__code__.co_filename)

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **_: Any) -> NoReturn:
        """Run with `args` (default: the command line) and exit."""
        ctx = click.Context(self, info_name=_program_name(prog_name or sys.argv[0]))
        arguments = list(sys.argv[1:] if args is None else args)

        def run() -> object:
            with ctx:
                self.parse_args(ctx, arguments)
                return self.invoke(ctx)

        sys.exit(run_tool(run, lambda: ctx.meta.get("traceback")))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Set ``ctx.params`` and the log's flags; print what --help and its kin ask for."""
        parser = FlagParser(ctx.find_root().info_name, self.flags)
        if self.log_to_stderr:
            glog.flags.alsologtostderr = True  # before parsing: --noalsologtostderr still turns it off
        for flag in LOG_FLAGS:
            parser.values[flag.name] = getattr(glog.flags, flag.name)
        positionals = parser.parse(args)
        ctx.meta["traceback"] = parser.values["traceback"]
        ctx.meta["given"] = parser.given
        self._report(ctx, parser)
        parser.check()
        for flag in LOG_FLAGS:
            setattr(glog.flags, flag.name, parser.values[flag.name])
        ctx.params = {flag.name: parser.values[flag.name] for flag in self.own_flags}
        ctx.params["args"] = tuple(positionals)
        ctx.args = []
        return []

    def invoke(self, ctx: click.Context) -> Any:
        """Start the log and run the callback."""
        glog.init(ctx.find_root().info_name)
        return ctx.invoke(self.callback, **ctx.params)

    def usage_message(self) -> str:
        """The usage message."""
        return self.usage

    def usage_text(self, ctx: click.Context) -> str:
        """Usage message and own flags, as a program prints them that was called without what it needs."""
        return self._describe(ctx, FlagParser("", self.flags)).short()

    def refuse(self, ctx: click.Context) -> int:
        """Show the usage as an error, for a wrong number of positional arguments; returns the exit code."""
        glog.error(f"Usage: {self._usage(ctx)}")
        return 1

    def _report(self, ctx: click.Context, parser: FlagParser) -> None:
        wanted = self._describe(ctx, parser).wanted()
        if wanted:
            text, code = wanted
            print(text)
            sys.stdout.flush()
            ctx.exit(code)

    def _describe(self, ctx: click.Context, parser: FlagParser) -> Report:
        usage = self._usage(ctx)
        return Report(ctx.command_path, usage, self.flags, self.own_flags, self.file, parser.values)

    def _usage(self, ctx: click.Context) -> str:
        usage = self.usage_message()
        if self.examples:
            usage += "\n\nexamples:\n" + "\n".join(f"  {line}" for line in self.examples)
        return usage.replace("<program>", ctx.command_path)


def _program_name(path: str) -> str:
    """Name that usage and log files show: the last part of the path, without .py of ``python -m``."""
    name = os.path.basename(path)
    return name[: -len(".py")] if name.endswith(".py") else name
