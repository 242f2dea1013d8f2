"""Where a loss went wrong: the first layer whose output is not finite, and what its numbers look like."""

from __future__ import annotations

import numpy as np

from caffetools.net import Net


def describe(values: np.ndarray) -> str:
    """Return a sentence about an array: how many NaNs and infinities, and the range of the rest."""
    nans, infinities = int(np.isnan(values).sum()), int(np.isinf(values).sum())
    finite = values[np.isfinite(values)]
    text = f"{nans} of {values.size} values are NaN, {infinities} infinite"
    if finite.size:
        mean = finite.mean(dtype=np.float64)
        text += f"; the others lie between {finite.min():g} and {finite.max():g}, their mean is {mean:g}"
    return text


def first_culprit(net: Net) -> str:
    """Name the first blob of a forward pass that holds a NaN or an infinity.

    Parameters count as well: an update that overflowed shows there first. Where blobs share memory, what they held may
    have been overwritten: the pass is then run again, on the same inputs.
    """
    gone = net.unplan()
    for i, layer in enumerate(net.layers):
        for j, blob in enumerate(layer.blobs):
            if not np.isfinite(blob.data).all():
                return f"parameter {j} of layer '{layer.name}' ({layer.type}): {describe(blob.flat_data)}"
        if gone and net.bottoms[i]:
            net.forward_layer(i)
        for name, blob in zip(net.top_names[i], net.tops[i], strict=True):
            if not np.isfinite(blob.data).all():
                return (
                    f"blob '{name}' made by layer '{layer.name}' ({layer.type}): {describe(blob.flat_data)}"
                )
    return "every blob is finite, only the sum of the losses is not"
