"""`caffe test`: run a net on batches of its data and report the means of its outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from caffetools.glog import check_gt, info
from caffetools.layer import TEST, Context
from caffetools.net import load_net
from caffetools.net import weights as net_weights
from caffetools.pictures import style
from caffetools.solver import scores
from caffetools.tools import engines
from caffetools.tools.confusion import Confusion


def test(
    model: str,
    weights: str,
    iterations: int = 50,
    gpu: str = "",
    level: int = 0,
    stage: str = "",
    confusion: str = "",
    tf32: bool = False,
) -> dict[str, list[float]]:
    """Score a net and return the mean of each output's elements; of DetectionEvaluate the mean average precision.

    model: the net's prototxt. weights: one file. iterations: batches. level, stage (a comma list): the net's state.
    confusion: a picture to write with the confusion matrix, with files beside it (see `Confusion.report`).
    tf32: whether a GPU may multiply with fewer digits.
    """
    check_gt(len(model), 0, "FLAGS_model.size() > 0", "Need a model definition to score.")
    check_gt(len(weights), 0, "FLAGS_weights.size() > 0", "Need model weights to score.")
    if confusion:
        style.check_path(confusion, "--confusion")
        style.need_matplotlib()
    engine = engines.choose(gpu, tf32=tf32)
    # The confusion matrix is made of blobs that are no outputs.
    net = load_net(model, TEST, Context(engine=engine), level, stage.split(","), plan=not confusion)
    try:
        net_weights.copy_from(net, weights)
        info(f"Running for {iterations} iterations.")
        outcomes = Confusion(net) if confusion else None
        means = _run(net, iterations, outcomes)
        if outcomes:
            outcomes.report(Path(confusion))
        return means
    finally:
        net.close()


def _run(net, iterations, outcomes):
    loss = 0.0
    sums: dict[str, np.ndarray] = {}
    judged = {name: [] for name, kind in scores.makers_of_outputs(net).items() if kind == scores.EVALUATED}
    for batch in range(iterations):
        loss += net.forward()
        if outcomes:
            outcomes.add()
        for name in net.outputs:
            if name in judged:
                judged[name].append(net.blobs[name].data.reshape(-1, 5).copy())
                continue
            values = net.blobs[name].flat_data
            if name in sums and len(values) != len(sums[name]):
                scores.refuse_other_size(net)
            sums[name] = sums[name] + values if name in sums else values.astype(np.float64)
            for value in values.tolist():
                info(f"Batch {batch}, {name} = {value:g}")
    info(f"Loss: {loss / max(iterations, 1):g}")
    means = {name: (total / iterations).tolist() for name, total in sums.items()}
    for name, rows in judged.items():
        means[name] = [scores.mean_precision(np.concatenate(rows), "Integral")] if rows else []
    for name, weight in zip(net.outputs, net.output_loss_weights, strict=True):
        for mean in means.get(name, []):
            info(f"{name} = {mean:g}" + (f" (* {weight:g} = {weight * mean:g} loss)" if weight else ""))
    return means
