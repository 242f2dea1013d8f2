"""Weights and solver states in HDF5, laid out as the original's.

Weights (``.caffemodel.h5``)::

    data/LAYER/INDEX    float32: a group for every layer, a dataset for every parameter blob that it owns
    diff/LAYER/INDEX    their gradients, on demand

Solver state (``.solverstate.h5``)::

    iter, current_step  int32, one element each
    learned_net         string: the file with the weights
    history/INDEX       float32, in the order of BlobProto history in a binary state
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from caffetools import glog
from caffetools.formats import files

if TYPE_CHECKING:
    import h5py

#: Parameter blobs of each layer by their index, layers in the order of the net.
Layers = Mapping[str, Mapping[int, np.ndarray]]


class State(NamedTuple):
    """A solver's state, as :func:`read_state` finds it."""

    iter: int
    learned_net: str
    current_step: int
    history: list[np.ndarray]


def write_net(path: str | os.PathLike[str], layers: Layers, diffs: Layers | None = None) -> None:
    """Write the parameters of a net, and their gradients if given, atomically.

    Layers without parameters are listed too, with an empty mapping. A shared blob that belongs to another
    layer is left out, with its index: the owner stores it.

    :raises FatalError: if the file cannot be written
    """
    with _create(path, "weights") as file:
        _write_layers(file.create_group("data"), layers)
        if diffs is not None:
            _write_layers(file.create_group("diff"), diffs)


def read_net(path: str | os.PathLike[str]) -> dict[str, dict[int, np.ndarray]]:
    """The parameters in a file: float32 arrays by layer and index, layers in the order of their names.

    :raises FatalError: if the file cannot be opened or holds no weights
    """
    with _open(path, "weights") as file:
        if "data" not in file:
            glog.fatal(f"{os.fspath(path)} holds no weights: it has no group 'data'{_what_it_is(file)}")
        return dict(_read_layers(file["data"], ""))


def write_state(
    path: str | os.PathLike[str],
    iter: int,
    learned_net: str,
    current_step: int,
    history: Sequence[np.ndarray],
) -> None:
    """Write a solver's state, atomically.

    :param learned_net: name of the file with the weights of the same iteration
    :param history: see ``history`` of a SolverState for the order
    :raises FatalError: if the file cannot be written
    """
    with _create(path, "solver state") as file:
        file.create_dataset("iter", data=np.array([iter], "<i4"))
        _write_string(file, "learned_net", os.fsencode(learned_net))
        file.create_dataset("current_step", data=np.array([current_step], "<i4"))
        group = file.create_group("history")
        for index, array in enumerate(history):
            group.create_dataset(str(index), data=np.asarray(array, "<f4"))


def read_state(path: str | os.PathLike[str]) -> State:
    """A solver's state.

    :raises FatalError: if the file cannot be opened or holds no state
    """
    with _open(path, "solver state") as file:
        missing = [name for name in ("iter", "learned_net", "history") if name not in file]
        if missing:
            glog.fatal(
                f"{os.fspath(path)} holds no solver state: it has no '{missing[0]}'{_what_it_is(file)}"
            )
        history = file["history"]
        return State(
            iter=_number(file, "iter"),
            learned_net=os.fsdecode(_text(file["learned_net"][()])),
            current_step=_number(file, "current_step"),
            history=[_array(history[str(index)]) for index in range(len(history))],
        )


def _write_layers(group: h5py.Group, layers: Layers) -> None:
    for name, blobs in layers.items():
        layer = group.require_group(
            name
        )  # a slash in the name opens groups within groups, as in the original
        for index, array in blobs.items():
            layer.create_dataset(str(index), data=np.asarray(array, "<f4"))


def _read_layers(group: h5py.Group, prefix: str) -> Iterator[tuple[str, dict[int, np.ndarray]]]:
    """The layers in a group and in groups within it: what holds datasets, or nothing at all, is a layer."""
    import h5py

    for name, layer in group.items():
        blobs = {int(key): _array(item) for key, item in layer.items() if isinstance(item, h5py.Dataset)}
        if blobs or not len(layer):
            yield prefix + name, dict(sorted(blobs.items()))
        groups = {key: item for key, item in layer.items() if isinstance(item, h5py.Group)}
        yield from _read_layers(groups, f"{prefix}{name}/")


def _write_string(file: h5py.File, name: str, value: bytes) -> None:
    """Write a string as C has it, with its closing zero; h5py's own would be padded with zeros instead."""
    import h5py

    kind = h5py.h5t.C_S1.copy()
    kind.set_size(len(value) + 1)
    dataset = h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create(h5py.h5s.SCALAR))
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array(value, f"S{len(value) + 1}"), mtype=kind)


def _array(dataset: h5py.Dataset) -> np.ndarray:
    return np.asarray(dataset[()], np.float32)


def _number(file: h5py.File, name: str) -> int:
    """A number that some writers store as a scalar, others as an array of one; 0 if it is not there."""
    return int(np.ravel(file[name][()])[0]) if name in file else 0


def _text(value: bytes | str | np.ndarray) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


def _what_it_is(file: h5py.File) -> str:
    if "history" in file:
        return "; it is a solver state"
    return "; it is a file of weights" if "data" in file else ""


@contextlib.contextmanager
def _open(path: str | os.PathLike[str], what: str) -> Iterator[h5py.File]:
    import h5py

    path = os.fspath(path)
    try:
        file = h5py.File(path, "r")
    except OSError as err:
        glog.check_ge(-1, 0, "file_hid >= 0", f"Couldn't open {path} to read {what}. ({files.reason(err)})")
    with file:
        try:
            yield file
        except glog.FatalError:
            raise
        except (OSError, RuntimeError, KeyError, ValueError, AttributeError) as err:
            glog.fatal(f"{path} holds no {what}, or is damaged: {err}")


@contextlib.contextmanager
def _create(path: str | os.PathLike[str], what: str) -> Iterator[h5py.File]:
    import h5py

    with files.atomic_path(path) as temporary:
        try:
            with h5py.File(temporary, "w") as file:
                yield file
        except RuntimeError as err:  # h5py's word for some of the system's errors
            glog.fatal(f"Cannot write {files.final_name(path)}: {err}")
