"""LSTM (Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000); z_t: see caffetools/parts/recurrent.py.

    i, f, o, g = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o), tanh(z_g)     the four parts of z_t, in this order
    c_t = cont_t f c_{t-1} + i g
    h_t = o tanh(c_t)                                                    which is also the output

Parameters: W_x (4H, D), b (4H), [W_s (4H, D_static)], W_h (4H, H).
"""

from __future__ import annotations

import numba

from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.engine.cpu.step_inputs import multiply_inputs, pack_inputs
from caffetools.engine.cpu.step_product import UNITS, fetch, multiply_step, store
from caffetools.engine.cpu.tiles import ADD
from caffetools.layers import lstm_unit
from caffetools.layers.lstm_unit import (
    CELLS,
    CONTINUED,
    DC,
    DZ,
    START,
    WORK,
    C,
    H,
    unit_backward,
    unit_forward,
)
from caffetools.parts.recurrent import RecurrentLayer


class LSTMLayer(RecurrentLayer):
    reads = ("recurrent_param",)
    gates = 4
    state_names = ("h", "c")
    step_name = "unit"
    input_name = "gate_input"
    backward_reads = ("bottom",)

    def allocate(self):
        self.cells = lstm_unit.cells(self.window, self.streams, self.hidden, self.dtype)

    def steps_forward(self, x, start, cont, weights_x, weights_h, out):
        h, c = self.states
        _forward(x, start, cont, weights_x, weights_h, c, h, self.h_continued, out, *self.cells)

    def steps_backward(self, dh, cont, weights_h):
        _backward(dh, cont, weights_h, self.dz, *self.cells)

    def output_gradients(self, top):
        return top.diff


@parallel_kernel
def _forward(x, start, cont, weights_x, weights_h, c, h, h_continued, out, cells, work, copier):
    """Do all steps, those of a window at a time."""
    window, streams, hidden = h_continued.shape
    for first in range(0, cont.shape[0], window):
        rows = x[first * streams : (first + window) * streams]
        for tile in numba.prange(weights_x[0]):
            pack_inputs(weights_x, tile, rows)
        for block in numba.prange(cells.shape[0]):
            _begin_block(first, block, start, cont, c, h, h_continued, cells[block], work[block], copier)
            multiply_inputs(weights_x, block, rows, cells, (block * (window + 1) + 1) * streams * CELLS, CELLS)
        for t in range(window):
            for block in numba.prange(cells.shape[0]):
                _forward_block(
                    first, t, block, cont, weights_h, c, h, h_continued, out, cells[block], work[block], copier
                )


@kernel
def _begin_block(first, block, start, cont, c, h, h_continued, cells, work, copier):
    """Begin a window with the states after the last one, the first window with those after the last pass."""
    window, streams, hidden = h_continued.shape
    if first == 0:
        last = h.size - streams * hidden
        fetch(start, 0, hidden, block, 4, work, START, copier)
        fetch(c, last, hidden, block, 1, cells[0], C, copier)
        fetch(h, last, hidden, block, 1, work, H, copier)
        for n in range(streams):
            for j in range(UNITS):
                work[n, CONTINUED + j] = work[n, H + j] * cont[0, n]
    else:
        for n in range(streams):
            for j in range(C, C + UNITS):
                cells[0, n, j] = cells[window, n, j]
    store(work, CONTINUED, h_continued, 0, hidden, block, 1, copier)


@kernel
def _forward_block(first, t, block, cont, weights_h, c, h, h_continued, out, cells, work, copier):
    steps, (window, streams, hidden) = len(cont), h_continued.shape
    here, there = t * streams * hidden, (t + 1) * streams * hidden
    multiply_step(weights_h, block, h_continued, here, cells, (t + 1) * streams * CELLS, CELLS, ADD)
    unit_forward(cells[t], cells[t + 1], work, cont[first + t], cont[min(first + t + 1, steps - 1)])
    store(work, H, out, (first + t) * streams * hidden, hidden, block, 1, copier)
    if t + 1 < window:
        store(work, CONTINUED, h_continued, there, hidden, block, 1, copier)
    if len(h) > 1 or first + t + 1 == steps:
        place = there if len(h) > 1 else 0
        store(cells[t + 1], C, c, place, hidden, block, 1, copier)
        store(work, H, h, place, hidden, block, 1, copier)


@parallel_kernel
def _backward(dh, cont, weights_h, dz, cells, work, copier):
    """Go back through all steps; dh: what the outputs give, (T, N, H)."""
    steps = dh.shape[0]
    for back in range(steps):
        for block in numba.prange(cells.shape[0]):
            _backward_block(steps - 1 - back, block, dh, cont, weights_h, dz, cells[block], work[block], copier)


@kernel
def _backward_block(t, block, dh, cont, weights_h, dz, cells, work, copier):
    steps, streams, hidden = dh.shape
    fetch(dh, t * streams * hidden, hidden, block, 1, work, H, copier)
    if t + 1 < steps:
        multiply_step(weights_h, block, dz, (t + 1) * streams * 4 * hidden, work, DZ, WORK, 0)
        for n in range(streams):
            for j in range(UNITS):
                work[n, H + j] += cont[t + 1, n] * work[n, DZ + j]
    else:
        work[:, DC : DC + UNITS] = 0
    unit_backward(cells[t], cells[t + 1], work, cont[t])
    store(work, DZ, dz, t * streams * 4 * hidden, hidden, block, 4, copier)
