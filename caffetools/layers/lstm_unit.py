"""LSTMUnit: one step of an LSTM, without its matrix products.

    i, f, o, g = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o), tanh(z_g)     the four parts of z, in this order
    c = cont f c_prev + i g
    h = o tanh(c)

Bottoms: c_prev (1, N, H), z (1, N, 4H), cont (1, N), which is 0 where a sequence starts, else 1.
Tops: c and h (1, N, H). Backward, with dc, dh from above:

    dc += dh o (1 - tanh(c)^2)
    dc_prev = dc cont f
    dz_i, dz_f, dz_o, dz_g = dc g i (1 - i),  dc cont c_prev f (1 - f),  dh tanh(c) o (1 - o),  dc i (1 - g^2)
"""

from __future__ import annotations

import numba
import numpy as np

from caffetools.engine.cpu.exponential import sigmoid, tanh
from caffetools.engine.cpu.jit import parallel_kernel
from caffetools.glog import check, check_eq
from caffetools.layer import Layer


class LSTMUnitLayer(Layer):
    exact_bottoms = 3
    exact_tops = 2

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
        self.activations = np.empty(z.shape[1:], self.dtype)
        # Backward computes both gradients at once; one that is not wanted goes here.
        self.unwanted = [np.empty(c_prev.shape[1:], self.dtype), np.empty(z.shape[1:], self.dtype)]

    def forward(self, bottom, top):
        c_prev, z, cont = (blob.data[0] for blob in bottom)
        np.copyto(self.activations, z)
        lstm_unit_forward(self.activations, cont, c_prev, top[0].data[0], top[1].data[0])

    def backward(self, top, propagate_down, bottom):
        words = f"Cannot backpropagate to sequence indicators. (layer '{self.name}')"
        check(not propagate_down[2], "!propagate_down[2]", words)
        dc_prev, dz = (
            blob.diff[0] if wanted else unwanted
            for blob, wanted, unwanted in zip(bottom, propagate_down, self.unwanted, strict=False)
        )
        c_prev, c, cont = bottom[0].data[0], top[0].data[0], bottom[2].data[0]
        dc, dh = top[0].diff[0], top[1].diff[0]
        lstm_unit_backward(self.activations, cont, c_prev, c, dc, dh, dc_prev, dz)

    def allow_force_backward(self, bottom_index):
        return bottom_index != 2


# A loop that does everything at once would read and write too many arrays to become vector instructions; the
# exponentials therefore have loops of their own.


@parallel_kernel
def lstm_unit_forward(gates, cont, c_prev, c, h):
    """Do one step; `gates` (N, 4H) holds z before and i, f, o, g after it."""
    zero = gates.dtype.type(0)
    hidden = c.shape[1]
    for n in numba.prange(c.shape[0]):
        for j in range(3 * hidden):
            gates[n, j] = sigmoid(gates[n, j])
        for j in range(3 * hidden, 4 * hidden):
            gates[n, j] = tanh(gates[n, j])
        # Not a product where a sequence starts: whatever the last one came to, NaN too, is forgotten.
        starts = cont[n] == zero
        for j in range(hidden):
            kept = zero if starts else cont[n] * gates[n, hidden + j] * c_prev[n, j]
            c[n, j] = kept + gates[n, j] * gates[n, 3 * hidden + j]
        for j in range(hidden):
            h[n, j] = gates[n, 2 * hidden + j] * tanh(c[n, j])


@parallel_kernel
def lstm_unit_backward(gates, cont, c_prev, c, dc, dh, dc_prev, dz):
    """Go back through one step, given i, f, o, g; `dc_prev` may be `dc`."""
    zero, one = gates.dtype.type(0), gates.dtype.type(1)
    hidden = c.shape[1]
    for n in numba.prange(c.shape[0]):
        for j in range(hidden):
            dz[n, 2 * hidden + j] = tanh(c[n, j])
        starts = cont[n] == zero
        for j in range(hidden):
            i, f, o, g = gates[n, j], gates[n, hidden + j], gates[n, 2 * hidden + j], gates[n, 3 * hidden + j]
            tanh_c = dz[n, 2 * hidden + j]
            d = dc[n, j] + dh[n, j] * o * (one - tanh_c * tanh_c)
            dc_prev[n, j] = zero if starts else d * cont[n] * f
            dz[n, j] = d * g * i * (one - i)
            dz[n, hidden + j] = zero if starts else d * cont[n] * c_prev[n, j] * f * (one - f)
            dz[n, 2 * hidden + j] = dh[n, j] * tanh_c * o * (one - o)
            dz[n, 3 * hidden + j] = d * i * (one - g * g)
