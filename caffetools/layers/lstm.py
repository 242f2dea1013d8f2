"""LSTM (Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000); z_t: see caffetools/parts/recurrent.py.

    i, f, o, g = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o), tanh(z_g)     the four parts of z_t, in this order
    c_t = cont_t f c_{t-1} + i g
    h_t = o tanh(c_t)                                                    which is also the output

Parameters: W_x (4H, D), b (4H), [W_s (4H, D_static)], W_h (4H, H).
"""

from __future__ import annotations

import numpy as np

from caffetools.layers.lstm_unit import lstm_unit_backward, lstm_unit_forward
from caffetools.parts.recurrent import RecurrentLayer


class LSTMLayer(RecurrentLayer):
    reads = ("recurrent_param",)
    gates = 4
    state_names = ("h", "c")
    step_name = "unit"
    input_name = "gate_input"
    backward_reads = ("bottom",)

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.dc = np.empty((self.streams, self.hidden), self.dtype)

    def step(self, t, cont):
        h, c = self.states
        lstm_unit_forward(self.z[t], cont, c[t], c[t + 1], h[t + 1])

    def step_backward(self, t, cont):
        c = self.states[1]
        if t == self.steps - 1:
            self.dc.fill(0)
        lstm_unit_backward(self.z[t], cont, c[t], c[t + 1], self.dc, self.dh, self.dc, self.dz[t])

    def write_outputs(self, top):
        np.copyto(top.data, self.states[0][1:])

    def output_gradients(self, top):
        return top.diff
