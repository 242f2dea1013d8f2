"""Convolutions written the slow and obvious way, in float64: one tap at a time."""

from __future__ import annotations

import numpy as np


def _windows(x_shape, w_shape, stride, pad, dilation, y_shape):
    """Yield (a, b, index) for each tap: `index` selects what it sees of the padded image for all outputs."""
    for a in range(w_shape[2]):
        for b in range(w_shape[3]):
            first = (a * dilation[0], b * dilation[1])
            index = tuple(
                slice(start, start + (out - 1) * step + 1, step)
                for start, out, step in zip(first, y_shape[2:], stride, strict=True)
            )
            yield a, b, (slice(None), slice(None), *index)


def _padded(x, pad):
    return np.pad(np.asarray(x, np.float64), ((0, 0), (0, 0), (pad[0], pad[0]), (pad[1], pad[1])))


def _groups(count, group):
    return [slice(g * count // group, (g + 1) * count // group) for g in range(group)]


def conv_forward(x, w, bias, stride, pad, dilation, group, y_shape):
    padded, y = _padded(x, pad), np.zeros(y_shape)
    for outputs, channels in zip(_groups(w.shape[0], group), _groups(x.shape[1], group), strict=True):
        for a, b, index in _windows(x.shape, w.shape, stride, pad, dilation, y_shape):
            y[:, outputs] += np.einsum(
                "oc,nchw->nohw", w[outputs, :, a, b].astype(np.float64), padded[index][:, channels]
            )
    return y + np.asarray(bias, np.float64)[:, None, None]


def conv_backward_data(dy, w, stride, pad, dilation, group, x_shape):
    dx = np.zeros((*x_shape[:2], x_shape[2] + 2 * pad[0], x_shape[3] + 2 * pad[1]))
    for outputs, channels in zip(_groups(w.shape[0], group), _groups(x_shape[1], group), strict=True):
        for a, b, index in _windows(x_shape, w.shape, stride, pad, dilation, dy.shape):
            dx[index][:, channels] += np.einsum(
                "oc,nohw->nchw", w[outputs, :, a, b].astype(np.float64), dy[:, outputs]
            )
    return dx[:, :, pad[0] : pad[0] + x_shape[2], pad[1] : pad[1] + x_shape[3]]


def conv_backward_weights(x, dy, w_shape, stride, pad, dilation, group):
    padded, dw = _padded(x, pad), np.zeros(w_shape)
    for outputs, channels in zip(_groups(w_shape[0], group), _groups(x.shape[1], group), strict=True):
        for a, b, index in _windows(x.shape, w_shape, stride, pad, dilation, dy.shape):
            dw[outputs, :, a, b] = np.einsum(
                "nohw,nchw->oc", dy[:, outputs].astype(np.float64), padded[index][:, channels]
            )
    return dw, dy.astype(np.float64).sum(axis=(0, 2, 3))
