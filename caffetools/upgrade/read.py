"""Net and solver files, read and brought into today's form."""

from __future__ import annotations

import os

from caffetools.formats import binary, prototxt
from caffetools.proto import caffe_pb2
from caffetools.upgrade.net import upgrade_net
from caffetools.upgrade.solver import upgrade_solver, with_snapshot_prefix

#: Endings of files that hold a NetParameter in binary form; all others hold text.
BINARY_ENDINGS = (".caffemodel", ".binaryproto")


def read_net_text(path: str | os.PathLike[str]) -> caffe_pb2.NetParameter:
    """Read a net from a prototxt. Raises FatalError, with line and column, if it is none."""
    return upgrade_net(prototxt.read(path, caffe_pb2.NetParameter), os.fspath(path))


def read_net_binary(path: str | os.PathLike[str]) -> caffe_pb2.NetParameter:
    """Read a net, weights and all, from a caffemodel. Raises FatalError if it is none."""
    return upgrade_net(binary.read(path, caffe_pb2.NetParameter), os.fspath(path))


def read_net(path: str | os.PathLike[str]) -> caffe_pb2.NetParameter:
    """Read a net from a caffemodel (by the file's ending) or else from a prototxt.

    For tools that take either. The classic commands know what they expect: to them a definition is text and
    weights are binary, whatever their names.
    """
    read = read_net_binary if os.fspath(path).endswith(BINARY_ENDINGS) else read_net_text
    return read(path)


def read_solver(path: str | os.PathLike[str]) -> caffe_pb2.SolverParameter:
    """Read a solver's prototxt. Raises FatalError, with line and column, if it is none."""
    path = os.fspath(path)
    return with_snapshot_prefix(upgrade_solver(prototxt.read(path, caffe_pb2.SolverParameter), path), path)
