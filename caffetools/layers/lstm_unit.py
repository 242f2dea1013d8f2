"""LSTMUnit: one step of an LSTM, without its matrix products.

    i, f, o, g = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o), tanh(z_g)     the four parts of z, in this order
    c = cont f c_prev + i g
    h = o tanh(c)

Bottoms: c_prev (1, N, H), z (1, N, 4H), cont (1, N), which is 0 where a sequence starts, else 1.
Tops: c and h (1, N, H). Backward, with dc, dh from above:

    dc += dh o (1 - tanh(c)^2)
    dc_prev = dc cont f
    dz_i, dz_f, dz_o, dz_g = dc g i (1 - i),  dc cont c_prev f (1 - f),  dh tanh(c) o (1 - o),  dc i (1 - g^2)

Kernels work on blocks of `UNITS` of the H units: everything that belongs to a block lies side by side in cells, where
loops of constant length become vector instructions.
"""

from __future__ import annotations

import numba
import numpy as np

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.exponential import sigmoid, tanh
from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.engine.cpu.step_product import UNITS, fetch, store
from caffetools.engine.cpu.turn import mover
from caffetools.glog import check, check_eq
from caffetools.layer import Layer

# What a stream's cells hold, apart from i, f, o, g, which come first and are z before; then what is of use for a moment
# only: forward h, h as the next step sees it, and what is to be added to z, backward dh, dc and dz.
C, TANH_C, CELLS = 4 * UNITS, 5 * UNITS, 6 * UNITS
H, CONTINUED, START, WORK = 0, UNITS, 2 * UNITS, 6 * UNITS
DC, DZ = UNITS, 2 * UNITS


class LSTMUnitLayer(Layer):
    exact_bottoms = 3
    exact_tops = 2

    def setup(self, bottom, top):
        self.refuse_in_place(bottom, top)

    def reshape(self, bottom, top):
        c_prev, z, cont = bottom
        for i, (blob, axes) in enumerate(zip(bottom, (3, 3, 2), strict=True)):
            words = f"(layer '{self.name}')"
            check_eq(axes, len(blob.shape), f"{axes} == bottom[{i}]->num_axes()", words)
            check_eq(1, blob.shape[0], f"1 == bottom[{i}]->shape(0)", words)
            check_eq(c_prev.shape[1], blob.shape[1], f"num_instances == bottom[{i}]->shape(1)", words)
        hidden = c_prev.shape[2]
        check_eq(4 * hidden, z.shape[2], "4 * hidden_dim_ == bottom[1]->shape(2)", words)
        for blob in top:
            blob.reshape_like(c_prev)
        self.cells = cells(1, z.shape[1], hidden, self.dtype)
        # Backward computes both gradients at once; one that is not wanted goes here.
        self.unwanted = [np.empty(c_prev.shape[1:], self.dtype), np.empty(z.shape[1:], self.dtype)]

    def forward(self, bottom, top):
        c_prev, z, cont = (blob.data[0] for blob in bottom)
        _forward(z, cont, c_prev, *(blob.data[0] for blob in top), *self.cells)

    def backward(self, top, propagate_down, bottom):
        words = f"Cannot backpropagate to sequence indicators. (layer '{self.name}')"
        check(not propagate_down[2], "!propagate_down[2]", words)
        dc_prev, dz = (
            blob.diff[0] if wanted else unwanted
            for blob, wanted, unwanted in zip(bottom, propagate_down, self.unwanted, strict=False)
        )
        cont, dc, dh = bottom[2].data[0], top[0].diff[0], top[1].diff[0]
        _backward(cont, dc, dh, dc_prev, dz, *self.cells)

    def allow_force_backward(self, bottom_index):
        return bottom_index != 2


def cells(steps: int, streams: int, hidden: int, dtype) -> tuple:
    """Return cells, (blocks, steps + 1, streams, CELLS), which begin with those before the first step, room to work in,
    (blocks, streams, WORK), and what copies to and from both."""
    blocks = -(-hidden // UNITS)
    kept, work = (blocks, steps + 1, streams, CELLS), (blocks, streams, WORK)
    return np.zeros(kept, dtype), np.zeros(work, dtype), (mover(dtype), simd.lanes_of(dtype))


@parallel_kernel
def _forward(z, cont, c_prev, c, h, cells, work, copier):
    hidden = c.shape[1]
    for block in numba.prange(cells.shape[0]):
        fetch(z, 0, hidden, block, 4, cells[block, 1], 0, copier)
        fetch(c_prev, 0, hidden, block, 1, cells[block, 0], C, copier)
        work[block, :, START:] = 0
        unit_forward(cells[block, 0], cells[block, 1], work[block], cont, cont)
        store(cells[block, 1], C, c, 0, hidden, block, 1, copier)
        store(work[block], H, h, 0, hidden, block, 1, copier)


@parallel_kernel
def _backward(cont, dc, dh, dc_prev, dz, cells, work, copier):
    hidden = dc.shape[1]
    for block in numba.prange(cells.shape[0]):
        fetch(dc, 0, hidden, block, 1, work[block], DC, copier)
        fetch(dh, 0, hidden, block, 1, work[block], H, copier)
        unit_backward(cells[block, 0], cells[block, 1], work[block], cont)
        store(work[block], DC, dc_prev, 0, hidden, block, 1, copier)
        store(work[block], DZ, dz, 0, hidden, block, 4, copier)


@kernel
def unit_forward(before, cells, work, cont, following):
    """From z, what is to be added to it and the c before to the gates, c, tanh(c), h, and h as the next step sees it,
    where `following` stands for cont."""
    zero = cells.dtype.type(0)
    for n in range(cells.shape[0]):
        row, start = cells[n], work[n]
        for j in range(3 * UNITS):
            row[j] = sigmoid(row[j] + start[START + j])
        for j in range(3 * UNITS, 4 * UNITS):
            row[j] = tanh(row[j] + start[START + j])
    # Apart from the gates, so that these need not wait for the long way from c to h.
    for n in range(cells.shape[0]):
        row, c_prev, out = cells[n], before[n], work[n]
        # Not a product where a sequence starts: whatever the last one came to, NaN too, is forgotten.
        starts = cont[n] == zero
        for j in range(UNITS):
            kept = zero if starts else cont[n] * row[UNITS + j] * c_prev[C + j]
            row[C + j] = kept + row[j] * row[3 * UNITS + j]
            row[TANH_C + j] = tanh(row[C + j])
            out[H + j] = row[2 * UNITS + j] * row[TANH_C + j]
            out[CONTINUED + j] = out[H + j] * following[n]


@kernel
def unit_backward(before, cells, work, cont):
    """From dh and dc to dz, and to the gradient of the c before in dc's place."""
    zero, one = cells.dtype.type(0), cells.dtype.type(1)
    for n in range(cells.shape[0]):
        row, c_prev, out = cells[n], before[n], work[n]
        starts = cont[n] == zero
        for j in range(UNITS):
            i, f, o, g = row[j], row[UNITS + j], row[2 * UNITS + j], row[3 * UNITS + j]
            dh, tanh_c = out[H + j], row[TANH_C + j]
            d = out[DC + j] + dh * o * (one - tanh_c * tanh_c)
            out[DC + j] = zero if starts else d * cont[n] * f
            out[DZ + j] = d * g * i * (one - i)
            out[DZ + UNITS + j] = zero if starts else d * cont[n] * c_prev[C + j] * f * (one - f)
            out[DZ + 2 * UNITS + j] = dh * tanh_c * o * (one - o)
            out[DZ + 3 * UNITS + j] = d * i * (one - g * g)
