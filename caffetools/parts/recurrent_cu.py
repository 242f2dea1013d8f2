"""What LSTM and RNN share on the GPU: the twin of `parts.recurrent`, where the mathematics is.

The states of all steps lie one after another in one array, and so do z and dz; a step begins at a multiple of N H, or
of N H times the gates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import cuda

from caffetools.engine.gpu import vector
from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.gemm import gemm
from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.engine.gpu.memory import device_array, overwrite, to_host, zero


@dataclass(frozen=True)
class Recurrent:
    """The twin's functions for one type of layer.

    step(layer, t, cont): the states after step t from z and the states before. step_backward(layer, t, cont): its
    dz from `layer.gpu.dh`. write_outputs(layer, y): the first top. output_gradients(layer, top): the array of what
    the first top gives to the gradient of the hidden states, for all steps.
    """

    step: Callable
    step_backward: Callable
    write_outputs: Callable
    output_gradients: Callable

    def setup(self, layer, bottom, top):
        gpu = layer.gpu
        gpu.streams = None
        # The states live on the device; resuming a run asks for them.
        layer.get_state = lambda: _get_state(layer)
        layer.set_state = lambda state: _set_state(layer, state)

    def reshape(self, layer, bottom, top):
        gpu, streams = layer.gpu, layer.streams
        if gpu.streams == streams:
            return
        last = _last_states(layer) if gpu.streams is not None else []
        engine, size, dtype = current(), streams * layer.hidden, layer.dtype
        gpu.streams, gpu.size = streams, size
        gpu.states = [device_array(engine, (layer.steps + 1) * size, dtype) for _ in layer.state_names]
        for state in gpu.states:
            zero(engine, state)
        gpu.z, gpu.dz = (device_array(engine, layer.steps * size * layer.gates, dtype) for _ in range(2))
        # What the static input adds to z of every step, and the sum of its gradient over the steps.
        gpu.z_part = device_array(engine, size * layer.gates, dtype)
        # The hidden states as W_h sees them: zero where a sequence starts.
        gpu.h_continued = device_array(engine, layer.steps * size, dtype)
        gpu.dh, gpu.dc = (device_array(engine, size, dtype) for _ in range(2))
        gpu.outputs = [device_array(engine, layer.steps * size, dtype) for _ in range(2)]
        _restore(layer, last)

    def forward(self, layer, bottom, top):
        gpu, size, width = layer.gpu, layer.gpu.size, layer.width
        last = layer.steps * size
        for i, state in enumerate(gpu.states):
            source, start = state, last
            if layer.exposed:
                source, start = bottom[len(bottom) - layer.exposed + i].gpu_data, 0
            launch(copy_piece, size, size, source, start, state, 0)
        self._multiply_inputs(layer, bottom)
        cont, w_h = bottom[1].gpu_data, layer.blobs[layer.w_h].gpu_data
        streams, hidden = layer.streams, layer.hidden
        for t in range(layer.steps):
            first = t * size
            launch(continued, size, size, gpu.states[0], first, cont, t * streams, hidden, gpu.h_continued, first)
            starts = (first, 0, first * layer.gates)
            gemm(False, True, streams, width, hidden, 1, gpu.h_continued, w_h, 1, gpu.z, starts=starts)
            self.step(layer, t, cont)
        self.write_outputs(layer, top[0].mutable_gpu_data)
        for blob, state in zip(top[1:], gpu.states, strict=False):
            launch(copy_piece, size, size, state, last, blob.mutable_gpu_data, 0)

    def _multiply_inputs(self, layer, bottom):
        """Compute the part of z that does not depend on the hidden states, for all steps at once."""
        gpu, width, items = layer.gpu, layer.width, layer.steps * layer.streams
        w_x = layer.blobs[layer.w_x]
        gemm(False, True, items, width, w_x.shape[1], 1, bottom[0].gpu_data, w_x.gpu_data, 0, gpu.z)
        launch(vector.add_row, gpu.z.size, layer.blobs[layer.b].gpu_data, gpu.z)
        if layer.has_static:
            w_s = layer.blobs[layer.w_s]
            gemm(False, True, layer.streams, width, w_s.shape[1], 1, bottom[2].gpu_data, w_s.gpu_data, 0, gpu.z_part)
            launch(vector.add_row, gpu.z.size, gpu.z_part, gpu.z)

    def backward(self, layer, top, propagate_down, bottom):
        if propagate_down[1]:
            layer.backward(top, propagate_down, bottom)  # which refuses
        gpu, size, cont = layer.gpu, layer.gpu.size, bottom[1].gpu_data
        w_h = layer.blobs[layer.w_h].gpu_data
        d_outputs = self.output_gradients(layer, top[0])
        for array in (gpu.dh, gpu.dc):
            zero(current(), array)
        for t in reversed(range(layer.steps)):
            launch(add_piece, size, size, d_outputs, t * size, gpu.dh)
            self.step_backward(layer, t, cont)
            if t > 0:
                starts = (t * size * layer.gates, 0, 0)
                gemm(False, False, layer.streams, layer.hidden, layer.width, 1, gpu.dz, w_h, 0, gpu.dh, starts=starts)
                launch(continued, size, size, gpu.dh, 0, cont, t * layer.streams, layer.hidden, gpu.dh, 0)
        self._backward_inputs(layer, bottom, propagate_down)

    def _backward_inputs(self, layer, bottom, propagate_down):
        """From dz to the gradients of bottoms and parameters."""
        gpu, items = layer.gpu, layer.steps * layer.streams
        _backward_product(layer, items, gpu.dz, bottom[0], layer.w_x, propagate_down[0])
        if layer.param_propagate_down[layer.b]:
            launch(vector.add_column_sums, layer.width, gpu.dz, items, layer.blobs[layer.b].mutable_gpu_diff)
        if layer.has_static:
            zero(current(), gpu.z_part)
            launch(vector.add_column_sums, gpu.z_part.size, gpu.dz, layer.steps, gpu.z_part)
            _backward_product(layer, layer.streams, gpu.z_part, bottom[2], layer.w_s, propagate_down[2])
        add_weight_gradient(layer, layer.w_h, items, gpu.dz, gpu.h_continued)
        for i in range(len(bottom) - layer.exposed, len(bottom)):
            if propagate_down[i]:
                zero(current(), bottom[i].mutable_gpu_diff)


def _backward_product(layer, rows, dz, blob, place, wanted):
    """Backward through z = x W^T, where x is a bottom of `rows` rows and W parameter number `place`."""
    outputs, inputs = layer.blobs[place].shape
    add_weight_gradient(layer, place, rows, dz, blob.gpu_data)
    if wanted:
        w = layer.blobs[place].gpu_data
        gemm(False, False, rows, inputs, outputs, 1, dz, w, 0, blob.mutable_gpu_diff)


def add_weight_gradient(layer, place: int, rows: int, dz, x, x_start: int = 0) -> None:
    """Add the gradient of W in z = x W^T to parameter number `place`, if it is wanted; x begins at x_start."""
    if layer.param_propagate_down[place]:
        outputs, inputs = layer.blobs[place].shape
        dw = layer.blobs[place].mutable_gpu_diff
        gemm(True, False, outputs, inputs, rows, 1, dz, x, 1, dw, starts=(0, x_start, 0))


def _last_states(layer) -> list[np.ndarray]:
    gpu = layer.gpu
    shape = (layer.steps + 1, gpu.streams, layer.hidden)
    return [to_host(current(), state).reshape(shape)[-1] for state in gpu.states]


def _restore(layer, last):
    """Take over the states that some streams had after their last step."""
    gpu = layer.gpu
    for state, values in zip(gpu.states, last, strict=False):
        common = min(len(values), gpu.streams)
        host = np.zeros((layer.steps + 1, gpu.streams, layer.hidden), layer.dtype)
        host[-1, :common] = values[:common]
        overwrite(current(), state, host.reshape(-1))


def _get_state(layer):
    """The states after the last step."""
    if layer.exposed:
        return None
    return {name: state.tolist() for name, state in zip(layer.state_names, _last_states(layer), strict=True)}


def _set_state(layer, state):
    _restore(layer, [np.array(state[name], layer.dtype) for name in layer.state_names])


@cuda_kernel
def copy_piece(count, source, source_start, target, target_start):
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        target[target_start + i] = source[source_start + i]


@cuda_kernel
def add_piece(count, source, source_start, target):
    """target_i += source_(source_start + i)"""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        target[i] += source[source_start + i]


@cuda_kernel
def continued(count, source, source_start, cont, cont_start, hidden, target, target_start):
    """target = source times cont of the stream, which is 0 where a sequence starts."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        target[target_start + i] = source[source_start + i] * cont[cont_start + i // hidden]
