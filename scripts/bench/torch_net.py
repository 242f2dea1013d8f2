"""A PyTorch module from a net of ours, with the same layers and the same weights: the other side of the benchmarks."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from caffetools.net import Net
from caffetools.proto import caffe_pb2

POOL = caffe_pb2.PoolingParameter


class TorchNet(nn.Module):
    """Runs the layers of `net` in their order; `forward(data, label)` returns the sum of its weighted losses.

    ReLU works in place, as in PyTorch's own models. A net without losses returns its last blob.
    """

    def __init__(self, net: Net):
        super().__init__()
        self.modules_by_layer = nn.ModuleDict()
        self.steps = []
        for i, layer in enumerate(net.layers):
            if layer.type in ("Input", "Accuracy", "Silence"):
                continue
            make = getattr(self, f"make_{layer.type}")
            step = make(layer, net.bottoms[i])
            if isinstance(step, nn.Module):
                self.modules_by_layer[str(i)] = step
            weights = [w for w in layer.param.loss_weight if w] if layer.is_loss else []
            self.steps.append((step, net.bottom_names[i], net.top_names[i], weights[0] if weights else 0.0))
        self.input_names = net.inputs

    def forward(self, *inputs):
        blobs = dict(zip(self.input_names, inputs, strict=True))
        loss, last = 0.0, None
        for step, bottoms, tops, weight in self.steps:
            last = step(*(blobs[name] for name in bottoms))
            if weight:
                loss = loss + weight * last
            for name, value in zip(tops, last if isinstance(last, tuple) else [last] * len(tops), strict=True):
                blobs[name] = value
        return loss if isinstance(loss, torch.Tensor) else last

    @staticmethod
    def _load(module, layer):
        for mine, blob in zip((module.weight, module.bias), layer.blobs, strict=False):
            mine.data.copy_(torch.from_numpy(np.array(blob.data)).reshape(mine.shape))
        return module

    def make_Convolution(self, layer, bottom):
        param, window = layer.param.convolution_param, layer.window
        module = nn.Conv2d(
            bottom[0].shape[1], param.num_output, tuple(window.kernel), tuple(window.stride), tuple(window.pad),
            tuple(window.dilation), param.group, param.bias_term,
        )  # fmt: skip
        return self._load(module, layer)

    def make_InnerProduct(self, layer, bottom):
        param = layer.param.inner_product_param
        linear = self._load(nn.Linear(layer.inputs, param.num_output, param.bias_term), layer)
        return nn.Sequential(nn.Flatten(param.axis), linear)

    def make_LSTM(self, layer, bottom):
        return _Lstm(*(torch.from_numpy(np.array(blob.data)) for blob in layer.blobs))

    def make_Pooling(self, layer, bottom):
        param, window = layer.param.pooling_param, layer.window
        kernel = tuple(window.kernel_on(*bottom[0].shape[2:]))
        ceil = param.round_mode == POOL.CEIL
        kind = nn.MaxPool2d if param.pool == POOL.MAX else nn.AvgPool2d
        return kind(kernel, tuple(window.stride), tuple(window.pad), ceil_mode=ceil)

    def make_ReLU(self, layer, bottom):
        return nn.LeakyReLU(layer.param.relu_param.negative_slope, inplace=True) if (
            layer.param.relu_param.negative_slope
        ) else nn.ReLU(inplace=True)

    def make_LRN(self, layer, bottom):
        param = layer.param.lrn_param
        return nn.LocalResponseNorm(param.local_size, param.alpha, param.beta, param.k)

    def make_Dropout(self, layer, bottom):
        return nn.Dropout(layer.param.dropout_param.dropout_ratio)

    def make_BatchNorm(self, layer, bottom):
        return nn.BatchNorm2d(bottom[0].shape[1], layer.param.batch_norm_param.eps, affine=False)

    def make_Scale(self, layer, bottom):
        return _Scale(*(torch.from_numpy(np.array(blob.data)) for blob in layer.blobs))

    def make_Eltwise(self, layer, bottom):
        return lambda first, second: first + second

    def make_Concat(self, layer, bottom):
        return lambda *parts: torch.cat(parts, 1)

    def make_Split(self, layer, bottom):
        return lambda x: x

    def make_Softmax(self, layer, bottom):
        axis = layer.param.softmax_param.axis
        return lambda x: functional.softmax(x, axis)

    def make_SoftmaxWithLoss(self, layer, bottom):
        axis = layer.param.softmax_param.axis
        return lambda x, label: functional.cross_entropy(x.flatten(axis).flatten(0, axis - 1), label.flatten().long())


class _Scale(nn.Module):
    """y = a_c x + b_c, a Caffe net's other half of batch normalisation."""

    def __init__(self, scale, bias=None):
        super().__init__()
        self.scale = nn.Parameter(scale[:, None, None])
        self.bias = None if bias is None else nn.Parameter(bias[:, None, None])

    def forward(self, x):
        return x * self.scale if self.bias is None else torch.addcmul(self.bias, x, self.scale)


class _Lstm(nn.Module):
    """PyTorch's LSTM with a Caffe layer's weights; it begins every sequence with the batch, whatever `cont` says."""

    def __init__(self, w_x, bias, w_h):
        super().__init__()
        hidden = w_h.shape[1]
        self.lstm = nn.LSTM(w_x.shape[1], hidden)
        self.lstm.bias_hh_l0.data.zero_()
        order = (0, 1, 3, 2)  # i, f, g, o where Caffe has i, f, o, g
        parameters = (self.lstm.weight_ih_l0, w_x), (self.lstm.bias_ih_l0, bias), (self.lstm.weight_hh_l0, w_h)
        for mine, values in parameters:
            mine.data.copy_(torch.cat([values.split(hidden)[i] for i in order]))

    def forward(self, x, cont):
        return self.lstm(x)[0]
