"""BatchNorm (Ioffe and Szegedy 2015): y = (x - mean) / sqrt(var + eps) for each channel, axis 1.

In training mean and var are those of the batch, of the m values that a channel has on all other axes:

    dx = (dy - mean(dy) - y mean(dy y)) / sqrt(var + eps)

and three parameters collect them, with fraction = moving_average_fraction:

    blobs[0] (C)     <- fraction blobs[0] + mean
    blobs[1] (C)     <- fraction blobs[1] + var m / (m - 1)
    blobs[2] (1)     <- fraction blobs[2] + 1

With `use_global_stats` (default: in the TEST phase) mean and var are blobs[0] and blobs[1], divided by
blobs[2], and dx = dy / sqrt(var + eps). There is nothing to learn here: a Scale layer with a bias usually
follows. May work in place: x is then copied for the backward pass.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from caffetools.engine.cpu.jit import parallel_kernel
from caffetools.glog import check_eq
from caffetools.layer import TEST, Layer
from caffetools.layers.scale import scale_forward
from caffetools.proto import caffe_pb2


class BatchNormLayer(Layer):
    exact_bottoms = 1
    exact_tops = 1

    def setup(self, bottom, top):
        param = self.param.batch_norm_param
        unset = not param.HasField("use_global_stats")
        self.use_global_stats = self.phase == TEST if unset else param.use_global_stats
        self.fraction = self.dtype.type(param.moving_average_fraction)
        self.eps = self.dtype.type(param.eps)
        self.channels = self._channels(bottom[0])
        zeros = caffe_pb2.FillerParameter()
        for size in (self.channels, self.channels, 1):
            self.add_param((size,), zeros)
        self._freeze_params()

    def _channels(self, bottom):
        return bottom.shape[1] if len(bottom.shape) > 1 else 1

    def _freeze_params(self):
        """Tell the solver to leave the collected statistics alone."""
        specs = self.param.param
        words = f"Cannot configure batch normalization statistics as layer parameters. (layer '{self.name}')"
        for i in range(3):
            if i == len(specs):
                specs.add(lr_mult=0)
            check_eq(specs[i].lr_mult, 0, "this->layer_param_.param(i).lr_mult() == 0.f", words)

    def reshape(self, bottom, top):
        check_eq(
            self._channels(bottom[0]),
            self.channels,
            "bottom[0]->shape(1) == channels_",
            f"the number of channels may not change (layer '{self.name}')",
        )
        top[0].reshape_like(bottom[0])
        self.spatial = bottom[0].count_from(2)
        self.in_place = top[0] is bottom[0]
        keep = self.in_place and not self.use_global_stats
        self.input = np.empty(bottom[0].count if keep else 0, self.dtype)
        self.mean, self.inv_std = np.empty((2, self.channels), self.dtype)
        self.no_shift = np.zeros(self.channels, self.dtype)

    def forward(self, bottom, top):
        x, y = bottom[0].flat_data, top[0].flat_data
        mean_sum, var_sum, weight = (blob.data for blob in self.blobs)
        if self.use_global_stats:
            factor = 1 / weight[0] if weight[0] else weight[0]
            np.divide(1, np.sqrt(var_sum * factor + self.eps), out=self.inv_std)
            shift = -mean_sum * factor * self.inv_std
            scale_forward(x, self.inv_std, shift, self.spatial, False, self.input, y)
            return
        weight *= self.fraction
        weight += 1
        batch_norm_forward(
            x,
            self.spatial,
            self.eps,
            self.fraction,
            self.in_place,
            self.input,
            self.mean,
            self.inv_std,
            mean_sum,
            var_sum,
            y,
        )

    def backward(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        dy, dx = top[0].flat_diff, bottom[0].flat_diff
        if self.use_global_stats:
            scale_forward(dy, self.inv_std, self.no_shift, self.spatial, False, self.input, dx)
        else:
            x = self.input if self.in_place else bottom[0].flat_data
            batch_norm_backward(x, dy, self.spatial, self.mean, self.inv_std, dx)


@parallel_kernel
def batch_norm_forward(x, spatial, eps, fraction, keep, kept, mean, inv_std, mean_sum, var_sum, y):
    channels = mean.size
    step = channels * spatial
    count = x.size // channels
    one = x.dtype.type(1)
    for c in numba.prange(channels):
        # Planes are summed in single, their sums in double precision. The second and the third pass find the
        # planes in the cache.
        total = 0.0
        for start in range(c * spatial, x.size, step):
            plane = x[start : start + spatial]
            part = x.dtype.type(0)
            for i in range(spatial):
                part += plane[i]
            total += part
        mu = x.dtype.type(total / count)
        total = 0.0
        for start in range(c * spatial, x.size, step):
            plane = x[start : start + spatial]
            part = x.dtype.type(0)
            for i in range(spatial):
                part += (plane[i] - mu) * (plane[i] - mu)
            total += part
        factor = one / math.sqrt(x.dtype.type(total / count) + eps)
        for start in range(c * spatial, x.size, step):
            plane, out = x[start : start + spatial], y[start : start + spatial]
            if keep:
                kept[start : start + spatial] = plane
            for i in range(spatial):
                out[i] = (plane[i] - mu) * factor
        mean[c], inv_std[c] = mu, factor
        mean_sum[c] = fraction * mean_sum[c] + mu
        var_sum[c] = fraction * var_sum[c] + x.dtype.type(total / max(1, count - 1))


@parallel_kernel
def batch_norm_backward(x, dy, spatial, mean, inv_std, dx):
    channels = mean.size
    step = channels * spatial
    count = x.size // channels
    for c in numba.prange(channels):
        mu, factor = mean[c], inv_std[c]
        total, weighted = 0.0, 0.0
        for start in range(c * spatial, x.size, step):
            plane, grads = x[start : start + spatial], dy[start : start + spatial]
            part = x.dtype.type(0)
            weighted_part = x.dtype.type(0)
            for i in range(spatial):
                part += grads[i]
                weighted_part += grads[i] * (plane[i] - mu)
            total += part
            weighted += weighted_part
        shift = x.dtype.type(total / count)
        slope = x.dtype.type(weighted / count) * factor * factor
        for start in range(c * spatial, x.size, step):
            plane, grads = x[start : start + spatial], dy[start : start + spatial]
            out = dx[start : start + spatial]
            for i in range(spatial):
                out[i] = (grads[i] - shift - (plane[i] - mu) * slope) * factor
