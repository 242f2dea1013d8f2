"""Embed: integers (as floats) become vectors: y = W[index] + b; not in place.

The top has the bottom's axes and one more of num_output elements; W is (input_dim, num_output), b
(num_output).

    dW[k] = sum dy over the items with index k,   db = sum dy;   the indices have no gradient
"""

from __future__ import annotations

from typing import NoReturn

from caffetools.engine.cpu.jit import kernel
from caffetools.glog import check, check_gt, fatal
from caffetools.layer import Layer


class EmbedLayer(Layer):
    exact_bottoms = 1
    exact_tops = 1
    backward_reads = ("bottom",)

    def setup(self, bottom, top):
        self.refuse_in_place(bottom, top)
        param = self.param.embed_param
        for name in ("num_output", "input_dim"):
            words = f"EmbedLayer {name} must be positive. (layer '{self.name}')"
            check_gt(getattr(param, name), 0, f"{name} > 0", words)
        self.num_output, self.bias_term = param.num_output, param.bias_term
        self.add_param((param.input_dim, self.num_output), param.weight_filler)
        if self.bias_term:
            self.add_param((self.num_output,), param.bias_filler)

    def reshape(self, bottom, top):
        top[0].reshape((*bottom[0].shape, self.num_output))
        self.items = (bottom[0].count, self.num_output)

    def forward(self, bottom, top):
        weights, y = self.blobs[0].data, top[0].flat_data.reshape(self.items)
        wrong = gather(bottom[0].flat_data, weights, y)
        if wrong >= 0:
            refuse_index(self, wrong, bottom[0].flat_data[wrong])
        if self.bias_term:
            y += self.blobs[1].data

    def backward(self, top, propagate_down, bottom):
        words = f"Can't backpropagate to EmbedLayer input. (layer '{self.name}')"
        check(not propagate_down[0], "!propagate_down[0]", words)
        dy = top[0].flat_diff.reshape(self.items)
        if self.param_propagate_down[0]:
            scatter_add(bottom[0].flat_data, dy, self.blobs[0].diff)
        if self.bias_term and self.param_propagate_down[1]:
            self.blobs[1].diff[...] += dy.sum(axis=0)

    def allow_force_backward(self, bottom_index):
        return False


def refuse_index(layer: Layer, position: int, value: float) -> NoReturn:
    """Raise the error of an index without a row."""
    rows = layer.param.embed_param.input_dim
    fatal(
        f"Check failed: index >= 0 && index < {rows} the value {value:g} at index {position} of the "
        f"batch has no row: input_dim is {rows} (layer '{layer.name}')"
    )


@kernel
def gather(indices, weights, y):
    """Copy a row of `weights` for each index; return the position of an index without a row, or -1."""
    for item in range(indices.size):
        # On the float, so that a NaN is refused as well.
        if not -1 < indices[item] < weights.shape[0]:
            return item
        row = int(indices[item])
        for j in range(weights.shape[1]):
            y[item, j] = weights[row, j]
    return -1


@kernel
def scatter_add(indices, dy, d_weights):
    """Add each item's gradient to its row, in the order of the items."""
    for item in range(indices.size):
        row = int(indices[item])
        for j in range(dy.shape[1]):
            d_weights[row, j] += dy[item, j]
