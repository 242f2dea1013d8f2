"""Messages as text, character for character as protobuf's C++ printer (``DebugString``) writes them.

The original echoes every net and solver through that printer, and writes its prototxt files with it. Python's
own printer differs in the digits of numbers and in what it escapes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from caffetools.proto.fields import is_repeated


def dumps(message: Message) -> str:
    """The text form of a message: fields in the order of their numbers, a line each, nested ones indented.

    Fields that the schema does not know (a fork's, from a binary file) are left out.
    """
    return "".join(_lines(message, ""))


def _lines(message: Message, indent: str) -> Iterator[str]:
    for field, value in message.ListFields():  # sorted by number
        values = value if is_repeated(field) else (value,)
        if field.message_type is not None:
            for nested in values:
                yield f"{indent}{field.name} {{\n"
                yield from _lines(nested, indent + "  ")
                yield f"{indent}}}\n"
        else:
            text = _enum_text(field) if field.enum_type is not None else _TEXT.get(field.type, str)
            for scalar in values:
                yield f"{indent}{field.name}: {text(scalar)}\n"


def _enum_text(field: FieldDescriptor) -> Callable[[int], str]:
    names = field.enum_type.values_by_number
    return lambda number: names[number].name if number in names else str(number)


def _bool_text(value: bool) -> str:
    return "true" if value else "false"


def _float_text(value: float) -> str:
    """A float32 with six digits if they suffice to tell it from its neighbours, else with nine."""
    text = f"{value:.6g}"
    if not math.isfinite(value) or (_float32(float(text)) == value and not 0 < abs(value) < _SMALLEST_NORMAL):
        return text
    return f"{value:.9g}"


_SMALLEST_NORMAL = (
    2.0**-126
)  # C's strtof calls everything between it and zero a range error, and nine digits follow


def _double_text(value: float) -> str:
    """A float64 with fifteen digits if they suffice, else with seventeen."""
    text = f"{value:.15g}"
    return text if not math.isfinite(value) or float(text) == value else f"{value:.17g}"


def _float32(value: float) -> float:
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:  # six digits of the largest float32 are more than it
        return math.inf


_ESCAPES = {
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
    ord('"'): '\\"',
    ord("'"): "\\'",
    ord("\\"): "\\\\",
}
_BYTES = [_ESCAPES.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}") for byte in range(256)]


def _string_text(value: str | bytes) -> str:
    """In double quotes; every byte that is no printable ASCII in octal."""
    data = value.encode() if isinstance(value, str) else value
    return f'"{"".join(map(_BYTES.__getitem__, data))}"'


_TEXT: dict[int, Callable[[Any], str]] = {
    FieldDescriptor.TYPE_BOOL: _bool_text,
    FieldDescriptor.TYPE_FLOAT: _float_text,
    FieldDescriptor.TYPE_DOUBLE: _double_text,
    FieldDescriptor.TYPE_STRING: _string_text,
    FieldDescriptor.TYPE_BYTES: _string_text,
}
