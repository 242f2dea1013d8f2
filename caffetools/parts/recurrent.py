"""What LSTM and RNN share: T time steps of N independent streams, with H hidden units each.

Bottoms: x (T, N, ...), cont (T, N), which is 0 where a sequence starts and 1 where it goes on, then, if
given, x_static (N, ...), which every step sees, and with `expose_hidden` the states before the first step,
(1, N, H) each. Tops: the outputs (T, N, H), and with `expose_hidden` the states after the last step, (1, N,
H) each.

    z_t = W_x x_t + b + W_s x_static + W_h (cont_t h_{t-1})      t = 1 .. T

The subclasses say how z_t makes the next state and what the outputs are. All steps' W_x x_t are one matrix
product, and so are, backward, the gradients of W_x, W_h and x; a step costs one product with W_h and one
pass over its elements.

The state after the last step is where the next forward pass begins (zero at first), unless the states are
exposed. The gradient does not cross passes: exposed states, too, get a gradient of zero and give none, as
in the original.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffetools.engine.aligned import aligned_empty, aligned_zeros
from caffetools.engine.cpu.gemm import gemm
from caffetools.engine.cpu.step_inputs import InputWeights
from caffetools.engine.cpu.step_product import StepWeights
from caffetools.glog import check, check_eq, check_ge, check_gt, info, note
from caffetools.layer import TEST, Layer

#: Steps that are done at a time, at least: with fewer, the products with W_x would have too few rows.
FEWEST_STEPS = 4


class RecurrentLayer(Layer):
    """The base of LSTM and RNN, which implement `allocate`, `steps_forward`, `steps_backward`, `output_gradients`
    and, where outputs are not the hidden states, `write_outputs`.

    gates: size of z_t in units of H. state_names: the states that go from step to step, the hidden one first.
    `states[i]` is (T + 1, N, H) and holds the states after the steps, from the second place on, or (1, N, H), those
    after the last step, where `window`, the number of steps that are done at a time, is less than T. It is T, but in
    the TEST phase a divisor of T: there nobody looks at steps that are over. `dz` is (T, N, gates H), made for the
    first pass backward.
    """

    gates: int
    state_names: Sequence[str]
    # What the log of debug_info calls a step and its z_t, as the original's unrolled net does.
    step_name: str
    input_name: str

    @property
    def exposed(self) -> int:
        """The number of states that come from bottoms and go to tops."""
        return len(self.state_names) if self.param.recurrent_param.expose_hidden else 0

    @property
    def min_bottoms(self) -> int:
        return 2 + self.exposed

    @property
    def max_bottoms(self) -> int:
        return 3 + self.exposed

    @property
    def exact_tops(self) -> int:
        return 1 + self.exposed

    def setup(self, bottom, top):
        self.refuse_in_place(bottom, top)
        param = self.param.recurrent_param
        check_gt(param.num_output, 0, "num_output > 0", f"num_output must be positive (layer '{self.name}')")
        self.hidden, self.debug_info = param.num_output, param.debug_info
        self.has_static = len(bottom) > 2 + self.exposed
        if self.exposed:
            note(f"Layer {self.name}: no gradient passes through exposed hidden states.")
        self._check_sequence(bottom)
        self.steps = bottom[0].shape[0]
        info(
            f"Initializing recurrent layer: assuming input batch contains {self.steps} timesteps of "
            f"{bottom[0].shape[1]} independent streams."
        )
        self.width = self.gates * self.hidden
        inputs = bottom[0].count_from(bottom[0].canonical_axis(2))
        self.add_param((self.width, inputs), param.weight_filler)
        self.add_param((self.width,), param.bias_filler)
        if self.has_static:
            inputs = bottom[2].count_from(bottom[2].canonical_axis(1))
            self.add_param((self.width, inputs), param.weight_filler)
        self.add_param((self.width, self.hidden), param.weight_filler)
        # Places of the parameters in `blobs`; what a subclass adds comes behind.
        self.w_x, self.b, self.w_s, self.w_h = 0, 1, 2, 2 + self.has_static
        self.streams = None

    def reshape(self, bottom, top):
        self._check_sequence(bottom)
        words = f"input number of timesteps changed (layer '{self.name}')"
        check_eq(self.steps, bottom[0].shape[0], "T_ == bottom[0]->shape(0)", words)
        if self.streams != bottom[0].shape[1]:
            self._allocate(bottom[0].shape[1])
        self._check_inputs(bottom)
        top[0].reshape((self.steps, self.streams, self.hidden))
        for blob in top[1:]:
            blob.reshape((1, self.streams, self.hidden))

    def _check_sequence(self, bottom):
        x, cont = bottom[:2]
        words = f"bottom[0] must have at least 2 axes -- (#timesteps, #streams, ...) (layer '{self.name}')"
        check_ge(len(x.shape), 2, "bottom[0]->num_axes() >= 2", words)
        words = f"bottom[1] must have exactly 2 axes -- (#timesteps, #streams) (layer '{self.name}')"
        check_eq(len(cont.shape), 2, "bottom[1]->num_axes() == 2", words)
        for axis, expected in enumerate("TN"):
            words = f"bottom[0] and bottom[1] must agree (layer '{self.name}')"
            check_eq(x.shape[axis], cont.shape[axis], f"{expected}_ == bottom[1]->shape({axis})", words)

    def _check_inputs(self, bottom):
        inputs = [("x", bottom[0].count_from(2), self.w_x)]
        if self.has_static:
            size = bottom[2].shape[bottom[2].canonical_axis(0)]
            words = f"the static input must have a row for each stream (layer '{self.name}')"
            check_eq(self.streams, size, "N_ == bottom[2]->shape(0)", words)
            inputs.append(("x_static", bottom[2].count_from(1), self.w_s))
        for name, size, place in inputs:
            words = f"Input size incompatible with inner product parameters. ({name} of layer '{self.name}')"
            check_eq(self.blobs[place].shape[1], size, "K_ == new_K", words)
        for i, blob in enumerate(bottom[len(bottom) - self.exposed :], len(bottom) - self.exposed):
            expected = (1, self.streams, self.hidden)
            words = f"bottom[{i}] shape must match hidden state input shape: 1 {self.streams} {self.hidden}"
            check(blob.shape == expected, "recur_input_blobs_[j]->shape() == bottom[i]->shape()", words)

    def _allocate(self, streams):
        """Make the arrays for another number of streams; those that stay keep their states."""
        last = [state[-1] for state in self.states] if self.streams is not None else []
        self.streams = streams
        self._make_room(self._steps_at_a_time())
        self._restore(last)
        self.dz = None
        # What z_t is without x_t and h_{t-1}.
        self.start = aligned_empty((streams, self.width), self.dtype)
        hidden = self.hidden
        self.weights_h = StepWeights("h", streams, hidden, hidden, self.gates, self.dtype, turned=True)
        self.weights_back = StepWeights("h", streams, self.width, hidden, 1, self.dtype, turned=False)

    def _steps_at_a_time(self):
        """Return how many steps are kept: all where a pass backward or the log asks for them, else a divisor of T."""
        if self.phase != TEST or self.debug_info:
            return self.steps
        return next((n for n in range(FEWEST_STEPS, self.steps) if self.steps % n == 0), self.steps)

    def _make_room(self, window):
        """Make the arrays for `window` steps; the states begin with zeros."""
        streams, hidden, dtype = self.streams, self.hidden, self.dtype
        self.window = window
        count = window + 1 if window == self.steps else 1
        self.states = [aligned_zeros((count, streams, hidden), dtype) for _ in self.state_names]
        # The hidden states as W_h sees them: zero where a sequence starts.
        self.h_continued = aligned_empty((window, streams, hidden), dtype)
        inputs = self.blobs[self.w_x].shape[1]
        self.forget_kept()
        self.weights_x = InputWeights(window * streams, inputs, hidden, self.gates, dtype)
        self.allocate()

    def _restore(self, last):
        """Take over the states that some streams had after their last step."""
        for state, values in zip(self.states, last, strict=False):
            common = min(len(values), self.streams)
            state[-1, :common] = values[:common]

    def forward(self, bottom, top):
        first_state = len(bottom) - self.exposed
        self.first = [
            np.copy(bottom[first_state + i].data[0] if self.exposed else state[-1])
            for i, state in enumerate(self.states)
        ]
        self._forward(bottom, top)

    def _forward(self, bottom, top):
        """Go forward from the states `first`, `window` steps at a time."""
        self.start[:] = self.blobs[self.b].data
        if self.has_static:
            w_s = self.blobs[self.w_s].data
            gemm(False, True, 1, bottom[2].data.reshape(-1, w_s.shape[1]), w_s, 1, self.start)
        for state, first in zip(self.states, self.first, strict=True):
            state[-1] = first
        if self.streams:
            x = bottom[0].data.reshape(-1, self.blobs[self.w_x].shape[1])
            self.steps_forward(x, self.start, bottom[1].data, *self._weights(), top[0].data)
        self.write_outputs(top[0])
        for blob, state in zip(top[1:], self.states, strict=False):
            blob.data[0] = state[-1]
        if self.debug_info:
            after = [state[1:] for state in self.states]
            self._report("Forward", "top", zip(self.state_names, after, strict=True), "data")

    def packings(self):
        return [packing for packing in (self.weights_x.packing, self.weights_h) if packing is not None]

    def backward_packings(self, propagate_down):
        return (self.weights_back,)

    def _weights(self):
        """Return W_x and W_h, ready for `multiply_inputs` and `multiply_step`."""
        ready = []
        for place, weights in ((self.w_x, self.weights_x), (self.w_h, self.weights_h)):
            kept = self.kept_of(place)
            ready.append(weights.ready(self.blobs[place].cpu_data, kept))
        return ready

    def backward(self, top, propagate_down, bottom):
        words = f"Cannot backpropagate to sequence indicators. (layer '{self.name}')"
        check(not propagate_down[1], "!propagate_down[1]", words)
        if self.window < self.steps:  # in a net of the TEST phase that goes back all the same
            self._make_room(self.steps)
            self._forward(bottom, top)
        if self.dz is None:
            self.dz = aligned_empty((self.steps, self.streams, self.width), self.dtype)
        dh = self.output_gradients(top[0])
        if self.streams:
            kept = self.kept_of(self.w_h)
            self.steps_backward(dh, bottom[1].data, self.weights_back.ready(self.blobs[self.w_h].cpu_data, kept))
        self._backward_inputs(bottom, propagate_down)
        if self.debug_info:
            self._report("Backward", "bottom", [(self.input_name, self.dz)], "diff")

    def _backward_inputs(self, bottom, propagate_down):
        """From dz to the gradients of bottoms and parameters."""
        dz, hidden = self.dz.reshape(-1, self.width), self.h_continued.reshape(-1, self.hidden)
        self._backward_product(dz, bottom[0], self.w_x, propagate_down[0])
        if self.param_propagate_down[self.b]:
            self.blobs[self.b].diff[...] += dz.sum(axis=0)
        if self.has_static:
            self._backward_product(self.dz.sum(axis=0), bottom[2], self.w_s, propagate_down[2])
        self.add_weight_gradient(self.w_h, dz, hidden)
        for i in range(len(bottom) - self.exposed, len(bottom)):
            if propagate_down[i]:
                bottom[i].flat_diff.fill(0)

    def _backward_product(self, dz, blob, place, wanted):
        """Backward through z = x W^T, where x is a bottom seen as a matrix and W parameter number `place`."""
        w = self.blobs[place].cpu_data
        self.add_weight_gradient(place, dz, blob.data.reshape(-1, w.shape[1]))
        if wanted:
            gemm(False, False, 1, dz, w, 0, blob.diff.reshape(-1, w.shape[1]))

    def add_weight_gradient(self, place: int, dz: np.ndarray, x: np.ndarray) -> None:
        """Add the gradient of W in z = x W^T to parameter number `place`, if it is wanted."""
        if self.param_propagate_down[place]:
            gemm(True, False, 1, dz, x, 1, self.blobs[place].diff)

    def allocate(self) -> None:
        """Make what the subclass needs for `window` steps, N and H."""
        raise NotImplementedError

    def steps_forward(
        self,
        x: np.ndarray,
        start: np.ndarray,
        cont: np.ndarray,
        weights_x: tuple,
        weights_h: tuple,
        out: np.ndarray,
    ) -> None:
        """Write the hidden states after all steps to `out`, (T, N, H), `window` steps at a time.

        They begin with `states[i][-1]`, where the last ones are left; with a window of T all are left in
        `states[i][1:]` and, as W_h sees them, in `h_continued`.
        x: (T N, D). start: (N, gates H), z_t without x_t and h_{t-1}. cont: (T, N). weights_x, weights_h: W_x ready
        for `multiply_inputs`, W_h for `multiply_step`.
        """
        raise NotImplementedError

    def steps_backward(self, dh: np.ndarray, cont: np.ndarray, weights_h: tuple) -> None:
        """Compute `dz` from dh, what the outputs give to the gradient of `states[0][1:]`; weights_h: W_h, packed."""
        raise NotImplementedError

    def write_outputs(self, top) -> None:
        """Turn the hidden states, which the first top holds, into the outputs; here these are the same."""

    def output_gradients(self, top) -> np.ndarray:
        """Return what the first top's diff gives to the gradient of the hidden states, (T, N, H)."""
        raise NotImplementedError

    def allow_force_backward(self, bottom_index):
        return bottom_index != 1

    def get_state(self):
        """The states after the last step."""
        if self.exposed:
            return None
        return {name: state[-1].tolist() for name, state in zip(self.state_names, self.states, strict=True)}

    def set_state(self, state):
        self._restore([np.array(state[name], self.dtype) for name in self.state_names])

    def _report(self, direction, end, arrays, what):
        for name, values in arrays:
            for t, of_step in enumerate(values, 1):
                mean = np.abs(of_step).mean()
                step = f"{self.name}_{self.step_name}_{t}"
                info(f"    [{direction}] Layer {step}, {end} blob {name}_{t} {what}: {mean:g}")
