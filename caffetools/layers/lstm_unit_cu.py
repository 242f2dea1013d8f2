"""LSTMUnit on the GPU, and the step of an LSTM; the mathematics is in `lstm_unit`. A thread looks after a cell."""

from __future__ import annotations

import math

from numba import cuda

from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.exponential import sigmoid
from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.engine.gpu.memory import device_array


def reshape(layer, bottom, top):
    # Backward computes both gradients at once; one that is not wanted goes here.
    layer.gpu.unwanted = [device_array(current(), blob.count, layer.dtype) for blob in bottom[:2]]


def forward(layer, bottom, top):
    c_prev, z, cont = (blob.gpu_data for blob in bottom)
    c, h = (blob.mutable_gpu_data for blob in top)
    hidden = bottom[0].shape[2]
    launch(unit_forward, c.size, c.size, z, 0, cont, 0, hidden, c_prev, 0, c, 0, h)


def backward(layer, top, propagate_down, bottom):
    if propagate_down[2]:
        layer.backward(top, propagate_down, bottom)  # which refuses
    if not (propagate_down[0] or propagate_down[1]):
        return
    c_prev, z, cont = (blob.gpu_data for blob in bottom)
    dc, dh = (blob.gpu_diff for blob in top)
    dc_prev, dz = (
        blob.mutable_gpu_diff if wanted else unwanted
        for blob, wanted, unwanted in zip(bottom, propagate_down, layer.gpu.unwanted, strict=False)
    )
    hidden = bottom[0].shape[2]
    launch(
        unit_backward, dc.size, dc.size, z, 0, cont, 0, hidden, c_prev, 0, top[0].gpu_data, 0, dc, dh, dc_prev, dz
    )


@cuda_kernel
def unit_forward(count, z, z_start, cont, cont_start, hidden, c_prev, prev_start, c, c_start, h):
    """One step for `count` = N H cells. The arrays may hold all steps: *_start is where this one begins.

    c and h begin at the same place.
    """
    zero = z.dtype.type(0)
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        n = i // hidden
        first = z_start + n * 4 * hidden + i % hidden
        gate_i, gate_f = sigmoid(z[first]), sigmoid(z[first + hidden])
        gate_o, gate_g = sigmoid(z[first + 2 * hidden]), math.tanh(z[first + 3 * hidden])
        # Where a sequence starts the state before is forgotten, even a NaN.
        before = gate_f * c_prev[prev_start + i] if cont[cont_start + n] != zero else zero
        cell = cont[cont_start + n] * before + gate_i * gate_g
        c[c_start + i] = cell
        h[c_start + i] = gate_o * math.tanh(cell)


@cuda_kernel
def unit_backward(count, z, z_start, cont, cont_start, hidden, c_prev, prev_start, c, c_start, dc, dh, dc_prev, dz):
    """The gradients of one step; dc, dh and dc_prev hold this step only, and dc_prev may be dc."""
    zero, one = z.dtype.type(0), z.dtype.type(1)
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        n = i // hidden
        first = z_start + n * 4 * hidden + i % hidden
        gate_i, gate_f = sigmoid(z[first]), sigmoid(z[first + hidden])
        gate_o, gate_g = sigmoid(z[first + 2 * hidden]), math.tanh(z[first + 3 * hidden])
        tanh_c = math.tanh(c[c_start + i])
        goes_on = cont[cont_start + n]
        cell = dc[i] + dh[i] * gate_o * (one - tanh_c * tanh_c)
        dz[first] = cell * gate_g * gate_i * (one - gate_i)
        before = c_prev[prev_start + i] if goes_on != zero else zero
        dz[first + hidden] = cell * goes_on * before * gate_f * (one - gate_f)
        dz[first + 2 * hidden] = dh[i] * tanh_c * gate_o * (one - gate_o)
        dz[first + 3 * hidden] = cell * gate_i * (one - gate_g * gate_g)
        dc_prev[i] = cell * goes_on * gate_f
