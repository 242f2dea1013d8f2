"""Convolution: y[n, m, i] = b[m] + sum over c, a of w[m, c, a] x[n, c, i stride - pad + a dilation].

i and a run over the spatial axes, those after `axis` (the channels, default 1); axes before it all count as
items n. x has C channels and y has num_output = M; both are cut into `group` groups, and outputs see the
channels of their own: w is (M, C / group, kernel...), b is (M). Along each spatial axis

    output = floor((input + 2 pad - (dilation (kernel - 1) + 1)) / stride) + 1

    dw[m, c, a] += sum over n, i of dy[n, m, i] x[n, c, i stride - pad + a dilation]
    db[m] += sum over n, i of dy[n, m, i]
    dx: the transposed convolution of dy with w

Several bottoms of one shape give as many tops by the same weights. The work is done by the engine;
`force_nd_im2col` chose another route to the same numbers in the original and makes no difference here.
"""

from __future__ import annotations

from math import prod

import numpy as np

from caffetools.engine.cpu.conv import ConvPlan
from caffetools.engine.cpu.conv_nd import NdConvPlan
from caffetools.engine.cpu.finish import Finish
from caffetools.engine.cpu.kept import Kept
from caffetools.glog import check_eq, check_gt, fatal
from caffetools.layer import Layer
from caffetools.layers.bias import sum_spans
from caffetools.parts.spatial import read_window


