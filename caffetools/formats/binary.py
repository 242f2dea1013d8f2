"""Binary protos: weights, solver states, mean images."""

from __future__ import annotations

import os
from typing import TypeVar

from google.protobuf.message import DecodeError, EncodeError, Message

from caffetools import glog
from caffetools.formats import files, foreign_fields
from caffetools.proto import caffe_pb2

M = TypeVar("M", bound=Message)

#: The largest message that protobuf can hold, in bytes; what to say and to do about one that is larger.
LIMIT = 2**31 - 1
TOO_LARGE = "larger than 2 GB, which is all that protobuf can hold; use HDF5 (snapshot_format: HDF5)"

_ARGUMENTS = {"NetParameter": "param_file, param", "SolverParameter": "param_file, param"}


def read(path: str | os.PathLike[str], message_class: type[M]) -> M:
    """Read a binary file as a message.

    :raises FatalError: the original's text, then the reason
    """
    path = os.fspath(path)
    message = message_class()
    kind = message.DESCRIPTOR.name
    reason = ""
    if os.path.isfile(path) and os.path.getsize(path) > LIMIT:
        reason = "it is larger than 2 GB, which is all that protobuf can hold; keep it as HDF5 (.h5)"
    else:
        data = files.read_bytes(path)
        try:
            message.ParseFromString(data)
        except DecodeError:
            reason = _refusal(data, kind)
        else:
            reason = _missing(message)
        if reason and message_class is caffe_pb2.NetParameter:
            found = foreign_fields.read_net(data)
            if found is not None:
                message, dropped = found
                reason = ""
                for field in dropped:
                    glog.info(f"{path}: {field}, is left out: a fork of Caffe uses its number for something else")
    if reason:
        expression = f"ReadProtoFromBinaryFile({_ARGUMENTS.get(kind, 'filename, proto')})"
        glog.check(False, expression, f"Failed to parse {kind} file: {path} ({reason})")
    return message


def write(path: str | os.PathLike[str], message: Message) -> None:
    """Write a message to a binary file, atomically.

    :raises FatalError: if it is larger than protobuf allows, or cannot be written
    """
    try:
        data = message.SerializeToString()
        reason = "" if len(data) <= LIMIT else f"it is {TOO_LARGE}"
    except (EncodeError, ValueError):  # ValueError: how some versions say that it is too large
        reason = _missing(message) or f"it is {TOO_LARGE}"
    if reason:
        refusal = f"Cannot write {files.final_name(path)}: {reason}"
        glog.check(False, "proto.SerializeToOstream(&output)", refusal)
    with files.atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(data)


def _missing(message: Message) -> str:
    if message.IsInitialized():
        return ""
    return "required fields are missing: " + ", ".join(message.FindInitializationErrors())


def _refusal(data: bytes, kind: str) -> str:
    """Why the contents of a file are no such message."""
    if data.startswith(b"\x89HDF\r\n\x1a\n"):
        return "it is an HDF5 file: its name must end in .h5"
    if data.isascii() and b"\0" not in data:
        return f"it is a text file, where a binary {kind} is expected"
    return "it is truncated, damaged, or another kind of file"
