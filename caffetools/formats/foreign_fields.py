"""Caffemodels of forks in which a field's number belongs to something else than here.

A fork gave numbers to its own settings of layers, some of which Caffe took later. Mostly a message of one kind reads as
one of the other with nothing in it; where it does not, the whole file would be refused. The settings that a model holds
are not needed for its weights, so that those are left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.message import DecodeError

from caffetools.formats.wire import read_varint, varint
from caffetools.proto import caffe_pb2

_NET = caffe_pb2.NetParameter.DESCRIPTOR.fields_by_name
_LAYER = caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_number
_SIZES = {1: 8, 5: 4}  # of numbers with a fixed size, by their kind on the wire


def read_net(data: bytes) -> tuple[caffe_pb2.NetParameter, list[str]] | None:
    """Read a net without the settings of layers that are none, and say which these are.

    Returns None where there are none, or where that does not help: then the file is damaged.
    """
    parts, dropped = [], []
    try:
        for number, kind, content, whole in _fields(memoryview(data)):
            if number == _NET["layer"].number and kind == 2:
                kept = _settings_that_are_some(content, dropped)
                whole = _length_delimited(number, kept)
            parts.append(bytes(whole))
        net = caffe_pb2.NetParameter.FromString(b"".join(parts))
    except (DecodeError, IndexError, ValueError):
        return None
    return (net, dropped) if dropped and net.IsInitialized() else None


def _settings_that_are_some(layer: memoryview, dropped: list[str]) -> bytes:
    parts, said = [], {"name": "", "type": ""}
    for number, _, content, whole in _fields(layer):
        field = _LAYER.get(number)
        if field is not None and field.name in said:
            said[field.name] = bytes(content).decode("utf-8", "replace")
        if field is not None and field.name.endswith("_param") and not _is_message(field, content):
            if field.name == f"{said['type'].lower()}_param":
                raise ValueError("these are its own settings, and damaged")
            name = said["name"]
            dropped.append(f"field {number} of layer '{name}', which is {field.name} in Caffe")
        else:
            parts.append(bytes(whole))
    return b"".join(parts)


def _is_message(field, content) -> bool:
    message = getattr(caffe_pb2, field.message_type.name)()
    try:
        message.ParseFromString(bytes(content))
    except DecodeError:
        return False
    return message.IsInitialized()


def _fields(wire: memoryview) -> Iterator[tuple[int, int, memoryview, memoryview]]:
    """Yield number, kind, content and all bytes of each field. Errors: IndexError, ValueError for no message."""
    position = 0
    while position < len(wire):
        start = position
        key, position = read_varint(wire, position)
        kind = key & 7
        if kind == 0:
            first = position
            _, position = read_varint(wire, position)
        elif kind == 2:
            size, first = read_varint(wire, position)
            position = first + size
        elif kind in _SIZES:
            first, position = position, position + _SIZES[kind]
        else:
            raise ValueError(f"fields of kind {kind} are not there")
        if position > len(wire):
            raise IndexError("the message ends within a field")
        yield key >> 3, kind, wire[first:position], wire[start:position]


def _length_delimited(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content
