"""Tokens of a prototxt, with the positions and complaints of protobuf's C++ tokenizer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""[^\S\n]+ | \n | \#[^\n]*
    | (?P<name>[A-Za-z_]\w*)
    | (?P<bad_exponent>(?:\d+\.?\d*|\.\d+)[eE][+-]?(?!\d)(?![+-]\d))
    | (?P<float>(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?[fF]? | \d+[eE][+-]?\d+[fF]? | \d+[fF])
    | (?P<bad_octal>0[0-7]*(?=[89])) | (?P<integer>0[xX][0-9a-fA-F]+|\d+)
    | (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
    | (?P<open_string>"(?:\\.|[^"\\\n])*|'(?:\\.|[^'\\\n])*)
    | (?P<foreign>[^\x20-\x7e\s]+)
    | (?P<symbol>.)""",
    re.VERBOSE | re.ASCII,
)
_TAB = 8
_NUMBERS = ("integer", "float")


@dataclass
class Problem(Exception):
    """An error in a text: its position (from 1), the C++ parser's message, and the reason in plain words."""

    line: int
    column: int
    message: str
    reason: str


@dataclass
class Token:
    """A piece of text: a name, float, integer, string, symbol, or the end; its position counts from 1.

    start: how many bytes of the text come before it.
    """

    kind: str
    text: str
    line: int
    column: int
    start: int = 0

    @property
    def end(self) -> int:
        """How many bytes of the text it and all before it are."""
        return self.start + len(self.text)


def tokens(text: str) -> Iterator[Token]:
    """The tokens of a text.

    Lines and columns are those of C++: columns count bytes, and a tab goes to the next multiple of 8. Each
    byte of a token is a character of its text.

    :raises Problem: for what is no token
    """
    line, column = 1, 0
    before = None
    for match in _TOKEN.finditer(text.encode("utf-8", "surrogateescape").decode("latin-1")):
        kind, piece = match.lastgroup, match.group()
        if before in _NUMBERS and (kind == "name" or kind in _NUMBERS):
            reason = f"{shown(piece)} directly after a number"
            raise Problem(line, column + 1, "Need space between number and identifier.", reason)
        if kind in _COMPLAINTS:
            offset, message, reason = _COMPLAINTS[kind](piece)
            raise Problem(line, column + offset + 1, message, reason)
        if kind:
            yield Token(kind, piece, line, column + 1, match.start())
        before = kind
        if piece == "\n":
            line, column = line + 1, 0
        elif "\t" in piece:
            for char in piece:
                column += _TAB - column % _TAB if char == "\t" else 1
        else:
            column += len(piece)
    yield Token("end", "", line, column + 1)


def shown(text: str) -> str:
    """A token as a message quotes it: its bytes put together to characters again, invisible ones escaped."""
    if not text:
        return "the end of the file"
    original = text.encode("latin-1").decode("utf-8", "backslashreplace")
    visible = "".join(char if char.isprintable() else repr(char)[1:-1] for char in original)
    return visible if visible[0] in "\"'" else f'"{visible}"'


def _bad_exponent(piece: str) -> tuple[int, str, str]:
    return (
        len(piece),
        '"e" must be followed by exponent.',
        f"{shown(piece)} is no number: its exponent is missing",
    )


def _bad_octal(piece: str) -> tuple[int, str, str]:
    message = "Numbers starting with leading zero must be in octal."
    return len(piece), message, "a number that begins with 0 is octal and has no digit above 7"


def _open_string(piece: str) -> tuple[int, str, str]:
    return (
        len(piece),
        "String literals cannot cross line boundaries.",
        f"the string {shown(piece)} is not closed on its line",
    )


def _foreign(piece: str) -> tuple[int, str, str]:
    code = ord(piece[0])
    reason = f"{shown(piece)} outside of a string; quotes and signs must be plain ASCII"
    if code < 128:
        return 0, "Invalid control characters encountered in text.", reason
    return 0, f"Interpreting non ascii codepoint {code}.", reason


_COMPLAINTS = {
    "bad_exponent": _bad_exponent,
    "bad_octal": _bad_octal,
    "open_string": _open_string,
    "foreign": _foreign,
}
