"""What passes log with `debug_info: true`: mean absolute values of what each layer has written."""

from __future__ import annotations

import numpy as np

from caffetools.glog import error, info


def report_forward(net, i: int) -> None:
    """Log the data of a layer's tops and parameters."""
    name = net.layer_names[i]
    for blob, blob_name in zip(net.tops[i], net.top_names[i], strict=True):
        info(f"    [Forward] Layer {name}, top blob {blob_name} data: {_mean_abs(blob.cpu_data):g}")
    for use in net.param_uses:
        if use.layer == i:
            value = _mean_abs(net.layers[i].blobs[use.index].cpu_data)
            info(f"    [Forward] Layer {name}, param blob {use.display_name} data: {value:g}")


def report_backward(net, i: int) -> None:
    """Log the diffs of a layer's bottoms and parameters, where they are wanted."""
    name, layer = net.layer_names[i], net.layers[i]
    for j, wanted in enumerate(net.bottom_needs_backward[i]):
        if wanted:
            value = _mean_abs(net.bottoms[i][j].cpu_diff)
            info(f"    [Backward] Layer {name}, bottom blob {net.bottom_names[i][j]} diff: {value:g}")
    for j, wanted in enumerate(layer.param_propagate_down):
        if wanted:
            info(f"    [Backward] Layer {name}, param blob {j} diff: {_mean_abs(layer.blobs[j].cpu_diff):g}")


def report_params(net) -> None:
    """Log the norms of all parameters and of their gradients."""
    data, diff = (flat.read_host().astype(np.float64) for flat in (net.flat_data, net.flat_diff))
    l1 = np.abs(data).sum(), np.abs(diff).sum()
    l2 = np.sqrt(data @ data), np.sqrt(diff @ diff)
    # An E line in the original too, although nothing is wrong.
    error(
        "    [Backward] All net params (data, diff): "
        f"L1 norm = ({l1[0]:g}, {l1[1]:g}); L2 norm = ({l2[0]:g}, {l2[1]:g})"
    )


def _mean_abs(array):
    return float(np.abs(array).mean()) if array.size else 0.0
