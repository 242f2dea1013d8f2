"""ONNX for LSTM, RNN and LSTMUnit: their steps one after another, since `cont` may start a sequence at any of them.

Without `expose_hidden` a graph begins with states of zero at every run, as a net does at its first.
"""

from __future__ import annotations

import numpy as np

from caffetools.exchange.graph import Step


def _cell(step: Step, z: str, cont: str, c_prev: str) -> tuple[str, str]:
    """One step of an LSTM from z (1, N, 4H), cont (1, N, 1) and c (1, N, H); returns the next c and h."""
    i, f, o, g = step.nodes("Split", [z], 4, axis=2)
    i, f, o = (step.node("Sigmoid", gate) for gate in (i, f, o))
    kept = step.node("Mul", step.node("Mul", cont, f), c_prev)
    c = step.node("Add", kept, step.node("Mul", i, step.node("Tanh", g)))
    return c, step.node("Mul", o, step.node("Tanh", c))


def lstm_unit(step: Step) -> list[str]:
    c_prev, z, cont = step.inputs
    cont = step.reshape(cont, lambda side: (*side.bottom[2].shape, 1))
    return list(_cell(step, z, cont, c_prev))


class _Unrolled:
    """What the two recurrent layers share: the inputs' part of z, and the states that go from step to step."""

    def __init__(self, step: Step):
        self.step = step
        layer = self.layer = step.layer
        self.steps = layer.steps
        x = step.reshape(step.x, lambda side: (*side.bottom[0].shape[:2], side.bottom[0].count_from(2)))
        z = step.node("Add", step.node("MatMul", x, step.weight(layer.w_x, transpose=True)), step.weight(layer.b))
        if layer.has_static:
            static = step.reshape(
                step.inputs[2], lambda side: (1, side.bottom[2].shape[0], side.bottom[2].count_from(1))
            )
            z = step.node("Add", z, step.node("MatMul", static, step.weight(layer.w_s, transpose=True)))
        cont = step.reshape(step.inputs[1], lambda side: (*side.bottom[1].shape, 1))
        self.z = self._in_steps(z)
        self.cont = self._in_steps(cont)
        self.w_h = step.weight(layer.w_h, transpose=True)
        if layer.exposed:
            self.first = step.inputs[len(step.inputs) - layer.exposed :]
        else:
            nothing = step.node("Mul", self.cont[0], step.constant(np.zeros((1, 1, layer.hidden))))
            self.first = [nothing] * len(layer.state_names)

    def _in_steps(self, value: str) -> list[str]:
        if self.steps == 1:
            return [value]
        sizes = self.step.constant([1] * self.steps, np.int64)
        return self.step.nodes("Split", [value, sizes], self.steps, axis=0)

    def input_of(self, t: int, h: str) -> str:
        """Return z of step t after the hidden state h."""
        continued = self.step.node("Mul", h, self.cont[t])
        return self.step.node("Add", self.z[t], self.step.node("MatMul", continued, self.w_h))

    def outputs(self, states: list[str], last: list[str]) -> list[str]:
        """Return the tops: all hidden states, and with `expose_hidden` the last of each kind."""
        together = states[0] if self.steps == 1 else self.step.node("Concat", *states, axis=0)
        return [together, *(last if self.layer.exposed else [])]


def lstm(step: Step) -> list[str]:
    unrolled = _Unrolled(step)
    h, c = unrolled.first
    outputs = []
    for t in range(unrolled.steps):
        c, h = _cell(step, unrolled.input_of(t, h), unrolled.cont[t], c)
        outputs.append(h)
    return unrolled.outputs(outputs, [h, c])


def rnn(step: Step) -> list[str]:
    unrolled, layer = _Unrolled(step), step.layer
    (h,) = unrolled.first
    outputs = []
    for t in range(unrolled.steps):
        h = step.node("Tanh", unrolled.input_of(t, h))
        product = step.node("MatMul", h, step.weight(layer.w_o, transpose=True))
        outputs.append(step.node("Tanh", step.node("Add", product, step.weight(layer.b_o))))
    return unrolled.outputs(outputs, [h])


EXPORTERS = {"LSTM": lstm, "LSTMUnit": lstm_unit, "RNN": rnn}
