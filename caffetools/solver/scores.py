"""What a test computes: the means of a net's loss and outputs over a number of batches, or how well it detects."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from caffetools.glog import check, fatal, info, warning
from caffetools.net import Net
from caffetools.parts.precision import VERSIONS, average_precision
from caffetools.proto import caffe_pb2
from caffetools.solver.listener import Values
from caffetools.solver.names import check_known

GoesOn = Callable[[], bool]
DETECTION = "detection"
#: The type whose rows become a mean average precision.
EVALUATED = "DetectionEvaluate"


def check_evaluation(param: caffe_pb2.SolverParameter) -> None:
    """Refuse an `eval_type` or `ap_version` that there is not. Errors: FatalError."""
    check_known("eval_type", param.eval_type, ("classification", DETECTION), "evaluation types")
    check_known("ap_version", param.ap_version, tuple(VERSIONS), "versions of the average precision")


def measure(net: Net, batches: int, param: caffe_pb2.SolverParameter, goes_on: GoesOn) -> tuple[float, Values]:
    """Test a net as the solver's `eval_type` says: `means`, or `precisions` for "detection"."""
    if param.eval_type == DETECTION:
        return precisions(net, batches, param, goes_on)
    return means(net, batches, goes_on)


def means(net: Net, batches: int, goes_on: GoesOn) -> tuple[float, Values]:
    """Run a net and return the mean loss, and (blob name, mean, loss weight) of each element of each output.

    goes_on: asked before each batch; where it says no, the test ends and what is returned means nothing.
    Errors: FatalError for outputs whose size changes from batch to batch, such as detections.
    """
    loss, sums, values = 0.0, None, []
    for _ in range(batches):
        if not goes_on():
            break
        loss += net.forward()
        values = net.output_values()
        now = [value for _, value, _ in values]
        if sums is not None and len(now) != len(sums):
            refuse_other_size(net)
        sums = now if sums is None else [total + value for total, value in zip(sums, now, strict=True)]
    if sums is None:
        return 0.0, []
    return loss / batches, [
        (name, total / batches, weight) for total, (name, _, weight) in zip(sums, values, strict=True)
    ]


def makers_of_outputs(net: Net) -> dict[str, str]:
    """Return the type of the layer that makes each output of a net."""
    makers = dict.fromkeys(net.outputs, "")
    for layer, tops in zip(net.layers, net.top_names, strict=True):
        makers.update((name, layer.type) for name in tops if name in makers)
    return makers


def refuse_other_size(net: Net) -> None:
    """Say that outputs of another size than before have no mean."""
    fatal(
        f"The outputs {', '.join(net.outputs)} have other sizes than in the batch before, so that they have no mean. "
        'Detections are tested with a DetectionEvaluate layer and eval_type: "detection" in the solver'
    )


def precisions(net: Net, batches: int, param: caffe_pb2.SolverParameter, goes_on: GoesOn) -> tuple[float, Values]:
    """Run a net and return the mean loss, and (blob name, mean average precision, 0) of each output.

    Its outputs are those of DetectionEvaluate layers; with `show_per_class_result` each class is logged. Classes in
    which nothing was detected count as 0.
    """
    for name, kind in makers_of_outputs(net).items():
        words = f'eval_type: "detection" is for nets that end in DetectionEvaluate, and {name} is made by {kind}'
        check(kind == EVALUATED, "eval_type", words)
    loss, rows = 0.0, {name: [] for name in net.outputs}
    for _ in range(batches):
        if not goes_on():
            return 0.0, []
        loss += net.forward()
        for name in net.outputs:
            rows[name].append(net.blobs[name].data.reshape(-1, 5).copy())
    return loss / max(batches, 1), [
        (name, mean_precision(np.concatenate(parts), param.ap_version, param.show_per_class_result), 0.0)
        for name, parts in rows.items()
        if parts
    ]


def mean_precision(rows: np.ndarray, version: str, says_classes: bool = False) -> float:
    """Return the mean of the classes' average precisions from the rows of DetectionEvaluate.

    version: one of `VERSIONS`. says_classes: whether to log each class.
    """
    counts = rows[rows[:, 0] == -1]
    found = rows[(rows[:, 0] != -1) & (rows[:, 3:].any(axis=1))]
    total, labels = 0.0, np.unique(counts[:, 1])
    for label in labels:
        own = found[found[:, 1] == label]
        if not len(own):
            warning(f"Missing true_pos for label: {label:g}")
            continue
        boxes = int(counts[counts[:, 1] == label, 2].sum())
        value = average_precision(own[:, 2], own[:, 3], boxes, version)
        if says_classes:
            info(f"class{label:g}: {value:g}")
        total += value
    return total / max(len(labels), 1)
