"""RNN, the simple recurrent net (Elman 1990); z_t is made in caffetools/parts/recurrent.py.

    h_t = tanh(z_t)
    o_t = tanh(W_o h_t + b_o)        the output

Parameters: W_x (H, D), b (H), [W_s (H, D_static)], W_h (H, H), W_o (H, H), b_o (H).
"""

from __future__ import annotations

import numba
import numpy as np

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.exponential import tanh
from caffetools.engine.cpu.gemm import gemm
from caffetools.engine.cpu.inner_product import inner_product
from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.engine.cpu.step_inputs import multiply_inputs, pack_inputs
from caffetools.engine.cpu.step_product import UNITS, fetch, multiply_step, store
from caffetools.engine.cpu.tiles import ADD
from caffetools.engine.cpu.turn import mover
from caffetools.parts.recurrent import RecurrentLayer

# What a stream's cells hold, apart from h, which comes first and is z before: h or dh, and dz, for a moment.
DH, DZ, CELLS = UNITS, 2 * UNITS, 3 * UNITS


class RNNLayer(RecurrentLayer):
    reads = ("recurrent_param",)
    gates = 1
    state_names = ("h",)
    step_name = "h_neuron"
    input_name = "h_neuron_input"

    def setup(self, bottom, top):
        super().setup(bottom, top)
        param = self.param.recurrent_param
        self.add_param((self.hidden, self.hidden), param.weight_filler)
        self.add_param((self.hidden,), param.bias_filler)
        self.w_o, self.b_o = self.w_h + 1, self.w_h + 2

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        rows = self.steps * self.streams
        self.outputs = np.empty((rows, self.hidden), self.dtype)
        self.d_outputs = np.empty((rows, self.hidden), self.dtype)
        self.dh_outputs = np.empty((self.steps, self.streams, self.hidden), self.dtype)

    def allocate(self):
        blocks = -(-self.hidden // UNITS)
        self.cells = np.zeros((blocks, self.window, self.streams, CELLS), self.dtype)
        self.copier = mover(self.dtype), simd.lanes_of(self.dtype)

    def steps_forward(self, x, start, cont, weights_x, weights_h, out):
        h = self.states[0]
        _forward(x, start, cont, weights_x, weights_h, h, self.h_continued, out, self.cells, self.copier)

    def steps_backward(self, dh, cont, weights_h):
        _backward(dh, cont, weights_h, self.dz, self.cells, self.copier)

    def write_outputs(self, top):
        y = top.data.reshape(self.outputs.shape)
        inner_product(y, self.blobs[self.w_o].data, self.blobs[self.b_o].data, self.outputs)
        np.tanh(self.outputs, out=y)

    def output_gradients(self, top):
        shape = self.d_outputs.shape
        self._through_tanh(top.data.reshape(shape), top.diff.reshape(shape), self.d_outputs)
        self.add_weight_gradient(self.w_o, self.d_outputs, self.states[0][1:].reshape(shape))
        if self.param_propagate_down[self.b_o]:
            self.blobs[self.b_o].diff[...] += self.d_outputs.sum(axis=0)
        gemm(False, False, 1, self.d_outputs, self.blobs[self.w_o].data, 0, self.dh_outputs.reshape(shape))
        return self.dh_outputs

    @staticmethod
    def _through_tanh(y, dy, dx):
        """Write dy (1 - y^2) into dx."""
        np.square(y, out=dx)
        np.subtract(1, dx, out=dx)
        dx *= dy


@parallel_kernel
def _forward(x, start, cont, weights_x, weights_h, h, h_continued, out, cells, copier):
    """Do all steps, those of a window at a time; cells: (blocks, window, N, CELLS)."""
    window, streams, hidden = h_continued.shape
    for first in range(0, cont.shape[0], window):
        rows = x[first * streams : (first + window) * streams]
        for tile in numba.prange(weights_x[0]):
            pack_inputs(weights_x, tile, rows)
        for block in numba.prange(cells.shape[0]):
            _begin_block(first, block, cont, h, h_continued, cells[block, 0], copier)
            multiply_inputs(weights_x, block, rows, cells, block * window * streams * CELLS, CELLS)
        for t in range(window):
            for block in numba.prange(cells.shape[0]):
                _forward_block(
                    first, t, block, start, cont, weights_h, h, h_continued, out, cells[block, t], copier
                )


@kernel
def _begin_block(first, block, cont, h, h_continued, cells, copier):
    """Begin a window with the state after the last one."""
    window, streams, hidden = h_continued.shape
    fetch(h, h.size - streams * hidden, hidden, block, 1, cells, DH, copier)
    for n in range(streams):
        for j in range(UNITS):
            cells[n, DH + j] *= cont[first, n]
    store(cells, DH, h_continued, 0, hidden, block, 1, copier)


@kernel
def _forward_block(first, t, block, start, cont, weights_h, h, h_continued, out, cells, copier):
    window, streams, hidden = h_continued.shape
    here, there = t * streams * hidden, (t + 1) * streams * hidden
    multiply_step(weights_h, block, h_continued, here, cells, 0, CELLS, ADD)
    fetch(start, 0, hidden, block, 1, cells, DH, copier)
    for n in range(streams):
        goes_on = cont[min(first + t + 1, cont.shape[0] - 1), n]
        for j in range(UNITS):
            cells[n, j] = tanh(cells[n, j] + cells[n, DH + j])
            cells[n, DH + j] = cells[n, j] * goes_on
    if t + 1 == window or len(h) > 1:
        store(cells, 0, h, there if len(h) > 1 else 0, hidden, block, 1, copier)
    store(cells, 0, out, (first + t) * streams * hidden, hidden, block, 1, copier)
    if t + 1 < window:
        store(cells, DH, h_continued, there, hidden, block, 1, copier)


@parallel_kernel
def _backward(dh, cont, weights_h, dz, cells, copier):
    """Go back through all steps; dh: what the outputs give, (T, N, H)."""
    steps = dh.shape[0]
    for back in range(steps):
        for block in numba.prange(cells.shape[0]):
            t = steps - 1 - back
            _backward_block(t, block, dh, cont, weights_h, dz, cells[block, t], copier)


@kernel
def _backward_block(t, block, dh, cont, weights_h, dz, cells, copier):
    steps, streams, hidden = dh.shape
    one, here, there = cells.dtype.type(1), t * streams * hidden, (t + 1) * streams * hidden
    fetch(dh, here, hidden, block, 1, cells, DH, copier)
    if t + 1 < steps:
        multiply_step(weights_h, block, dz, there, cells, DZ, CELLS, 0)
        for n in range(streams):
            for j in range(UNITS):
                cells[n, DH + j] += cont[t + 1, n] * cells[n, DZ + j]
    for n in range(streams):
        for j in range(UNITS):
            cells[n, DZ + j] = cells[n, DH + j] * (one - cells[n, j] * cells[n, j])
    store(cells, DZ, dz, here, hidden, block, 1, copier)
