"""RNN, the simple recurrent net (Elman 1990); z_t is made in caffetools/parts/recurrent.py.

    h_t = tanh(z_t)
    o_t = tanh(W_o h_t + b_o)        the output

Parameters: W_x (H, D), b (H), [W_s (H, D_static)], W_h (H, H), W_o (H, H), b_o (H).
"""

from __future__ import annotations

import numpy as np

from caffetools.engine.cpu.gemm import gemm
from caffetools.engine.cpu.inner_product import inner_product
from caffetools.parts.recurrent import RecurrentLayer


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

    def step(self, t, cont):
        np.tanh(self.z[t], out=self.states[0][t + 1])

    def step_backward(self, t, cont):
        self._through_tanh(self.states[0][t + 1], self.dh, self.dz[t])

    def write_outputs(self, top):
        h = self.states[0][1:].reshape(-1, self.hidden)
        inner_product(h, self.blobs[self.w_o].data, self.blobs[self.b_o].data, self.outputs)
        np.tanh(self.outputs, out=top.data.reshape(self.outputs.shape))

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
