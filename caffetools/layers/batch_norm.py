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

With `scale_bias`, which NVCaffe added, the layer does what that Scale layer would: y becomes scale y + bias, and
blobs[3] and blobs[4] (C) hold scale and bias.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from caffetools.blob import Blob
from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.engine.cpu.sums import squares, total, total_and_dot
from caffetools.glog import check, check_eq
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
        self.input_blob = Blob((0,), self.dtype)
        zeros = caffe_pb2.FillerParameter()
        for size in (self.channels, self.channels, 1):
            self.add_param((size,), zeros)
        self._freeze_params()
        self._add_affine(param)

    def _add_affine(self, param):
        self.scale_bias = param.scale_bias
        for name, value in (("scale_filler", 1), ("bias_filler", 0)):
            given = param.HasField(name)
            words = f"{name} without scale_bias: true would have no effect (layer '{self.name}')"
            check(self.scale_bias or not given, f"scale_bias() || !has_{name}()", words)
            if self.scale_bias:
                default = caffe_pb2.FillerParameter(type="constant", value=value)
                self.add_param((self.channels,), getattr(param, name) if given else default)

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
        keep = self.in_place and (not self.use_global_stats or self.scale_bias)
        self.input_blob.reshape((bottom[0].count if keep else 0,))
        self.mean, self.inv_std = np.empty((2, self.channels), self.dtype)
        self.identity = np.ones(self.channels, self.dtype), np.zeros(self.channels, self.dtype)
        self.nothing = np.empty(0, self.dtype)
        self.sums = np.empty(self.channels, self.dtype), np.empty(self.channels, self.dtype)

    @property
    def backward_reads(self):
        unread = self.in_place or (self.use_global_stats and not self.scale_bias)
        return () if unread else ("bottom",)

    @property
    def input(self) -> np.ndarray:
        """The values that were overwritten in place and are needed again, flat."""
        return self.input_blob.flat_data

    def kept(self):
        return [self.input_blob] if self.input_blob.count else []

    def forward(self, bottom, top):
        x, y = bottom[0].flat_data, top[0].flat_data
        if self.use_global_stats:
            scale, shift = self.collected_affine()
            if self.scale_bias:
                gamma, beta = self._affine()
                scale, shift = scale * gamma, shift * gamma + beta
            keep = self.input_blob.count > 0
            scale_forward(x, scale, shift, self.spatial, keep, self.input, self.dtype.type(1), y)
        else:
            self.normalise(x, y, self.in_place, self._affine())

    def _affine(self):
        """Return the scale and the bias that follow: parameters, or those that change nothing."""
        return (self.blobs[3].data, self.blobs[4].data) if self.scale_bias else self.identity

    def collected_affine(self) -> tuple[np.ndarray, np.ndarray]:
        """Return scale and shift of each channel by the collected statistics."""
        mean_sum, var_sum, weight = (blob.cpu_data for blob in self.blobs[:3])
        factor = 1 / weight[0] if weight[0] else weight[0]
        np.divide(1, np.sqrt(var_sum * factor + self.eps), out=self.inv_std)
        return self.inv_std, -mean_sum * factor * self.inv_std

    def normalise(
        self,
        x: np.ndarray,
        y: np.ndarray,
        keep: bool,
        affine: tuple[np.ndarray, np.ndarray],
        residual: np.ndarray | None = None,
        slope: float = 1,
    ) -> None:
        """Compute y from flat x by the batch's statistics, and collect them; the rest: see the kernel."""
        mean_sum, var_sum, weight = (blob.data for blob in self.blobs[:3])
        weight[0] = weight[0] * self.fraction + self.dtype.type(1)
        batch_norm_forward(
            x,
            self.spatial,
            self.eps,
            self.fraction,
            keep,
            self.input,
            self.mean,
            self.inv_std,
            mean_sum,
            var_sum,
            *affine,
            self.nothing if residual is None else residual,
            self.dtype.type(slope),
            y,
        )

    def backward(self, top, propagate_down, bottom):
        learns = self.scale_bias and any(self.param_propagate_down[3:])
        if not propagate_down[0] and not learns:
            return
        dy = top[0].flat_diff
        dx = bottom[0].flat_diff if propagate_down[0] else np.empty_like(dy)
        x = self.input if self.input_blob.count else bottom[0].flat_data
        gamma, no_shift = self._affine()[0], self.identity[1]
        if self.use_global_stats:
            if learns:
                self._sum_gradients(x, dy)
            factor = self.inv_std * gamma
            scale_forward(dy, factor, no_shift, self.spatial, False, self.nothing, self.dtype.type(1), dx)
        else:
            self.normalise_backward(x, dy, dx, gamma)
        if learns:
            for blob, sums, wanted in zip(self.blobs[3:], self.sums, self.param_propagate_down[3:], strict=True):
                if wanted:
                    gradient = blob.diff
                    gradient += sums

    def _sum_gradients(self, x, dy):
        """Compute `sums`, the gradients of scale and bias, by the collected statistics."""
        shape = (-1, self.channels, self.spatial)
        unit, shift = self.collected_affine()
        grads = dy.reshape(shape)
        grads.sum(axis=(0, 2), out=self.sums[1])
        np.einsum("nci,nci->c", grads, x.reshape(shape), out=self.sums[0])
        self.sums[0][:] = unit * self.sums[0] + shift * self.sums[1]

    def normalise_backward(
        self,
        x: np.ndarray,
        dy: np.ndarray,
        dx: np.ndarray,
        gamma: np.ndarray,
        mask: tuple[np.ndarray, float] | None = None,
        residual_diff: np.ndarray | None = None,
    ) -> None:
        """Compute dx, and `sums`, the gradients of gamma and beta.

        mask: (y, slope) of a ReLU. residual_diff: where the gradient of a residual goes.
        """
        y, slope = mask or (dy, 1)
        masked = mask is not None or residual_diff is not None
        g = residual_diff if residual_diff is not None else dx if masked else dy
        batch_norm_backward(
            x,
            dy,
            self.spatial,
            self.mean,
            self.inv_std,
            gamma,
            masked,
            y,
            self.dtype.type(slope),
            g,
            dx,
            *self.sums,
        )


