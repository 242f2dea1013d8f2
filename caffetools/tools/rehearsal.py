"""`caffe train --dry_run`: everything that a run needs, tried once, and a verdict. Nothing is trained or written.

Batches of each net's data are looked at (values that are not finite, labels that the classifier has no output for, and
the like); each net runs once forward, that of training once backward; memory and time are measured.
"""

from __future__ import annotations

import math
import time

import numpy as np

from caffetools.glog import FatalError, error, info, warning
from caffetools.net import Net
from caffetools.proto import caffe_pb2
from caffetools.solver import Solver, finite, settings
from caffetools.tools.free_memory import free_memory
from caffetools.tools.input_check import InputCheck

_WRITERS = ("HDF5Output",)
#: How far above that of even odds a first loss may be, as a factor.
_HIGH = 3.0


def leave_out_writers(net: caffe_pb2.NetParameter) -> None:
    """Remove the layers that write files from a net."""
    for layer in [layer for layer in net.layer if layer.type in _WRITERS]:
        info(f"Dry run: without layer '{layer.name}' ({layer.type}), which writes files")
        net.layer.remove(layer)


def rehearse(training: Solver, batches: int) -> int:
    """Try everything with a solver that is built; return the exit status: 0 where nothing speaks against the run.

    batches: how many of each net's data are looked at, at most; never more than one pass over the data.
    """
    problems: list[str] = []
    hints = list(settings.advice(training.param, training.net, training.test_nets))
    nets = {"train net": training.net, **{f"test net #{i}": net for i, net in enumerate(training.test_nets)}}
    for name, net in nets.items():
        check = InputCheck(net)
        check.look(batches)
        for line in check.lines:
            info(f"Dry run, {name}: {line}")
        problems += [f"{name}: {problem}" for problem in check.problems]
        hints += [f"{name}: {hint}" for hint in check.hints]
    if not problems:
        _one_iteration(training, problems, hints)
    _report_memory(nets)
    for hint in hints:
        warning(f"Dry run: {hint}")
    for problem in problems:
        error(f"Dry run: {problem}")
    if problems:
        error(f"Dry run: NOT ready to train, {_number(len(problems), 'problem')}")
        return 1
    remarks = f", with {_number(len(hints), 'remark')}" if hints else ""
    info(f"Dry run: ready to train{remarks}")
    return 0


def _number(count, noun):
    return f"{count} {noun}{'s' * (count > 1)}"


def _one_iteration(training, problems, hints):
    """Run all nets forward and the one that learns backward; twice, since the first time compiles kernels."""
    net = training.net
    try:
        for i, test_net in enumerate(training.test_nets):
            test_net.share_weights_from(net)
            test_net.forward()
            for name, value, _ in test_net.output_values():
                info(f"Dry run, test net #{i}: {name} = {value:g}")
        for _ in range(2):
            net.clear_param_diffs()
            start = time.perf_counter()
            loss = float(net.forward())
            net.backward()
            seconds = time.perf_counter() - start
    except FatalError as failure:
        problems.append(str(failure))
        return
    _judge_loss(net, loss, problems, hints)
    _judge_gradients(net, problems, hints)
    total = seconds * training.param.iter_size * max(training.param.max_iter - training.iter, 0)
    info(
        f"Dry run: an iteration takes about {seconds * training.param.iter_size:.3g} s, the rest of the run about "
        f"{_duration(total)} without tests"
    )


def _judge_loss(net, loss, problems, hints):
    info(f"Dry run, train net: loss = {loss:g}")
    if not math.isfinite(loss):
        problems.append(f"the loss is {loss:g}; the first that is not finite is {finite.first_culprit(net)}")
        return
    classifiers = [i for i, layer in enumerate(net.layers) if layer.type == "SoftmaxWithLoss"]
    if len(classifiers) == 1 and len([w for w in net.output_loss_weights if w]) == 1:
        (i,) = classifiers
        classes = net.bottoms[i][0].shape[net.bottoms[i][0].canonical_axis(net.layers[i].param.softmax_param.axis)]
        even = math.log(classes) if classes > 1 else 0.0
        if even and loss > _HIGH * even:
            hints.append(
                f"the loss is {loss:g}, that of {classes} classes at even odds {even:.3g}: the weights or the data are "
                "large (fillers, scale, mean)"
            )


def _judge_gradients(net: Net, problems, hints):
    silent = []
    for (layer, index), blob, rate in zip(net.param_names, net.params, net.lr_mults, strict=True):
        gradient = blob.cpu_diff
        if not np.isfinite(gradient).all():
            what = finite.describe(gradient.ravel())
            problems.append(f"the gradient of parameter {index} of layer '{layer}': {what}")
        elif rate and not gradient.any():
            silent.append(f"'{layer}'[{index}]")
    if silent:
        hints.append(f"parameters whose gradient is zero, and which do not learn: {', '.join(silent)}")
    norm = math.sqrt(float(np.square(net.flat_diff.read_host().astype(np.float64)).sum()))
    info(f"Dry run, train net: gradient norm = {norm:g}")


def _report_memory(nets):
    total = 0
    for name, net in nets.items():
        memory = net.memory()
        total += sum(memory.values())
        parts = ", ".join(f"{size / 2**20:.1f} MiB for {what}" for what, size in memory.items())
        info(f"Dry run, {name}: {parts}")
    free = free_memory()
    rest = f"; {free / 2**20:,.0f} MiB are free" if free is not None else ""
    info(f"Dry run: {total / 2**20:.1f} MiB in all{rest}")


def _duration(seconds):
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
