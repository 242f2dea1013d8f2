"""BN, batch normalisation as forks have it: y = slope (x - mean) / sqrt(var + eps) + bias for each channel, axis 1.

In DeepLab, PSPNet and yjxiong/caffe four parameters (1, C, 1, 1): slope, bias, and running mean and variance. In
training mean and var are those of the batch, and the running ones become momentum * old + (1 - momentum) * batch's; in
tests, and with `frozen`, which leaves all parameters alone, the running ones are used.

In SegNet, known by bn_mode, scale_filler or shift_filler, two parameters: scale and shift. mean and var are always the
batch's (bn_mode LEARN), or there is nothing but scale and shift (INFERENCE), which hold the statistics then.

    dslope = sum dy x^,   dbias = sum dy,   dx: as in batch_norm, times slope

May work in place: x is then copied for the backward pass.
"""

from __future__ import annotations

import numpy as np

from caffetools.blob import Blob
from caffetools.glog import check, check_eq
from caffetools.layer import TEST, Layer
from caffetools.layers.batch_norm import batch_norm_backward, batch_norm_forward
from caffetools.layers.scale import scale_forward
from caffetools.proto import caffe_pb2

SEGNET = ("bn_mode", "scale_filler", "shift_filler")
OTHERS = ("slope_filler", "bias_filler", "momentum", "frozen")


class BNLayer(Layer):
    exact_bottoms = 1
    exact_tops = 1

    def setup(self, bottom, top):
        param = self.param.bn_param
        segnet, others = ([name for name in names if param.HasField(name)] for names in (SEGNET, OTHERS))
        words = f"{'/'.join(segnet)} is SegNet's, {'/'.join(others)} of other forks: one BN is not both"
        check(not (segnet and others), "SegNet's bn_param or that of others", f"{words} (layer '{self.name}')")
        self.segnet = bool(segnet)
        self.affine_only = param.bn_mode == param.INFERENCE
        self.frozen = param.frozen
        self.use_running = not self.segnet and (self.phase == TEST or self.frozen)
        self.momentum, self.eps = self.dtype.type(param.momentum), self.dtype.type(param.eps)
        self.channels = bottom[0].shape[bottom[0].canonical_axis(1)]
        self.input_blob = Blob((0,), self.dtype)
        shape = (1, self.channels, 1, 1)
        self.add_param(shape, self._filler(("slope_filler", "scale_filler"), 1))
        self.add_param(shape, self._filler(("bias_filler", "shift_filler"), 0))
        if not self.segnet:
            for value in (0, 1):
                self.add_param(shape, caffe_pb2.FillerParameter(type="constant", value=value))
            self._freeze(range(4) if self.frozen else (2, 3))

    def _filler(self, names, value):
        param = self.param.bn_param
        given = next((name for name in names if param.HasField(name)), None)
        return getattr(param, given) if given else caffe_pb2.FillerParameter(type="constant", value=value)

    def _freeze(self, indices):
        """Tell the solver to leave parameters alone."""
        while len(self.param.param) < 4:
            self.param.param.add()
        for i in indices:
            self.param.param[i].lr_mult = self.param.param[i].decay_mult = 0

    def reshape(self, bottom, top):
        words = f"the number of channels may not change (layer '{self.name}')"
        check_eq(bottom[0].shape[1], self.channels, "bottom[0]->channels() == channels_", words)
        top[0].reshape_like(bottom[0])
        self.spatial, self.items = bottom[0].count_from(2), bottom[0].shape[0]
        self.in_place = top[0] is bottom[0]
        self.input_blob.reshape((bottom[0].count if self.in_place and not self.use_running else 0,))
        self.mean, self.inv_std, self.batch_mean, self.batch_var = np.zeros((4, self.channels), self.dtype)
        self.slope_sums, self.bias_sums = np.empty((2, self.channels), self.dtype)
        self.nothing = np.empty(0, self.dtype)

    @property
    def backward_reads(self):
        return () if self.in_place or self.use_running else ("bottom",)

    def kept(self):
        return [self.input_blob] if self.input_blob.count else []

    def forward(self, bottom, top):
        x, y, one = bottom[0].flat_data, top[0].flat_data, self.dtype.type(1)
        slope, bias = self.blobs[0].flat_data, self.blobs[1].flat_data
        keep = self.in_place and not self.use_running
        kept = self.input_blob.flat_data
        if self.affine_only:
            scale_forward(x, slope, bias, self.spatial, keep, kept, one, y)
        elif self.use_running:
            mean, var = self.blobs[2].flat_data, self.blobs[3].flat_data
            np.divide(1, np.sqrt(var + self.eps), out=self.inv_std)
            factor = slope * self.inv_std
            scale_forward(x, factor, bias - mean * factor, self.spatial, False, kept, one, y)
        else:
            zero = self.dtype.type(0)
            statistics = self.mean, self.inv_std, self.batch_mean, self.batch_var
            batch_norm_forward(
                x, self.spatial, self.eps, zero, keep, kept, *statistics, slope, bias, self.nothing, one, y
            )
            if not self.segnet:
                self._collect(self.items * self.spatial)

    def _collect(self, count):
        # These forks collect the variance of the batch itself; the kernel's is the unbiased one.
        self.batch_var *= self.dtype.type((count - 1) / count if count else 1)
        for blob, values in zip(self.blobs[2:], (self.batch_mean, self.batch_var), strict=True):
            running = blob.flat_data
            running *= self.momentum
            running += (1 - self.momentum) * values

    def backward(self, top, propagate_down, bottom):
        dy, slope = top[0].flat_diff, self.blobs[0].flat_data
        dx = bottom[0].flat_diff
        x = self.input_blob.flat_data if self.in_place else bottom[0].flat_data
        if self.use_running:
            if propagate_down[0]:
                self._scale(dy, slope * self.inv_std, dx)
            return
        if self.affine_only:
            shape = (self.items, self.channels, self.spatial)
            grads = dy.reshape(shape)
            np.einsum("nci,nci->c", grads, x.reshape(shape), out=self.slope_sums)
            grads.sum(axis=(0, 2), out=self.bias_sums)
            if propagate_down[0]:
                self._scale(dy, slope, dx)
        else:
            target = dx if propagate_down[0] else np.empty_like(dy)
            one = self.dtype.type(1)
            batch_norm_backward(
                x, dy, self.spatial, self.mean, self.inv_std, slope, False, dy, one, dy, target,
                self.slope_sums, self.bias_sums,
            )  # fmt: skip
        for blob, sums, wanted in zip(
            self.blobs, (self.slope_sums, self.bias_sums), self.param_propagate_down, strict=False
        ):
            if wanted:
                gradient = blob.flat_diff
                gradient += sums

    def _scale(self, dy, factor, dx):
        nothing_added = np.zeros(self.channels, self.dtype)
        scale_forward(dy, factor, nothing_added, self.spatial, False, self.nothing, self.dtype.type(1), dx)
