"""The reporting flags (--help and its kin, --version), in gflags' layout:

    <program>: <usage message>

      Flags from <source file>:
        -name (help text) type: string default: "" currently: "x"

Flags come by source file and name; their lines end before column 80.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import groupby

from caffetools import __version__
from caffetools.cli.flags import Flag, Value

_WIDTH = 79
Values = Mapping[str, Value]


class Report:
    """What the reporting flags can print about one program.

    :param program: its name
    :param usage: its usage message
    :param flags: all flags it accepts
    :param own_flags: those that the command uses, which plain --help shows with the shared ones
    :param file: its source file
    """

    def __init__(
        self,
        program: str,
        usage: str,
        flags: Iterable[Flag],
        own_flags: Iterable[Flag],
        file: str,
        values: Values,
    ) -> None:
        self.program = program
        self.usage = usage
        self.flags = sorted(flags, key=lambda flag: (flag.file, flag.name))
        self.unused = {flag.name for flag in self.flags if flag.file == file} - {
            flag.name for flag in own_flags
        }
        self.file = file
        self.values = values

    def wanted(self) -> tuple[str, int] | None:
        """Text and exit code of the first reporting flag that is set; help exits with 1, as in gflags."""
        for name, (write, code) in _REPORTS.items():
            if self.values[name]:
                return write(self), code
        return None

    def help(self) -> str:
        """The flags that the command uses, its own and the shared ones."""
        return self._text([flag for flag in self.flags if flag.name not in self.unused])

    def short(self) -> str:
        """The command's own flags."""
        return self._text([flag for flag in self.flags if flag.file == self.file])

    def matching(self, part: str) -> str:
        """Flags of the source files whose name, with a slash before it, contains `part`."""
        return self._text([flag for flag in self.flags if part in f"/{flag.file}"])

    def xml(self) -> str:
        """All flags as XML."""
        lines = ['<?xml version="1.0"?>', "<AllFlags>", _element("program", self.program)]
        lines.append(_element("usage", self.usage))
        for flag in self.flags:
            parts = {
                "file": flag.file,
                "name": flag.name,
                "meaning": flag.help,
                "default": _plain(flag.default_value),
                "current": _plain(self.values[flag.name]),
                "type": flag.type_name,
            }
            lines.append(f"<flag>{''.join(_element(tag, text) for tag, text in parts.items())}</flag>")
        return "\n".join([*lines, "</AllFlags>"])

    def completions(self) -> str:
        """Flags that begin with --tab_completion_word."""
        word = str(self.values["tab_completion_word"]).lstrip("-")
        return "\n".join(f"--{flag.name}" for flag in self.flags if flag.name.startswith(word))

    def _text(self, flags: list[Flag]) -> str:
        lines = [f"{self.program}: {self.usage.rstrip()}"]
        for file, group in groupby(flags, key=lambda flag: flag.file):
            lines += ["", f"  Flags from {file}:"]
            lines += [_describe(flag, self.values[flag.name]) for flag in group]
        if not flags:
            lines += ["", "  No modules matched: use -help"]
        return "\n".join(lines)


_REPORTS: dict[str, tuple[Callable[[Report], str], int]] = {
    "tab_completion_word": (Report.completions, 0),
    "helpshort": (Report.short, 1),
    "help": (Report.help, 1),
    "helpfull": (lambda report: report._text(report.flags), 1),
    "helpon": (lambda report: report.matching(f"/{report.values['helpon']}."), 1),
    "helpmatch": (lambda report: report.matching(str(report.values["helpmatch"])), 1),
    "helppackage": (lambda report: report.matching(f"/{report.file.rpartition('/')[0]}/"), 1),
    "helpxml": (Report.xml, 1),
    "version": (lambda report: f"{report.program} version {__version__}", 0),
}


def _describe(flag: Flag, value: Value) -> str:
    """One flag's lines: words up to column 79, six spaces before every further line."""
    words = [f"-{flag.name}", *f"({flag.help})".split(), f"type: {flag.type_name}"]
    words.append(f"default: {_quoted(flag.default_value)}")
    if value != flag.default_value:
        words.append(f"currently: {_quoted(value)}")
    lines = ["   "]
    for word in words:
        if len(lines[-1]) + 1 + len(word) > _WIDTH:
            lines.append("     ")
        lines[-1] += f" {word}"
    return "\n".join(lines)


def _plain(value: Value) -> str:
    if isinstance(value, tuple):
        return " ".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _quoted(value: Value) -> str:
    return f'"{_plain(value)}"' if isinstance(value, (str, tuple)) else _plain(value)


def _element(tag: str, text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"<{tag}>{escaped}</{tag}>"
