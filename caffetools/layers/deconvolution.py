"""Deconvolution: the transposed convolution, which enlarges: every x is spread over a window of y.

    y[n, m, i stride - pad + a dilation] += w[c, m, a] x[n, c, i],   plus b[m]
    output = stride (input - 1) + dilation (kernel - 1) + 1 - 2 pad    along each spatial axis

Parameters are those of Convolution, but w is (C, M / group, kernel...): the filters of the convolution that
leads from the top back to the bottom, whose data gradient is this layer's forward pass.
"""

from __future__ import annotations

from caffetools.glog import check
from caffetools.layers.bias import add_bias
from caffetools.layers.convolution import ConvolutionLayer


class DeconvolutionLayer(ConvolutionLayer):
    reads = ("convolution_param",)

    def weight_shape(self):
        return (self.channels, self.outputs // self.group, *self.window.kernel)

    def top_sizes(self, sizes):
        result = self.window.spanned_by(sizes)
        words = f"the padding leaves nothing of the output {result} (layer '{self.name}')"
        check(min(result, default=1) > 0, "output_shape > 0", words)
        return result

    def make_plan(self):
        return self.plan_for(self.y_shape)

    def packings(self):
        return self.plan.backward_packings()

    def backward_packings(self, propagate_down):
        return self.plan.forward_packings() if any(propagate_down) else ()

    def forward(self, bottom, top):
        w, kept = self.filters()
        for below, above in zip(bottom, top, strict=True):
            x, y = below.flat_data.reshape(self.x_shape), above.flat_data.reshape(self.y_shape)
            self.plan.backward_data(x, w, y, kept)
            if len(self.blobs) > 1:
                y = above.flat_data
                add_bias(y, self.blobs[1].data, above.count_from(self.axis + 1), y)

    def backward(self, top, propagate_down, bottom):
        w, kept = self.filters()
        for above, below, wanted in zip(top, bottom, propagate_down, strict=True):
            dy = above.flat_diff.reshape(self.y_shape)
            self.add_parameter_gradients(below.flat_data.reshape(self.x_shape), dy)
            if wanted:
                self.plan.forward(dy, w, None, below.flat_diff.reshape(self.x_shape), kept=kept)

    def add_parameter_gradients(self, x, dy):
        if self.param_propagate_down[0]:
            self.plan.backward_weights(dy, x, self.blobs[0].flat_diff.reshape(self.w_shape), None)
        if len(self.blobs) > 1 and self.param_propagate_down[1]:
            self.add_bias_gradient(dy, self.blobs[1].diff)
