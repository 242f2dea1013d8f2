"""What is wrong with a prototxt, and where.

Python's parser says little more than "no", in words and columns that change with the version. So a text that
it refused is walked through once more, here, against the schema. The walk follows protobuf's C++ parser, of
which the original printed message and position, and adds a reason in plain words.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NoReturn

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from caffetools.formats.prototxt_tokens import Problem, Token, shown, tokens
from caffetools.proto import caffe_pb2, forks
from caffetools.proto.fields import is_repeated

_INTEGERS = {
    FieldDescriptor.TYPE_INT32: (2**31, 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (2**63, 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
}
_TRUTH = {"true", "True", "t", "false", "False", "f"}
_OTHER_ROOT = {
    "SolverParameter": ("a net, where a solver is expected", caffe_pb2.NetParameter.DESCRIPTOR),
    "NetParameter": ("a solver, where a net is expected", caffe_pb2.SolverParameter.DESCRIPTOR),
}


@dataclass
class _Scope:
    """A message that is being read: where it was opened, and where its fields were given."""

    type: Descriptor
    opened: Token | None = None
    given: dict[str, Token] = field(default_factory=dict)


@dataclass(frozen=True)
class Skipped:
    """A field of a fork that changes the speed only: what it is called, and the bytes of the text that hold it."""

    name: str
    line: int
    start: int
    end: int


def find_problem(text: str, root: Descriptor) -> tuple[Problem | None, list[Skipped]]:
    """The first thing in `text` that a message of type `root` cannot hold, or None if there is nothing; and the fields
    before it that may be left out."""
    skipped: list[Skipped] = []
    try:
        _Walk(text, root, skipped).run()
    except Problem as problem:
        return problem, skipped
    return None, skipped


class _Walk:
    """A recursive descent over the tokens; stops at the first error by raising it."""

    def __init__(self, text: str, root: Descriptor, skipped: list[Skipped]) -> None:
        self.tokens = tokens(text)
        self.scopes = [_Scope(root)]
        self.skipped = skipped
        self.last: Token | None = None
        self.token = next(self.tokens)

    def run(self) -> None:
        while self.token.kind != "end":
            self.field()

    # tokens

    def advance(self) -> Token:
        token = self.last = self.token
        self.token = next(self.tokens, token)
        return token

    def accept(self, *texts: str) -> bool:
        if self.token.kind == "symbol" and self.token.text in texts:
            self.advance()
            return True
        return False

    def fail(self, message: str, reason: str, at: Token | None = None) -> NoReturn:
        at = at or self.token
        if at.kind == "end" and len(self.scopes) > 1:
            opened = self.scopes[-1].opened
            place = f"{opened.line}:{opened.column}"
            reason = f'the file ends within {opened.text}, opened at {place}: a "}}" is missing'
        raise Problem(at.line, at.column, message, reason)

    # grammar

    def field(self) -> None:
        scope = self.scopes[-1]
        name = self.token
        if name.kind != "name":
            reason = f"a field name is expected, not {shown(name.text)}"
            if name.text == "}" and len(self.scopes) == 1:
                reason = 'a "}" that closes nothing'
            self.fail(f"Expected identifier, got: {name.text}", reason)
        self.advance()
        found = scope.type.fields_by_name.get(name.text)
        if found is None and forks.changes_speed_only(scope.type.full_name, name.text):
            self.skip(name)
            return
        if found is None:
            message = f'Message type "{scope.type.full_name}" has no field named "{name.text}".'
            self.fail(message, self.unknown_field(name.text))
        if not is_repeated(found):
            if name.text in scope.given:
                first = scope.given[name.text]
                self.fail(
                    f'Non-repeated field "{name.text}" is specified multiple times.',
                    f"{name.text} is given twice, first at {first.line}:{first.column}",
                )
            scope.given[name.text] = name
        if found.message_type is not None:
            self.accept(":")
        elif not self.accept(":"):
            got = shown(self.token.text)
            self.fail(
                f'Expected ":", found "{self.token.text}".',
                f'":" and a value must follow {name.text}, not {got}',
            )
        if is_repeated(found) and self.accept("["):
            self.list(found, name)
        else:
            self.value(found, name)
        self.accept(";", ",")

    def skip(self, name: Token) -> None:
        """Go past the value of a field that is not in the schema."""
        self.accept(":")
        depth = 0
        while True:
            token = self.advance()
            if token.kind == "end":
                self.fail("Expected a value.", f"{name.text} has no value", at=token)
            depth += {"{": 1, "<": 1, "[": 1, "}": -1, ">": -1, "]": -1}.get(token.text, 0) * (token.kind == "symbol")
            # A sign and its number, or two strings side by side, are one value.
            goes_on = token.text == "-" or (token.kind == self.token.kind == "string")
            if depth <= 0 and not goes_on:
                break
        self.accept(";", ",")
        self.skipped.append(Skipped(name.text, name.line, name.start, self.last.end))

    def list(self, found: FieldDescriptor, name: Token) -> None:
        if self.accept("]"):
            return
        self.value(found, name)
        while not self.accept("]"):
            if not self.accept(","):
                got = shown(self.token.text)
                self.fail(
                    f'Expected ",", found "{self.token.text}".',
                    f'"," or "]" is expected in the list, not {got}',
                )
            self.value(found, name)

    def value(self, found: FieldDescriptor, name: Token) -> None:
        if found.message_type is not None:
            self.nested(found.message_type, name)
        elif found.name == "engine" and self.token.text in forks.ENGINES:
            self.skip(name)
        elif found.enum_type is not None:
            self.enum(found)
        else:
            _SCALARS[found.type](self, found)

    def nested(self, kind: Descriptor, name: Token) -> None:
        closing = "}" if self.token.text == "{" else ">"
        if not self.accept("{", "<"):
            self.fail(
                f'Expected "{{", found "{self.token.text}".',
                f"{name.text} is a {kind.name}: write {name.text} {{ ... }}",
            )
        self.scopes.append(_Scope(kind, name))
        while self.token.text not in ("}", ">") or self.token.kind != "symbol":
            self.field()
        if not self.accept(closing):
            got = shown(self.token.text)
            self.fail(
                f'Expected "{closing}", found "{self.token.text}".', f'"{closing}" is expected, not {got}'
            )
        self.scopes.pop()

    def integer(self, found: FieldDescriptor) -> None:
        below, above = _INTEGERS[found.type]
        negative = below > 0 and self.accept("-")
        token = self.token
        if token.kind != "integer":
            reason = f"{found.name} takes a whole number, not {shown(token.text)}"
            if token.text == "-":
                reason = f"{found.name} cannot be negative"
            self.fail(f"Expected integer, got: {token.text}", reason)
        if _integer(token.text) > (below if negative else above):
            self.fail(f"Integer out of range ({token.text})", f"{token.text} is too large for {found.name}")
        self.advance()

    def real(self, found: FieldDescriptor) -> None:
        self.accept("-")
        token = self.token
        words = ("inf", "infinity", "nan")
        if token.kind not in ("integer", "float") and token.text.lower() not in words:
            got = shown(token.text)
            self.fail(f"Expected double, got: {token.text}", f"{found.name} takes a number, not {got}")
        self.advance()

    def boolean(self, found: FieldDescriptor) -> None:
        token = self.advance()
        reason = f"{found.name} takes true or false, not {shown(token.text)}"
        if token.kind == "integer":
            if _integer(token.text) > 1:
                self.fail(f"Integer out of range ({token.text})", reason, at=token)
        elif token.kind != "name":
            self.fail(f"Expected identifier, got: {token.text}", reason, at=token)
        elif token.text not in _TRUTH:
            self.fail(f'Invalid value for boolean field "{found.name}". Value: "{token.text}".', reason)

    def string(self, found: FieldDescriptor) -> None:
        token = self.token
        if token.kind != "string":
            reason = f"{found.name} takes a string in quotes, not {shown(token.text)}"
            self.fail(f"Expected string, got: {token.text}", reason)
        while self.token.kind == "string":
            try:
                self.token.text.encode("latin-1").decode("utf-8")
            except UnicodeDecodeError:
                self.fail(
                    "String field contains invalid UTF-8 data.",
                    "this string is no UTF-8: save the file as UTF-8",
                )
            self.advance()

    def enum(self, found: FieldDescriptor) -> None:
        kind = found.enum_type
        negative = self.accept("-")
        token = self.advance()
        if token.kind == "integer":
            number = -_integer(token.text) if negative else _integer(token.text)
            known = number in kind.values_by_number
        elif token.kind == "name" and not negative:
            known = token.text in kind.values_by_name
        else:
            reason = f"{found.name} takes {_listed(kind.values_by_name)}, not {shown(token.text)}"
            self.fail(f"Expected integer or identifier, got: {token.text}", reason, at=token)
        if not known:
            self.fail(
                f'Unknown enumeration value of "{token.text}" for field "{found.name}".',
                f"{found.name} takes {_listed(kind.values_by_name)}, not {token.text}"
                + self.unknown_value(found, token.text),
            )

    # hints

    def unknown_value(self, found: FieldDescriptor, name: str) -> str:
        """Whose value a name is, or which one it is like."""
        fork = forks.old_type_hint(name) if found.name == "type" else None
        return f"; {fork}" if fork else _did_you_mean(name, found.enum_type.values_by_name)

    def unknown_field(self, name: str) -> str:
        """Why a name means nothing here: it is at home in another message, or misspelt."""
        here = self.scopes[-1].type
        reason = f'no field named "{name}" in {here.name}'
        for scope in reversed(self.scopes[:-1]):
            if name in scope.type.fields_by_name:
                return f'{reason}; {scope.type.name} has one: is a "}}" missing before it?'
        what, other = _OTHER_ROOT.get(here.name, ("", None))
        if len(self.scopes) == 1 and other is not None and name in other.fields_by_name:
            return f"{reason}; is this {what}?"
        homes = [
            inner.name
            for inner in here.fields
            if inner.message_type and name in inner.message_type.fields_by_name
        ]
        if 0 < len(homes) <= 4:
            return f"{reason}; it belongs into {_listed(homes)}"
        fork = forks.field_hint(here.name, name)
        if fork:
            return f"{reason}; {fork}"
        return reason + _did_you_mean(name, here.fields_by_name)


_SCALARS = {
    FieldDescriptor.TYPE_INT32: _Walk.integer,
    FieldDescriptor.TYPE_INT64: _Walk.integer,
    FieldDescriptor.TYPE_UINT32: _Walk.integer,
    FieldDescriptor.TYPE_FLOAT: _Walk.real,
    FieldDescriptor.TYPE_DOUBLE: _Walk.real,
    FieldDescriptor.TYPE_BOOL: _Walk.boolean,
    FieldDescriptor.TYPE_STRING: _Walk.string,
    FieldDescriptor.TYPE_BYTES: _Walk.string,
}


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    names = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), names, n=1)
    return f'; did you mean "{names[close[0]]}"?' if close else ""


def _listed(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def _integer(text: str) -> int:
    """C's notation: decimal, hexadecimal, or octal after a zero."""
    if text[:2] in ("0x", "0X"):
        return int(text, 16)
    return int(text, 8) if text[0] == "0" and not set(text) & {"8", "9"} else int(text)
