"""Rewrite old net and solver files in today's form.

Each function returns the exit status: 0, 1 if something in the file could not be carried over, 2 if it cannot
be read. The new file is written in the first two cases, also if the old one is in today's form already.
"""

from __future__ import annotations

import os
from types import ModuleType

from google.protobuf.message import Message

from caffetools.formats import binary, prototxt
from caffetools.glog import FatalError, error, info
from caffetools.proto import caffe_pb2
from caffetools.upgrade import NET_PASSES, SOLVER_PASSES, run_passes

_FORMS = {"text": prototxt, "binary": binary}
_PASSES = {caffe_pb2.NetParameter: NET_PASSES, caffe_pb2.SolverParameter: SOLVER_PASSES}


def upgrade_net_text(source: str, target: str) -> int:
    """Upgrade a net's prototxt."""
    return _upgrade(source, target, "text", caffe_pb2.NetParameter)


def upgrade_net_binary(source: str, target: str) -> int:
    """Upgrade a caffemodel."""
    return _upgrade(source, target, "binary", caffe_pb2.NetParameter)


def upgrade_solver_text(source: str, target: str) -> int:
    """Upgrade a solver's prototxt."""
    return _upgrade(source, target, "text", caffe_pb2.SolverParameter)


def _upgrade(source: str, target: str, form: str, message_class: type[Message]) -> int:
    kind = message_class.DESCRIPTOR.name
    file_format: ModuleType = _FORMS[form]
    try:
        old = file_format.read(source, message_class)
    except FatalError as err:
        if not os.path.exists(source):
            raise  # a missing file is fatal, as to every other tool
        reason = str(err).partition(f" file: {source}")[2] or f" ({err})"
        error(f"Failed to parse input {form} file as {kind}: {source}{reason}")
        return 2
    outcome = run_passes(_PASSES[message_class], old, source)
    if not outcome.changed:
        error(f"File already in latest proto format: {source}")
    if not outcome.complete:
        error("Encountered error(s) while upgrading prototxt; see details above.")
    file_format.write(target, outcome.message)
    info(f"Wrote upgraded {kind} {form} proto to {target}")
    return 0 if outcome.complete else 1
