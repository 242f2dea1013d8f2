"""Old solver files: the enum `solver_type` becomes the string `type`; and the default `snapshot_prefix`."""

from __future__ import annotations

import os

from caffetools.glog import check, info
from caffetools.proto import caffe_pb2
from caffetools.upgrade.passes import Pass, run_passes

_OLD = caffe_pb2.SolverParameter

TYPES = {
    _OLD.SGD: "SGD",
    _OLD.NESTEROV: "Nesterov",
    _OLD.ADAGRAD: "AdaGrad",
    _OLD.RMSPROP: "RMSProp",
    _OLD.ADADELTA: "AdaDelta",
    _OLD.ADAM: "Adam",
}


def needs_type(solver: caffe_pb2.SolverParameter) -> bool:
    """Whether the solver's type is given as an enum."""
    return solver.HasField("solver_type")


def upgrade_type(solver: caffe_pb2.SolverParameter) -> caffe_pb2.SolverParameter:
    """Return the solver with `type` in place of `solver_type`. Raises FatalError if it has both."""
    check(
        not solver.HasField("type"),
        "!param->has_solver_type() || !param->has_type()",
        "Failed to upgrade solver: old solver_type field (enum) and new type field (string) "
        "cannot be both specified in solver proto text.",
    )
    upgraded = caffe_pb2.SolverParameter()
    upgraded.CopyFrom(solver)
    upgraded.type = TYPES[solver.solver_type]
    upgraded.ClearField("solver_type")
    return upgraded


SOLVER_PASSES = (
    Pass(
        needed=needs_type,
        run=upgrade_type,
        # the stray apostrophe is the original's
        attempt="Attempting to upgrade input file specified using deprecated 'solver_type' field (enum)'",
        success=(
            "Successfully upgraded file specified using deprecated 'solver_type' field (enum) "
            "to 'type' field (string)."
        ),
        outlook=(
            "Note that future Caffe releases will only support 'type' field (string) for a solver's type."
        ),
    ),
)


def upgrade_solver(param: caffe_pb2.SolverParameter, path: str) -> caffe_pb2.SolverParameter:
    """Return `param`, read from `path`, in today's form; `param` itself if it is in that form already."""
    return run_passes(SOLVER_PASSES, param, path).message


def with_snapshot_prefix(param: caffe_pb2.SolverParameter, path: str) -> caffe_pb2.SolverParameter:
    """Return the solver with a `snapshot_prefix` that names files.

    Unset, it is the solver's path without extension; the name of a folder gets the solver's name appended.
    """
    stem = os.path.splitext(path)[0]
    if not param.HasField("snapshot_prefix"):
        prefix, reason = stem, "was not specified and is set to"
    elif os.path.isdir(param.snapshot_prefix):
        prefix = os.path.join(param.snapshot_prefix, os.path.basename(stem))
        reason = "was a directory and is replaced to"
    else:
        return param
    completed = caffe_pb2.SolverParameter()
    completed.CopyFrom(param)
    completed.snapshot_prefix = prefix
    info(f"snapshot_prefix {reason} {prefix}")
    return completed
