"""gflags' rules for flags, on click.

A flag is a click option of type bool, int32, double or string. :class:`FlagParser` reads arguments as gflags does:
``-flag`` or ``--flag``, ``=value`` or a space, ``--noflag`` for booleans, flags and positional arguments in
any order, ``--`` as the end of flags, the last value of a repeated flag (all values of one whose default is
a tuple), flag files and values from the environment. It collects all errors before it reports them: a help
flag anywhere on the line goes first.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from caffetools import glog

Value = bool | int | float | str | tuple[str, ...]
Function = TypeVar("Function", bound=Callable[..., Any])

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_TRUE = ("1", "t", "true", "y", "yes")
_FALSE = ("0", "f", "false", "n", "no")
_DECIMAL = re.compile(r"\s*[+-]?[0-9]+")
_HEXADECIMAL = re.compile(r"0[xX][0-9a-fA-F]+")  # gflags takes neither a sign nor an octal 0 here


class FlagError(click.ClickException):
    """What is wrong with the arguments, in gflags' words, a line each."""

    exit_code = 1


class Flag(click.Option):
    """A flag; its type is that of its default. One whose default is a tuple may be given several times.

    :ivar file: source file it belongs to, as the help shows it
    :ivar choices: the values that make sense, for completion
    :ivar pattern: glob of the files that make sense, for completion (``*.prototxt``)
    """

    def __init__(
        self,
        param_decls: Iterable[str],
        *,
        default: Value,
        help: str,
        file: str = "",
        choices: Iterable[str] = (),
        pattern: str = "",
        expose_value: bool = True,
        **attrs: Any,
    ) -> None:
        (name,) = param_decls
        self.default_value = default
        self.file = file
        self.choices = tuple(choices)
        self.pattern = pattern
        self.is_bool = isinstance(default, bool)
        self.is_repeated = isinstance(default, tuple)
        names = [f"--{name}/--no{name}"] if self.is_bool else [f"--{name}"]
        attrs = {"multiple": self.is_repeated, **attrs}
        super().__init__([name, *names], default=default, help=help, expose_value=expose_value, **attrs)

    @property
    def type_name(self) -> str:
        """gflags' name of the type."""
        return "bool" if self.is_bool else _TYPE_NAMES.get(type(self.default_value), "string")

    def convert(self, text: str) -> Value:
        """The value that a text means; ValueError if it means none."""
        return _CONVERT[self.type_name](text)


def flag(name: str, default: Value, help: str, **attrs: Any) -> Callable[[Function], Function]:
    """Declare a flag of the command below; its source file is the command's."""

    def decorate(function: Function) -> Function:
        file = source_name(inspect.unwrap(function).__code__.co_filename)
        return click.option(name, cls=Flag, default=default, help=help, file=file, **attrs)(function)

    return decorate


def source_name(path: str) -> str:
    """A file of this package as the help shows it."""
    return os.path.relpath(path, _ROOT).replace(os.sep, "/")


