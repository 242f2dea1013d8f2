"""LSTM on the GPU; the mathematics is in `lstm`, what it shares with RNN in `parts.recurrent_cu`."""

from __future__ import annotations

from caffetools.engine.gpu.launch import launch
from caffetools.layers.lstm_unit_cu import unit_backward, unit_forward
from caffetools.parts.recurrent_cu import Recurrent, copy_piece


def step(layer, t, cont):
    gpu, size = layer.gpu, layer.gpu.size
    h, c = gpu.states
    places = gpu.z, t * size * 4, cont, t * layer.streams, layer.hidden, c, t * size, c, (t + 1) * size
    launch(unit_forward, size, size, *places, h)


def step_backward(layer, t, cont):
    gpu, size = layer.gpu, layer.gpu.size
    c = gpu.states[1]
    places = gpu.z, t * size * 4, cont, t * layer.streams, layer.hidden, c, t * size, c, (t + 1) * size
    launch(unit_backward, size, size, *places, gpu.dc, gpu.dh, gpu.dc, gpu.dz)


def write_outputs(layer, y):
    launch(copy_piece, y.size, y.size, layer.gpu.states[0], layer.gpu.size, y, 0)


def output_gradients(layer, top):
    return top.gpu_diff


twin = Recurrent(step, step_backward, write_outputs, output_gradients)
setup, reshape, forward, backward = twin.setup, twin.reshape, twin.forward, twin.backward
