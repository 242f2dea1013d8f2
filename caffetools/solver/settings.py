"""Settings that are legal and hardly meant: said before the first iteration, while stopping costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice, pairwise

import h5py

from caffetools.formats import db as db_format
from caffetools.glog import warning
from caffetools.layer import Layer
from caffetools.net import Net
from caffetools.proto import caffe_pb2
from caffetools.solver.policies import missing_fields
from caffetools.solver.scores import DETECTION
from caffetools.solver.unused import unused


def warn(solver) -> None:
    """Log a warning for each setting of a solver that is hardly meant."""
    for message in advice(solver.param, solver.net, solver.test_nets):
        warning(message)


def advice(param: caffe_pb2.SolverParameter, net: Net, test_nets: list[Net]) -> Iterator[str]:
    """Yield what is hardly meant in a solver file, a sentence each.

    net, test_nets: those that were built for it.
    """
    yield from _rate(param)
    yield from _iterations(param)
    yield from _update(param)
    yield from unused(param)
    if net.lr_mults and not any(net.lr_mults):
        yield "every lr_mult of the net is 0: nothing learns"
    for name in ("ap_version", "show_per_class_result"):
        if param.HasField(name) and param.eval_type != DETECTION:
            yield f'{name} does nothing without eval_type: "{DETECTION}"'
    for i, (test_net, batches) in enumerate(zip(test_nets, param.test_iter, strict=False)):
        yield from _coverage(i, test_net, batches)


def _rate(param):
    missing = missing_fields(param)
    for name in missing:
        if name == "base_lr":
            yield "base_lr is not set: the learning rate is 0 and nothing learns"
        elif name != "max_iter":
            yield f'lr_policy "{param.lr_policy}" computes with {name}, which is not set and counts as 0'
    if param.base_lr == 0 and "base_lr" not in missing:
        yield "base_lr is 0: nothing learns"
    if param.base_lr < 0:
        yield f"base_lr is {param.base_lr:g}: a negative rate climbs the loss"
    if param.lr_policy == "multistep":
        yield from _step_values(list(param.stepvalue), param.max_iter)
    if param.lr_policy in ("exp", "step", "multistep") and param.gamma > 1:
        yield f"gamma is {param.gamma:g}: with lr_policy {param.lr_policy} the learning rate grows"
    if param.lr_policy == "step" and 0 < param.max_iter <= param.stepsize:
        yield f"stepsize {param.stepsize} is not below max_iter {param.max_iter}: the learning rate never changes"
    if 0 < param.max_iter <= param.warmup_iter:
        yield f"warmup_iter {param.warmup_iter} is not below max_iter {param.max_iter}: the run ends while it warms up"
    if param.min_lr > param.base_lr > 0 and param.lr_policy in ("cosine", "plateau", "poly"):
        yield f"min_lr {param.min_lr:g} is above base_lr {param.base_lr:g}"


def _step_values(values, max_iter):
    if any(later <= earlier for earlier, later in pairwise(values)):
        yield f"the stepvalues do not rise ({_list(values)}): each takes effect only after the one before it"
    late = [value for value in values if value >= max_iter]
    if late and max_iter > 0:
        verb = "are" if len(late) > 1 else "is"
        yield f"stepvalue {_list(late)} {verb} not below max_iter {max_iter}, and never reached"


def _list(values):
    return ", ".join(map(str, values))


def _iterations(param):
    if param.max_iter <= 0:
        yield f"max_iter is {param.max_iter}: no iteration is done"
        return
    for name in ("test_interval", "snapshot"):
        if getattr(param, name) > param.max_iter:
            yield f"{name} {getattr(param, name)} is above max_iter {param.max_iter}: it never comes"
    if param.time_limit and not param.snapshot_prefix:
        yield "time_limit without snapshot_prefix: what is learnt until then is written as _iter_N.caffemodel"


def _update(param):
    for name in ("momentum", "momentum2"):
        value = getattr(param, name)
        if param.HasField(name) and not 0 <= value < 1:
            yield f"{name} is {value:g}: values from 0 to below 1 make sense, others let the steps grow without end"
    if param.weight_decay < 0:
        yield f"weight_decay is {param.weight_decay:g}: a negative one lets the weights grow"
    if param.clip_gradients == 0:
        yield "clip_gradients is 0: all gradients are scaled to nothing (negative: no clipping)"
    if param.decoupled_decay and not param.weight_decay:
        yield "decoupled_decay without weight_decay: nothing decays"


def _coverage(number, net, batches):
    for layer, tops in zip(net.layers, net.tops, strict=True):
        size = batch_size(layer, tops)
        seen = size * batches
        with suppress(OSError):
            records = record_count(layer, seen + 1)
            if records is not None and seen < records:
                more = f"{records} or more" if records == seen + 1 else str(records)
                need = "" if records == seen + 1 else f"; test_iter: {-(-records // size)} covers them"
                yield (
                    f"test_iter {batches} of test net #{number} sees {seen} of the {more} samples of layer "
                    f"'{layer.name}' (batches of {size}): each test takes others of them{need}"
                )


def batch_size(layer: Layer, tops: list) -> int:
    """Return how many samples a data layer gives at a time, 0 for a layer that does not read any."""
    return tops[0].shape[0] if layer.type in _COUNTS and tops and tops[0].shape else 0


def record_count(layer: Layer, limit: int) -> int | None:
    """Return how many samples a data layer has; None if the layer does not tell.

    limit: where counting may end, for sources that have to be walked through.
    """
    count = _COUNTS.get(layer.type)
    return count(layer, limit) if count else None


def _records(layer, limit):
    if isinstance(layer.db, db_format.LMDB):
        return len(layer.db)
    return sum(1 for _ in islice(layer.db, limit))


def _rows(layer, limit):
    count = 0
    for path in layer.files:
        with h5py.File(path, "r") as file:
            count += file[layer.param.top[0]].shape[0]
    return count


_COUNTS: dict[str, Callable[[Layer, int], int]] = {
    "AnnotatedData": _records,
    "Data": _records,
    "ImageData": lambda layer, limit: len(layer.loader.lines),
    "HDF5Data": _rows,
}
