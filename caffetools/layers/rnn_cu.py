"""RNN on the GPU; the mathematics is in `rnn`, what it shares with LSTM in `parts.recurrent_cu`."""

from __future__ import annotations

import math

from numba import cuda

from caffetools.engine.gpu import vector
from caffetools.engine.gpu.gemm import gemm
from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.layers.tanh_cu import tanh_backward, tanh_forward
from caffetools.parts.recurrent_cu import Recurrent, add_weight_gradient


def step(layer, t, cont):
    gpu, size = layer.gpu, layer.gpu.size
    launch(tanh_step, size, size, gpu.z, t * size, gpu.states[0], (t + 1) * size)


def step_backward(layer, t, cont):
    gpu, size = layer.gpu, layer.gpu.size
    launch(tanh_step_backward, size, size, gpu.states[0], (t + 1) * size, gpu.dh, gpu.dz, t * size)


def write_outputs(layer, y):
    hidden, items = layer.hidden, layer.steps * layer.streams
    w_o = layer.blobs[layer.w_o].gpu_data
    starts = (layer.gpu.size, 0, 0)
    gemm(False, True, items, hidden, hidden, 1, layer.gpu.states[0], w_o, 0, y, starts=starts)
    launch(vector.add_row, y.size, layer.blobs[layer.b_o].gpu_data, y)
    launch(tanh_forward, y.size, y, y)


def output_gradients(layer, top):
    gpu, hidden, items = layer.gpu, layer.hidden, layer.steps * layer.streams
    d_outputs, dh = gpu.outputs
    launch(tanh_backward, d_outputs.size, top.gpu_data, top.gpu_diff, d_outputs)
    add_weight_gradient(layer, layer.w_o, items, d_outputs, gpu.states[0], gpu.size)
    if layer.param_propagate_down[layer.b_o]:
        launch(vector.add_column_sums, hidden, d_outputs, items, layer.blobs[layer.b_o].mutable_gpu_diff)
    gemm(False, False, items, hidden, hidden, 1, d_outputs, layer.blobs[layer.w_o].gpu_data, 0, dh)
    return dh


twin = Recurrent(step, step_backward, write_outputs, output_gradients)
setup, reshape, forward, backward = twin.setup, twin.reshape, twin.forward, twin.backward


@cuda_kernel
def tanh_step(count, z, z_start, h, h_start):
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        h[h_start + i] = math.tanh(z[z_start + i])


@cuda_kernel
def tanh_step_backward(count, h, h_start, dh, dz, dz_start):
    one = h.dtype.type(1)
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        y = h[h_start + i]
        dz[dz_start + i] = dh[i] * (one - y * y)
