"""A program with sub-commands under gflags' rules: flags may stand before and after the sub-command."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from caffetools import glog
from caffetools.cli import commands
from caffetools.cli.command import Tool
from caffetools.cli.flags import FlagParser

Function = Callable[..., object]


class Suite(Tool, click.Group):
    """A Tool with actions, which share its flags, and the commands of the table, which have their own."""

    def action(
        self, name: str, usage: str, examples: Sequence[str] = (), also: Iterable[str] = ()
    ) -> Callable[[Function], Tool]:
        """Add the function below as an action. It uses the flags that are its parameters and accepts all.

        also: names of further flags that it uses, for a function with a parameter `**name` to take them.
        """

        def decorate(function: Function) -> Tool:
            flags = {flag.name: flag for flag in self.own_flags}
            parameters = inspect.signature(function).parameters.values()
            names = [parameter.name for parameter in parameters if parameter.kind != parameter.VAR_KEYWORD]
            params = [flags[name] for name in (*names, *also)]

            @functools.wraps(function)
            def callback(args: tuple[str, ...], **flags: object) -> object:
                return function(**flags)  # with positional arguments the suite shows its usage instead

            tool = Tool(
                name, callback=callback, params=params, usage=usage, examples=examples, also=self.own_flags
            )
            self.add_command(tool)
            return tool

        return decorate

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all sub-commands: actions in their order, then the table's."""
        return [*self.commands, *commands.ACTIONS, *commands.TOOLS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> Tool | None:
        """The sub-command of this name, loaded if need be."""
        if cmd_name in self.commands:
            return self.commands[cmd_name]
        return commands.load(cmd_name) if cmd_name in self.list_commands(ctx) else None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Find the sub-command among flags; it parses all the rest. Without one, parse as a plain program."""
        places = FlagParser("", self.flags).positions(args)
        name = args[places[0]] if places else ""
        command = self.get_command(ctx, name)
        if command is None or (name in self.commands and len(places) > 1):
            return super().parse_args(ctx, args)
        ctx.obj = (command, args[: places[0]] + args[places[0] + 1 :])
        return []

    def invoke(self, ctx: click.Context) -> Any:
        """Run the sub-command, or the callback where there was none."""
        if ctx.obj is None:
            return super().invoke(ctx)
        command, args = ctx.obj
        with command.make_context(command.name, args, parent=ctx) as sub:
            return command.invoke(sub)

    def suggest(self, ctx: click.Context, name: str) -> None:
        """Say which commands a mistyped name may have meant."""
        close = difflib.get_close_matches(name, self.list_commands(ctx), n=2)
        if close:
            glog.plain(f"Did you mean {' or '.join(close)}?")

    def usage_message(self) -> str:
        """The usage message, with the commands of the table."""
        return "\n".join(
            [
                self.usage.rstrip(),
                "",
                "more commands:",
                *_rows(commands.ACTIONS),
                "",
                "tools, which are programs of their own as well:",
                *_rows(commands.TOOLS),
            ]
        )


def _rows(names: Iterable[str]) -> list[str]:
    return [f"  {name:<27} {commands.load(name).short_help}" for name in names]