class ConvolutionLayer(Layer):
    min_bottoms = 1
    min_tops = 1
    equal_bottoms_tops = True
    backward_reads = ("bottom",)

    def setup(self, bottom, top):
        self.refuse_in_place(bottom, top)
        param, where = self.param.convolution_param, f"(layer '{self.name}')"
        self.axis = bottom[0].canonical_axis(param.axis)
        self.axes = len(bottom[0].shape)
        self.window = read_window(self, self.axes - self.axis - 1)
        self.channels, self.outputs, self.group = bottom[0].shape[self.axis], param.num_output, param.group
        check_gt(self.outputs, 0, "num_output_ > 0", where)
        check_gt(self.group, 0, "group_ > 0", where)
        check_eq(
            self.channels % self.group,
            0,
            "channels_ % group_ == 0",
            f"Number of channels should be multiples of group. {where}",
        )
        check_eq(
            self.outputs % self.group,
            0,
            "num_output_ % group_ == 0",
            f"Number of output should be multiples of group. {where}",
        )
        self.add_param(self.weight_shape(), param.weight_filler)
        if param.bias_term:
            self.add_param((self.outputs,), param.bias_filler)
        self.planned = None

    def weight_shape(self) -> tuple[int, ...]:
        return (self.outputs, self.channels // self.group, *self.window.kernel)

    def top_sizes(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Return the spatial sizes of the tops."""
        return self.window.windows_in(self, sizes)

    def reshape(self, bottom, top):
        shape = bottom[0].shape
        check_eq(
            len(shape),
            self.axes,
            "bottom[0]->num_axes() == first_spatial_axis + num_spatial_axes_",
            f"bottom num_axes may not change. (layer '{self.name}')",
        )
        check_eq(
            shape[self.axis],
            self.channels,
            "bottom[0]->shape(channel_axis_) == channels_",
            f"Input size incompatible with convolution kernel. (layer '{self.name}')",
        )
        for i, blob in enumerate(bottom):
            if blob.shape != shape:
                fatal(
                    "Check failed: bottom[0]->shape() == bottom[bottom_id]->shape() shape mismatch - "
                    f"bottom[0]: {bottom[0].shape_string} vs. bottom[{i}]: {blob.shape_string} "
                    f"(layer '{self.name}')"
                )
        top_shape = (*shape[: self.axis], self.outputs, *self.top_sizes(shape[self.axis + 1 :]))
        for blob in top:
            blob.reshape(top_shape)
        if shape != self.planned:
            self.planned = shape
            self.x_shape, self.y_shape = self.planar(shape, self.axis), self.planar(top_shape, self.axis)
            self.w_shape = self.planar(self.blobs[0].shape, 1)
            self.pixels = prod(self.y_shape[:1] + self.y_shape[2:])
            self.plan = self.make_plan()
            self.forget_kept()

    def make_plan(self) -> ConvPlan | NdConvPlan:
        """Return the engine's plan for bottoms and tops of the present shapes."""
        return self.plan_for(self.x_shape)

    def planar(self, shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
        """Return a shape with the axes before `axis` merged into one, and two spatial axes at least."""
        spatial = shape[axis + 1 :]
        return (prod(shape[:axis]), shape[axis], *(1,) * (2 - len(spatial)), *spatial)

    def plan_for(self, input_shape: tuple[int, ...]) -> ConvPlan | NdConvPlan:
        """Return the plan of a convolution of inputs of this planar shape with this layer's filters."""
        missing = 2 - len(self.window.kernel)
        stride, pad, dilation = (
            (neutral,) * missing + sizes
            for neutral, sizes in ((1, self.window.stride), (0, self.window.pad), (1, self.window.dilation))
        )
        plan = ConvPlan if len(input_shape) == 4 else NdConvPlan
        return plan(input_shape, self.w_shape, stride, pad, dilation, self.group, self.dtype)

    def filters(self) -> tuple[np.ndarray, Kept | None]:
        """Return the filters, for reading, and where they stay packed for the next pass, or None."""
        # Asked first: an array at hand would count as one that somebody holds.
        kept = self.kept_of(0)
        return self.blobs[0].cpu_data.reshape(self.w_shape), kept

    def packings(self):
        return self.plan.forward_packings()

    def backward_packings(self, propagate_down):
        return self.plan.backward_packings() if any(propagate_down) else ()

    def forward(self, bottom, top):
        w, kept = self.filters()
        b = self.blobs[1].data if len(self.blobs) > 1 else None
        for below, above in zip(bottom, top, strict=True):
            x, y = below.flat_data.reshape(self.x_shape), above.flat_data.reshape(self.y_shape)
            self.plan.forward(x, w, b, y, kept=kept)

    def forward_finished(self, x: np.ndarray, y: np.ndarray, finish: Finish | None, channel: int = 0) -> None:
        """Compute flat y from flat x and finish it, with a plan that can (`ConvPlan`).

        channel: the one of y that gets the first output; y may have more channels than this layer has outputs.
        """
        w, kept = self.filters()
        b = self.blobs[1].data if len(self.blobs) > 1 else None
        items, _, *plane = self.y_shape
        y = y.reshape(items, y.size // max(1, self.pixels), *plane)
        self.plan.forward(x.reshape(self.x_shape), w, b, y, finish, kept, channel)

    def backward(self, top, propagate_down, bottom):
        w, kept = self.filters()
        for above, below, wanted in zip(top, bottom, propagate_down, strict=True):
            dy = above.flat_diff.reshape(self.y_shape)
            self.add_parameter_gradients(below.flat_data.reshape(self.x_shape), dy)
            if wanted:
                self.plan.backward_data(dy, w, below.flat_diff.reshape(self.x_shape), kept)

    def add_parameter_gradients(self, x: np.ndarray, dy: np.ndarray) -> None:
        """Add one bottom's part to the gradients of the weights and the bias, where they are wanted."""
        db = self.blobs[1].diff if len(self.blobs) > 1 and self.param_propagate_down[1] else None
        if self.param_propagate_down[0]:
            self.plan.backward_weights(x, dy, self.blobs[0].flat_diff.reshape(self.w_shape), db)
        elif db is not None:
            self.add_bias_gradient(dy, db)

    def add_bias_gradient(self, dy: np.ndarray, db: np.ndarray) -> None:
        """Add the sums of dy over items and pixels to db."""
        sums = np.empty_like(db)
        sum_spans(dy.reshape(-1), prod(dy.shape[2:]), sums)
        db += sums
