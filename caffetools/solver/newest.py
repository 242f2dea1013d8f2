"""`--snapshot=auto`: the newest snapshot of a solver's prefix that is whole, which is where a run goes on."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Iterator
from pathlib import Path

from caffetools import upgrade
from caffetools.formats import binary, hdf5
from caffetools.formats import blob as blob_format
from caffetools.glog import FatalError, fatal, warning
from caffetools.proto import caffe_pb2
from caffetools.solver.snapshot import beside, side_file

_OTHER = "it is of another solver type or net"
_NAME = re.compile(r"_iter_(\d+)\.solverstate(?:\.h5)?$")


def newest_whole(solver) -> str:
    """Return the solverstate with the highest iteration that this solver can go on from, "" if there is none.

    The best snapshot counts as well. Newer ones that are not whole are named in warnings. Errors: FatalError where
    there are whole ones and none of them fits: the run would write over those of another one.
    """
    prefix = solver.param.snapshot_prefix
    if not prefix:
        fatal("--snapshot=auto looks for snapshots of the solver's snapshot_prefix, and the solver file has none")
    other = ""
    for path in _newest_first(prefix):
        flaw = _flaw(solver, path)
        if not flaw:
            return path
        warning(f"Passing over {path}: {flaw}")
        other = other or (path if flaw == _OTHER else "")
    if other:
        fatal(f"--snapshot=auto finds {other}, but {_OTHER}: name another snapshot_prefix, or move its files away")
    return ""


def _newest_first(prefix: str) -> Iterator[str]:
    folder, name = Path(prefix).parent, glob.escape(Path(prefix).name)
    numbered: list[tuple[int, str]] = []
    for path in folder.glob(f"{name}_iter_*.solverstate*"):
        match = _NAME.search(path.name)
        if match and path.name == f"{Path(prefix).name}{match[0]}":
            numbered.append((int(match[1]), str(path)))
    for path in folder.glob(f"{name}_best.solverstate*"):
        try:
            numbered.append((_state(str(path))[0], str(path)))
        except FatalError as error:
            warning(f"Passing over {path}: {error}")
    return (path for _, path in sorted(numbered, reverse=True))


def _state(path):
    """Return iteration, name of the weights, and sizes of the history of a solverstate."""
    if path.endswith(".h5"):
        state = hdf5.read_state(path)
        return state.iter, state.learned_net, [array.size for array in state.history]
    state = binary.read(path, caffe_pb2.SolverState)
    return state.iter, state.learned_net, [_count(proto) for proto in state.history]


def _flaw(solver, path):
    """Return what keeps a solver from going on from a snapshot, or nothing."""
    try:
        iteration, learned_net, sizes = _state(path)
        match = _NAME.search(path)
        if match and int(match[1]) != iteration:
            return f"it is of iteration {iteration}"
        if sizes != [array.size for array in solver.history]:
            return _OTHER
        models = [beside(learned_net, path)]
        side = side_file(path)
        if Path(side).exists():
            data = json.loads(Path(side).read_text(encoding="utf-8"))
            if data["iter"] != iteration:
                return f"{side} is of iteration {data['iter']}"
            if "average" in data:
                models.append(side.removesuffix("json") + "caffemodel" + (".h5" if path.endswith(".h5") else ""))
        return next(filter(None, (_flaw_of_weights(solver.net, model) for model in models)), "")
    except FatalError as error:
        return str(error)
    except (ValueError, KeyError, TypeError) as error:
        return f"{side_file(path)} cannot be read ({error!r})"


def _flaw_of_weights(net, model):
    if not Path(model).exists():
        return f"its weights, {model}, are missing"
    if model.endswith(".h5"):
        there = {
            (layer, i): array.size for layer, arrays in hdf5.read_net(model).items() for i, array in arrays.items()
        }
    else:
        there = {
            (layer.name, i): _count(proto)
            for layer in upgrade.read_net_binary(model).layer
            for i, proto in enumerate(layer.blobs)
        }
    for place, blob in zip(net.param_names, net.params, strict=True):
        if there.get(place) != blob.count:
            return f"{model} lacks parameter {place[1]} of layer '{place[0]}' or has it in another size"
    return ""


def _count(proto):
    return blob_format.to_array(proto).size