def _bool(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(text)


def _int32(text: str) -> int:
    if _HEXADECIMAL.fullmatch(text):
        value = int(text, 16)
    elif _DECIMAL.fullmatch(text):
        value = int(text)
    else:
        raise ValueError(text)
    if not -(2**31) <= value < 2**31:
        raise ValueError(text)
    return value


_CONVERT: dict[str, Callable[[str], Value]] = {"bool": _bool, "int32": _int32, "double": float, "string": str}
_TYPE_NAMES = {int: "int32", float: "double"}


def _shared(names: Iterable[tuple[str, Value, str]], file: str) -> tuple[Flag, ...]:
    return tuple(
        Flag([name], default=default, help=help, file=file, expose_value=False)
        for name, default, help in names
    )


#: Flags of gflags itself.
META_FLAGS = _shared(
    (
        ("flagfile", "", "read flags from these files, comma-separated: a line each, --flag=value"),
        (
            "fromenv",
            "",
            "set these flags, comma-separated, from the environment: FLAGS_<name>, which must exist",
        ),
        ("tryfromenv", "", "set these flags, comma-separated, from the environment if FLAGS_<name> exists"),
        ("undefok", "", "flags, comma-separated, that may be given although the program does not know them"),
        ("tab_completion_columns", 80, "columns to use in the output for completion"),
        ("tab_completion_word", "", "print the flags that begin like this, and exit: for shells"),
        ("help", False, "show help on all flags"),
        ("helpfull", False, "show help on all flags, also those that the command does not use"),
        ("helpshort", False, "show help on the flags of the program itself only"),
        ("helpon", "", "show help on the flags of the source file of this name"),
        ("helpmatch", "", "show help on the flags of source files whose name contains this"),
        ("helppackage", False, "show help on the flags of the source files beside the program's"),
        ("helpxml", False, "show help on all flags as XML"),
        ("version", False, "show the version"),
        ("traceback", False, "show the Python traceback of a failure; for developers"),
    ),
    source_name(__file__),
)
#: Flags of the log.
LOG_FLAGS = _shared(glog.FLAGS, source_name(glog.__file__))


class FlagParser:
    """Reads arguments into values.

    :param program: name that sections of a flag file are matched with
    :param flags: the flags it knows
    :ivar values: value of every flag, its default at first
    :ivar given: names of the flags that were set
    """

    def __init__(self, program: str, flags: Iterable[Flag]) -> None:
        self.program = program
        self.flags = {flag.name: flag for flag in flags}
        self.values: dict[str, Value] = {name: flag.default_value for name, flag in self.flags.items()}
        self.given: set[str] = set()
        self._errors: dict[str, str] = {}
        self._unknown: set[str] = set()
        self._being_read: list[str] = []
        self._at_once: dict[str, Callable[[str], None]] = {
            "flagfile": self._read_files,
            "fromenv": lambda names: self._read_environment(names, required=True),
            "tryfromenv": lambda names: self._read_environment(names, required=False),
        }

    def parse(self, args: Iterable[str]) -> list[str]:
        """Set flags from `args`; returns the positional arguments."""
        positionals: list[str] = []
        rest = iter(args)
        for arg in rest:
            if arg == "--":
                return [*positionals, *rest]
            if not arg.startswith("-") or arg == "-":
                positionals.append(arg)
                continue
            name, value = self._split(arg)
            if name is None:
                continue
            if value is None:
                value = next(rest, None)
                if value is None:
                    description = self.flags[name].help
                    self._errors[name] = (
                        f"flag '{arg}' is missing its argument; flag description: {description}"
                    )
                    break
            self._set(name, value)
        return positionals

    def positions(self, args: list[str]) -> list[int]:
        """Indices in `args` of the positional arguments, setting nothing."""
        scout = FlagParser(self.program, self.flags.values())
        scout._at_once = {}
        found = scout.parse(_Indexed(arg, i) for i, arg in enumerate(args))
        return [arg.index for arg in found]

    def check(self) -> None:
        """Raise FlagError if anything was wrong."""
        tolerated = self._names(self.values["undefok"], "undefok")
        messages = [
            f"ERROR: {message}"
            for name, message in sorted(self._errors.items())
            if not (name in self._unknown and name in {*tolerated, *(f"no{other}" for other in tolerated)})
        ]
        if messages:
            raise FlagError("\n".join(messages))

    def _split(self, arg: str) -> tuple[str | None, str | None]:
        """Name and value in an argument: no name if there is no such flag, no value if the next is it."""
        key, equals, text = arg[2 if arg.startswith("--") else 1 :].partition("=")
        value = text if equals else None
        if key in self.flags:
            return key, "1" if value is None and self.flags[key].is_bool else value
        positive = self.flags.get(key[2:]) if key.startswith("no") else None
        if positive is None:
            self._unknown.add(key)
            self._errors[key] = f"unknown command line flag '{key}'{self._did_you_mean(key)}"
            return None, None
        if not positive.is_bool:
            self._errors[key] = f"boolean value ({key}) specified for {positive.type_name} command line flag"
            return None, None
        return positive.name, "0"

    def _set(self, name: str, text: str) -> None:
        flag = self.flags[name]
        try:
            value = flag.convert(str(text))
        except ValueError:
            self._errors[name] = f"illegal value '{text}' specified for {flag.type_name} flag '{name}'"
            return
        self.values[name] = (*self.values[name], value) if flag.is_repeated else value
        self.given.add(name)
        if name in self._at_once:  # in place, so that what stands behind it on the line wins
            self._at_once[name](text)

    def _names(self, text: str, name: str) -> list[str]:
        """Parts of a comma-separated list given to flag `name`."""
        parts = text.split(",") if text else []
        for part in parts:
            if not part:
                raise FlagError(f"ERROR: empty flaglist entry in --{name}={text}")
            if part.startswith("-"):
                raise FlagError(f"ERROR: flag \"{part}\" begins with '-' in --{name}={text}")
        return parts

    def _read_environment(self, names: str, required: bool) -> None:
        flagname = "fromenv" if required else "tryfromenv"
        for name in self._names(names, flagname):
            variable = f"FLAGS_{name}"
            if name not in self.flags:
                self._unknown.add(name)
                self._errors[name] = f"unknown command line flag '{name}' (via --fromenv or --tryfromenv)"
            elif variable in self._being_read:
                self._errors[name] = f"infinite recursion on environment flag '{name}'"
            elif variable in os.environ:
                self._being_read.append(variable)
                self._set(name, os.environ[variable])
                self._being_read.pop()
            elif required:
                self._errors[name] = f"{variable} not found in environment"

    def _read_files(self, names: str) -> None:
        for path in self._names(names, "flagfile"):
            if os.path.abspath(path) in self._being_read:
                raise FlagError(f"ERROR: flag file '{path}' includes itself")
            try:
                with open(path, encoding="utf-8", errors="surrogateescape") as file:
                    lines = file.read().split("\n")
            except OSError as err:
                raise FlagError(f"ERROR: cannot read flag file '{path}': {err.strerror}") from err
            self._being_read.append(os.path.abspath(path))
            self._read_lines(lines)
            self._being_read.pop()

    def _read_lines(self, lines: Iterable[str]) -> None:
        """Flags of a file. Lines of program name patterns begin sections for these programs alone."""
        relevant, in_names = True, False
        for line in (line.lstrip() for line in lines):
            if not line or line.startswith("#"):
                continue
            if not line.startswith("-"):
                relevant = (relevant and in_names) or self._is_called(line.split())
                in_names = True
                continue
            in_names = False
            if relevant:
                self._set_from_line(line)

    def _set_from_line(self, line: str) -> None:
        errors, unknown = dict(self._errors), set(self._unknown)
        name, value = self._split(line)
        if name is None:  # flag files are shared by programs: gflags lets names pass that this one lacks
            self._errors, self._unknown = errors, unknown
        elif value is not None:
            self._set(name, value)

    def _is_called(self, patterns: Iterable[str]) -> bool:
        import fnmatch

        names = (self.program, os.path.basename(self.program))
        return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)

    def _did_you_mean(self, key: str) -> str:
        import difflib

        close = difflib.get_close_matches(key.replace("-", "_"), self.flags, n=2, cutoff=0.6)
        return f"\nDid you mean {' or '.join(f'--{name}' for name in close)}?" if close else ""


class _Indexed(str):
    """An argument that remembers its place on the line."""

    index: int

    def __new__(cls, text: str, index: int) -> _Indexed:
        self = super().__new__(cls, text)
        self.index = index
        return self
