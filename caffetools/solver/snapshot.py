"""Snapshots: the weights, the solver's state and a small side file, each written beside its name and renamed.

`P_iter_N.caffemodel` and `P_iter_N.solverstate` (HDF5: with `.h5` added) are the original's formats. The side file
`P_iter_N.resume.json` keeps what the original forgot: the data cursors, the random state and the window of losses, so
that a resumed run gives the numbers of an uninterrupted one; beside these, how the run has gone (see `control`). Where
a moving average of the weights is kept, one file holds the average and the other the weights: `P_iter_N.caffemodel`
what `ema_snapshot` says, `P_iter_N.resume.caffemodel` the rest. The solverstate comes last: where it exists, all of
them do.
`P_best` is the best snapshot, which is replaced by better ones.

A snapshot that is taken during the tests of an iteration holds what was there before them: they are done again.
"""

from __future__ import annotations

import contextlib
import glob
import json
import time
from pathlib import Path

from caffetools.formats import binary, files, hdf5
from caffetools.formats import blob as blob_format
from caffetools.glog import check_eq, fatal, info, warning
from caffetools.net import weights
from caffetools.proto import caffe_pb2

RESUME_VERSION = 1
LEFT_BEHIND = 600  # seconds after which a temporary file is nobody's


def check_prefix(param: caffe_pb2.SolverParameter) -> None:
    """Try before training whether snapshots can be written, and remove what a killed run left of one."""
    if not param.snapshot_prefix:
        fatal("In solver params, snapshot is specified but snapshot_prefix is not")
    probe = Path(f"{param.snapshot_prefix}_iter_0.tempfile")
    try:
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        fatal(
            f"Cannot write to snapshot prefix '{param.snapshot_prefix}'.  Make sure that the directory exists and is "
            f"writable. ({error.strerror})"
        )
    _sweep(Path(param.snapshot_prefix))


