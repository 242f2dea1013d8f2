"""`caffe test`: run a net on batches of its data and report the means of its outputs."""

from __future__ import annotations

import numpy as np

from caffetools.glog import check_gt, info
from caffetools.layer import TEST, Context
from caffetools.net import load_net
from caffetools.net import weights as net_weights
from caffetools.tools import engines


def test(
    model: str, weights: str, iterations: int = 50, gpu: str = "", level: int = 0, stage: str = ""
) -> dict[str, list[float]]:
    """Score a net and return the mean of each output's elements.

    model: the net's prototxt. weights: one file. iterations: batches. level, stage (a comma list): the net's state.
    """
    check_gt(len(model), 0, "FLAGS_model.size() > 0", "Need a model definition to score.")
    check_gt(len(weights), 0, "FLAGS_weights.size() > 0", "Need model weights to score.")
    engines.choose(gpu)
    net = load_net(model, TEST, Context(), level, stage.split(","))
    try:
        net_weights.copy_from(net, weights)
        info(f"Running for {iterations} iterations.")
        return _run(net, iterations)
    finally:
        net.close()


def _run(net, iterations):
    loss = 0.0
    sums: dict[str, np.ndarray] = {}
    for batch in range(iterations):
        loss += net.forward()
        for name in net.outputs:
            values = net.blobs[name].flat_data
            sums[name] = sums[name] + values if name in sums else values.astype(np.float64)
            for value in values.tolist():
                info(f"Batch {batch}, {name} = {value:g}")
    info(f"Loss: {loss / max(iterations, 1):g}")
    means = {name: (total / iterations).tolist() for name, total in sums.items()}
    for name, weight in zip(net.outputs, net.output_loss_weights, strict=True):
        for mean in means.get(name, []):
            info(f"{name} = {mean:g}" + (f" (* {weight:g} = {weight * mean:g} loss)" if weight else ""))
    return means