@parallel_kernel
def batch_norm_forward(
    x, spatial, eps, fraction, keep, kept, mean, inv_std, mean_sum, var_sum, gamma, beta, residual, slope, y
):
    """Normalise x by the statistics of the batch and go on to y = f(gamma x^ + beta + residual).

    residual: of x's size, or empty for none. slope: of f, the ReLU that follows; 1 for none. keep: whether x is
    copied to `kept`, as it must be where y is x.
    """
    channels = mean.size
    step = channels * spatial
    count = x.size // channels
    one = x.dtype.type(1)
    source = kept if keep else x
    for c in numba.prange(channels):
        # Planes are summed in single, their sums in double precision. The second and the third pass find the
        # planes in the cache.
        sum_of_planes = 0.0
        for start in range(c * spatial, x.size, step):
            plane = x[start : start + spatial]
            if keep:
                kept[start : start + spatial] = plane
            sum_of_planes += total(plane)
        mu = x.dtype.type(sum_of_planes / count)
        sum_of_squares = 0.0
        for start in range(c * spatial, x.size, step):
            sum_of_squares += squares(source[start : start + spatial], mu)
        factor = one / math.sqrt(x.dtype.type(sum_of_squares / count) + eps)
        for start in range(c * spatial, x.size, step):
            plane, out = source[start : start + spatial], y[start : start + spatial]
            if residual.size > 0:
                more = residual[start : start + spatial]
                _normalise_and_add(plane, mu, factor, gamma[c], beta[c], more, slope, out)
            else:
                _normalise(plane, mu, factor, gamma[c], beta[c], slope, out)
        mean[c], inv_std[c] = mu, factor
        mean_sum[c] = fraction * mean_sum[c] + mu
        var_sum[c] = fraction * var_sum[c] + x.dtype.type(sum_of_squares / max(1, count - 1))


@kernel
def _normalise(x, mu, factor, gamma, beta, slope, y):
    zero = x.dtype.type(0)
    for i in range(x.size):
        v = (x[i] - mu) * factor * gamma + beta
        y[i] = slope * v if v < zero else v


@kernel
def _normalise_and_add(x, mu, factor, gamma, beta, residual, slope, y):
    zero = x.dtype.type(0)
    for i in range(x.size):
        v = (x[i] - mu) * factor * gamma + beta + residual[i]
        y[i] = slope * v if v < zero else v


@parallel_kernel
def batch_norm_backward(
    x, dy, spatial, mean, inv_std, gamma, masked, y, slope, g, dx, gamma_sums, beta_sums
):
    """Compute dx from dy where y = f(gamma x^ + beta + residual); dx may be dy.

    masked, slope: whether a ReLU or a residual follows, and the ReLU's slope. g: where dy f' goes if something
    follows: to dx or, where there is a residual, to its gradient; else dy. gamma_sums, beta_sums: the sums of
    g x^ and of g, the gradients of gamma and beta.
    """
    channels = mean.size
    step = channels * spatial
    count = x.size // channels
    # Loops over two arrays that turn out to be one use no vectors, unless they are written for one.
    same_gradient, same_result = g.ctypes.data == dy.ctypes.data, g.ctypes.data == dx.ctypes.data
    for c in numba.prange(channels):
        mu, factor = mean[c], inv_std[c]
        plain, weighted = 0.0, 0.0
        for start in range(c * spatial, x.size, step):
            plane, grads = x[start : start + spatial], g[start : start + spatial]
            if masked and same_gradient:
                _mask_in_place(y[start : start + spatial], slope, grads)
            elif masked:
                _mask(y[start : start + spatial], dy[start : start + spatial], slope, grads)
            part, weighted_part = total_and_dot(grads, plane, mu)
            plain += part
            weighted += weighted_part
        gamma_sums[c], beta_sums[c] = weighted * factor, plain
        shift = x.dtype.type(plain / count)
        tilt = x.dtype.type(weighted / count) * factor * factor
        scale = factor * gamma[c]
        for start in range(c * spatial, x.size, step):
            plane, grads = x[start : start + spatial], g[start : start + spatial]
            if same_result:
                _gradient_in_place(plane, mu, shift, tilt, scale, grads)
            else:
                _gradient(plane, mu, grads, shift, tilt, scale, dx[start : start + spatial])


@kernel
def _mask(y, dy, slope, g):
    zero = y.dtype.type(0)
    for i in range(y.size):
        g[i] = dy[i] if y[i] > zero else slope * dy[i]


@kernel
def _mask_in_place(y, slope, g):
    zero = y.dtype.type(0)
    for i in range(y.size):
        g[i] = g[i] if y[i] > zero else slope * g[i]


@kernel
def _gradient_in_place(x, mu, shift, tilt, scale, g):
    for i in range(x.size):
        g[i] = (g[i] - shift - (x[i] - mu) * tilt) * scale


@kernel
def _gradient(x, mu, g, shift, tilt, scale, dx):
    for i in range(x.size):
        dx[i] = (g[i] - shift - (x[i] - mu) * tilt) * scale