def _sweep(prefix):
    """Remove the temporary files of snapshots that a kill cut short; young ones may be another run's."""
    for names in ("_iter_*.tmp", "_best.*.tmp"):
        for path in prefix.parent.glob(f".{glob.escape(prefix.name)}{names}"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > LEFT_BEHIND:
                    path.unlink()


def stem_of(solver) -> str:
    """Return how the names of a snapshot of the present iteration begin."""
    return f"{solver.param.snapshot_prefix}_iter_{solver.iter}"


def state_of(solver, stem: str) -> str:
    """Return the name of the solverstate of a snapshot. stem: how its names begin."""
    in_hdf5 = solver.param.snapshot_format == caffe_pb2.SolverParameter.HDF5
    return f"{stem}.solverstate{'.h5' if in_hdf5 else ''}"


def write(solver, stem: str) -> None:
    """Write the snapshot of a solver at its present iteration.

    stem: how its names begin. What bears them already is replaced.
    """
    param, average = solver.param, solver.average
    in_hdf5 = param.snapshot_format == caffe_pb2.SolverParameter.HDF5
    suffix, kind = (".h5", "HDF5 file") if in_hdf5 else ("", "binary proto file")
    model, other = (f"{stem}.{name}{suffix}" for name in ("caffemodel", "resume.caffemodel"))
    state = state_of(solver, stem)
    averaged = average is not None and average.values is not None
    moment = solver.moment()
    # All are complete on disk before the first is renamed; leaving the block renames them, the last one first.
    with (
        files.atomic_path(state) as new_state,
        files.atomic_path(side_file(state)) as new_side,
        files.atomic_path(other) if averaged else contextlib.nullcontext() as new_other,
        files.atomic_path(model) as new_model,
    ):
        info(f"Snapshotting to {kind} {model}")
        with average.shown(param.ema_snapshot) if averaged else contextlib.nullcontext():
            _write_weights(solver, new_model)
        if averaged:
            with average.shown(not param.ema_snapshot):
                _write_weights(solver, new_other)
        data = {"version": RESUME_VERSION, "iter": solver.iter, **moment, "snapshots": solver.retention.stems}
        if averaged:
            data["average"] = "caffemodel" if param.ema_snapshot else "resume.caffemodel"
        Path(new_side).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        info(f"Snapshotting solver state to {kind} {state}")
        if in_hdf5:
            hdf5.write_state(new_state, solver.iter, model, moment["current_step"], solver.history)
        else:
            binary.write(new_state, _state_proto(solver, model, moment["current_step"]))
        # One that is replaced has no state while its files are renamed: a kill leaves no mixture that looks whole.
        Path(state).unlink(missing_ok=True)


def _write_weights(solver, path):
    param = solver.param
    if param.snapshot_format == caffe_pb2.SolverParameter.HDF5:
        weights.write_hdf5(solver.net, path, param.snapshot_diff)
    else:
        binary.write(path, solver.net.to_proto(param.snapshot_diff))


def restore(solver, path: str) -> None:
    """Take iteration, weights, history and, where the side file is there, everything else from a snapshot."""
    if not Path(path).exists():
        fatal(f"Check failed: fd != -1 (-1 vs. -1) File not found: {path}")
    if ".caffemodel" in Path(path).name:
        fatal(
            f"{path} holds weights, not the state of a solver: give its .solverstate to --snapshot to resume, or this "
            "file to --weights to start from these weights"
        )
    if path.endswith(".h5"):
        solver.iter, learned_net, solver.current_step, history = hdf5.read_state(path)
    else:
        state = binary.read(path, caffe_pb2.SolverState)
        solver.iter, learned_net, solver.current_step = state.iter, state.learned_net, state.current_step
        history = [blob_format.to_array(proto) for proto in state.history]
    if learned_net:
        model = beside(learned_net, path)
        if not Path(model).exists():
            fatal(f"Check failed: fd != -1 (-1 vs. -1) File not found: {model} (the weights that belong to {path})")
        weights.copy_from(solver.net, model)
    check_eq(
        len(history),
        len(solver.history),
        "state.history_size() == history_.size()",
        f"Incorrect length of history blobs. ({path} was written by another solver type or for another net)",
    )
    info("SGDSolver: restoring history")
    for i, (mine, theirs) in enumerate(zip(solver.history, history, strict=True)):
        if mine.size != theirs.size:
            fatal(
                f"History blob {i} of {path} has {theirs.size} values, this net needs {mine.size}: it is of another net"
            )
        mine[...] = theirs.reshape(mine.shape)
    if solver.average is not None:
        solver.average.values = None  # it begins again with these weights, unless the side file knows better
    _restore_side_file(solver, path, learned_net and beside(learned_net, path))


def side_file(state: str) -> str:
    """Return the name of the side file of a solverstate."""
    return state.removesuffix(".h5").removesuffix(".solverstate") + ".resume.json"


def beside(model: str, state: str) -> str:
    """Find the weights that a state names: beside it, as they are written, or else where it says.

    The original looked where the state says alone. A folder that was copied would then take weights from the folder
    that it was copied from, where another run may have replaced them.
    """
    there = Path(state).parent / Path(model).name
    return str(there) if there.exists() else model


def _state_proto(solver, model, current_step):
    state = caffe_pb2.SolverState(iter=solver.iter, learned_net=model, current_step=current_step)
    for array in solver.history:
        blob_format.fill_proto(state.history.add(), array)
    return state


def _layer_states(net):
    states = {layer.name: layer.get_state() for layer in net.layers}
    return {name: state for name, state in states.items() if state is not None}


def moment(solver) -> dict:
    """Return where a run is, beside its weights and history, as JSON values."""
    return {
        "ranks": solver.group.ranks,
        "current_step": solver.current_step,
        "random": {"seed": solver.random.seed, "count": solver.random.count},
        "losses": [float(loss) for loss in solver.losses],
        "control": solver.control.get_state(),
        "train_net": _layer_states(solver.net),
        "test_nets": [_layer_states(net) for net in solver.test_nets],
        "loss_scale": None if solver.loss_scale is None else solver.loss_scale.read(),
    }


def moments(solver) -> dict:
    """Return where the processes that train together are: `moment` of rank 0, and of the others in "others"."""
    own = moment(solver)
    others = solver.group.gather(own)[1:]
    return {**own, "others": others} if others else own


def _restore_side_file(solver, state, model):
    """Take everything from the side file, or, where it is not for this process or another of the group, nothing."""
    path, group = side_file(state), solver.group
    there = Path(path).exists()
    if not group.agree(lambda: there, there):
        return
    problem = ""
    with contextlib.ExitStack() as undo:
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            if data["version"] != RESUME_VERSION or data["iter"] != solver.iter:
                problem = f"{path} belongs to another snapshot or version"
            else:
                mine = _part_of(data, group, path)
                losses = [float(loss) for loss in data["losses"]]
                stems = [str(stem) for stem in data.get("snapshots", [])]
                _restore_decisions(solver, data, undo)
                if mine is not None:
                    seed, count = int(mine["random"]["seed"]), int(mine["random"]["count"])
                    _restore_layers(solver, [mine["train_net"], *mine["test_nets"]], undo)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            problem = f"{path} cannot be read ({error!r})"
        problem = _problem_of_all(group, problem)
        if problem:
            if group.leads or not group.can_ask:
                warning(f"{problem}: resuming without it, data starts from the beginning")
            return
        undo.pop_all()
    if mine is not None:
        solver.random.seed, solver.random.count = seed, count
    solver.retention.stems = stems
    solver.resume_losses(losses)
    if "average" in data and model:
        _restore_average(solver, path, model, data["average"])


def _problem_of_all(group, problem):
    """Return why one of the processes cannot use the side file, "" where all can. problem: that of this one."""
    problems = group.gather(problem)

    def first() -> str:
        for rank, text in enumerate(problems):
            if text:
                return f"{group.names[rank]}: {text}" if rank else text
        return ""

    return group.agree(first, problem)


def _part_of(data, group, path):
    """Return what of a side file tells where this process was; None where it does not tell that of all."""
    ranks, others = data.get("ranks", 1), data.get("others", [])
    if ranks == group.ranks and len(others) == ranks - 1:
        return [data, *others][group.rank]
    if group.leads:
        what = "is of a run of one process" if ranks == 1 else f"is of a run of {ranks} processes"
        if ranks == group.ranks:
            what = "does not say where all processes were"
        now = "1 goes" if group.ranks == 1 else f"{group.ranks} go"
        warning(f"{path} {what}, {now} on: data starts from the beginning")
    return None


def _restore_average(solver, side, model, averaged):
    """Give the net its weights and the average its own; one of the two is in `model`, which the net has."""
    other = side.removesuffix("json") + "caffemodel" + (".h5" if model.endswith(".h5") else "")
    if not Path(other).exists():
        fatal(f"File not found: {other} (weights that belong to {side}, beside those of {model})")
    average = solver.average
    if averaged == "caffemodel":
        if average is not None:
            average.values = solver.net.param_data.copy()
        weights.copy_from(solver.net, other)
    elif average is not None:
        kept = solver.net.param_data.copy()
        weights.copy_from(solver.net, other)
        average.values = solver.net.param_data.copy()
        solver.net.param_data[...] = kept


def _restore_decisions(solver, data, undo):
    """Take over how the run has gone. undo: an exit stack, which gets what takes it back."""
    control, loss_scale = solver.control, solver.loss_scale
    undo.callback(control.set_state, control.get_state())
    control.set_state(data.get("control", {}))
    if loss_scale is not None and data.get("loss_scale"):
        undo.callback(loss_scale.write, loss_scale.read())
        loss_scale.write([float(number) for number in data["loss_scale"]])


def _restore_layers(solver, states_of_nets, undo):
    """Give the layers their states. undo: as for `_restore_decisions`."""
    for net, states in zip([solver.net, *solver.test_nets], states_of_nets, strict=False):
        for layer in net.layers:
            before = layer.get_state() if layer.name in states else None
            if before is not None:
                undo.callback(layer.set_state, before)
                layer.set_state(states[layer.name])
