"""LSTM and RNN against step-by-step NumPy, numeric gradients, PyTorch, and themselves cut in two."""

from __future__ import annotations

import json

import numba
import numpy as np
import pytest

from caffetools.glog import FatalError
from tests.layers.gradient import SingleLayer, check_gradient, uniform

KINDS = ["LSTM", "RNN"]
FILLERS = "weight_filler { type: 'uniform' min: -0.8 max: 0.8 } bias_filler { type: 'gaussian' std: 0.2 }"
STATES = {"LSTM": 2, "RNN": 1}

# T, N, the axes of x after these, H, columns of the static input or None
SIZES = [
    (4, 2, (3,), 4, None),
    (4, 2, (3,), 4, 5),
    (1, 1, (1,), 1, None),
    (1, 3, (2,), 5, 1),
    (7, 1, (2, 3), 3, None),
    (3, 5, (1,), 1, 2),
    (5, 17, (19,), 9, None),
    (2, 3, (5,), 70, None),
]


def layer_text(kind, hidden, more=""):
    return f'type: "{kind}" recurrent_param {{ num_output: {hidden} {FILLERS} {more} }}'


def inputs(steps, streams, axes, hidden, static):
    """Return x, cont (with starts in the middle) and, if asked for, the static input."""
    cont = (np.random.default_rng(5).random((steps, streams)) < 0.7).astype(float)
    arrays = [uniform(steps, streams, *axes, seed=1), cont]
    return arrays if static is None else [*arrays, uniform(streams, static, seed=2)]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference(kind, blobs, x, cont, static=None, states=None):
    """Return outputs and final states, one step after the other, in float64."""
    w_x, b, *w_s, w_h = blobs[: len(blobs) - (2 if kind == "RNN" else 0)]
    x = x.reshape(*x.shape[:2], -1)
    hidden = w_h.shape[1]
    states = states or [np.zeros((x.shape[1], hidden))] * STATES[kind]
    h, c = states[0], states[-1]
    outputs = []
    for x_t, cont_t in zip(x, cont, strict=True):
        alive = cont_t[:, None]
        z = x_t @ w_x.T + b + (alive * h) @ w_h.T
        if w_s:
            z = z + static @ w_s[0].T
        if kind == "LSTM":
            i, f, o = (sigmoid(z[:, k * hidden : (k + 1) * hidden]) for k in range(3))
            c = alive * f * c + i * np.tanh(z[:, 3 * hidden :])
            h = o * np.tanh(c)
            outputs.append(h)
        else:
            h = np.tanh(z)
            outputs.append(np.tanh(h @ blobs[-2].T + blobs[-1]))
    return np.stack(outputs), [h, c][: STATES[kind]]


def parameters(rig):
    return [blob.data.astype(np.float64) for blob in rig.layer.blobs]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_equals_one_step_after_the_other(kind, sizes):
    arrays = inputs(*sizes)
    rig = SingleLayer(layer_text(kind, sizes[3]), *arrays)
    (y,) = rig.forward()
    expected, _ = reference(kind, parameters(rig), *arrays)
    assert y.shape == (*sizes[:2], sizes[3])
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_gradient(kind, sizes):
    arrays = inputs(*sizes)
    check = [0] if sizes[4] is None else [0, 2]
    check_gradient(layer_text(kind, sizes[3]), *arrays, check=check, samples=40)


@pytest.mark.parametrize("kind", KINDS)
def test_results_do_not_depend_on_the_number_of_threads(kind):
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("one thread only")
    results = []
    for threads in (1, 2):
        numba.set_num_threads(threads)
        rig = SingleLayer(layer_text(kind, 70), *inputs(4, 5, (6,), 70, None))
        y = rig.forward()[0].copy()
        dx, _ = rig.backward(y, propagate_down=[True, False])
        results.append([y, dx, *(blob.diff.copy() for blob in rig.layer.blobs)])
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("kind", KINDS)
def test_a_nan_stays_in_its_stream_and_is_seen(kind):
    x, cont = uniform(4, 3, 5), np.ones((4, 3))
    x[2, 1, 0] = np.nan
    (y,) = SingleLayer(layer_text(kind, 6), x, cont).forward()
    assert np.isnan(y[2:, 1]).all()
    assert np.isfinite(y[:2]).all() and np.isfinite(y[:, [0, 2]]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_backward_may_be_repeated(kind):
    rig = SingleLayer(layer_text(kind, 40), *inputs(3, 2, (4,), 40, None))
    (y,) = rig.forward()
    first, again = (rig.backward(y, propagate_down=[True, False])[0].copy() for _ in range(2))
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_of_the_parameters(kind):
    rig = SingleLayer(layer_text(kind, 4), *inputs(2, 3, (2, 3), 4, 5))
    shapes = [blob.shape for blob in rig.layer.blobs]
    assert shapes == {
        "LSTM": [(16, 6), (16,), (16, 5), (16, 4)],
        "RNN": [(4, 6), (4,), (4, 5), (4, 4), (4, 4), (4,)],
    }[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_goes_from_pass_to_pass(kind):
    x, cont = inputs(6, 2, (3,), 4, None)
    cont[3] = 1
    whole = SingleLayer(layer_text(kind, 4), x, cont)
    halves = SingleLayer(layer_text(kind, 4), x[:3], cont[:3])
    (expected,) = whole.forward()
    (first,) = halves.forward()
    halves.values = [x[3:], cont[3:]]
    (second,) = halves.forward()
    np.testing.assert_allclose(np.concatenate([first, second]), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_state_resumes_exactly(kind):
    x, cont = uniform(3, 2, 4), np.ones((3, 2))
    rig = SingleLayer(layer_text(kind, 5), x, cont)
    rig.forward()
    saved = json.loads(json.dumps(rig.layer.get_state()))
    (expected,) = rig.forward()
    again = SingleLayer(layer_text(kind, 5), x, cont)
    assert not np.array_equal(again.forward()[0], expected)
    again.layer.set_state(saved)
    np.testing.assert_array_equal(again.forward()[0], expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streams", [1, 5])
def test_other_streams_may_come_and_go(kind, streams):
    """Streams that stay keep their states, new ones begin with zero."""
    x, cont = uniform(3, 2, 4), np.ones((3, 2))
    rig = SingleLayer(layer_text(kind, 5), x, cont)
    rig.forward()
    states = [np.zeros((streams, 5)) for _ in range(STATES[kind])]
    for state, last in zip(states, rig.layer.get_state().values(), strict=True):
        common = min(streams, 2)
        state[:common] = last[:common]
    more_x, more_cont = uniform(3, streams, 4), np.ones((3, streams))
    rig.reshape(more_x, more_cont)
    (y,) = rig.forward()
    expected, _ = reference(kind, parameters(rig), more_x, more_cont, states=states)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    assert np.isfinite(rig.backward(np.ones_like(y), propagate_down=[True, False])[0]).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("static", [None, 3])
def test_exposed_states(kind, static):
    x, cont, *rest = inputs(4, 2, (3,), 5, static)
    cont[0] = [1, 0]
    states = [uniform(1, 2, 5, seed=8 + i) for i in range(STATES[kind])]
    text = layer_text(kind, 5, "expose_hidden: true")
    rig = SingleLayer(text, x, cont, *rest, *states, tops=1 + len(states))
    for _ in range(2):  # nothing is carried from pass to pass
        y, *last = rig.forward()
        expected, final = reference(kind, parameters(rig), x, cont, *(rest or [None]), [s[0] for s in states])
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
        for blob, values in zip(last, final, strict=True):
            np.testing.assert_allclose(blob, values[None], rtol=1e-5, atol=1e-6)
    assert rig.layer.get_state() is None


@pytest.mark.parametrize("kind", KINDS)
def test_no_gradient_crosses_exposed_states(kind):
    x, cont = uniform(3, 2, 4), np.ones((3, 2))
    states = [uniform(1, 2, 5, seed=i) for i in range(STATES[kind])]
    rig = SingleLayer(layer_text(kind, 5, "expose_hidden: true"), x, cont, *states, tops=1 + len(states))
    tops = rig.forward()
    wanted = [True, False] + [True] * len(states)
    dx, _, *d_states = rig.backward(np.zeros_like(tops[0]), *tops[1:], propagate_down=wanted)
    assert not dx.any() and not any(d.any() for d in d_states)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_the_parameters_counts_exposed_states(kind):
    """Where a sequence goes on from an exposed state, the first step has its share in the gradient of W_h."""
    x, cont = uniform(3, 2, 4), np.ones((3, 2))
    states = [uniform(1, 2, 5, seed=i) for i in range(STATES[kind])]
    text = layer_text(kind, 5, "expose_hidden: true")
    rig = SingleLayer(text, x, cont, *states, tops=1 + len(states), dtype=np.float64)
    y, *last = rig.forward()
    rig.backward(np.ones_like(y), *last, propagate_down=[False] * (2 + len(states)))
    w_h = rig.layer.blobs[2]
    moved = w_h.data[1, 2]
    sums = []
    for w_h.data[1, 2] in (moved + 1e-6, moved - 1e-6):
        sums.append(rig.forward()[0].sum())
    np.testing.assert_allclose(w_h.diff[1, 2], (sums[0] - sums[1]) / 2e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_start_forgets_everything(kind):
    rig = SingleLayer(layer_text(kind, 3), uniform(2, 2, 4), np.zeros((2, 2)))
    (first,) = rig.forward()
    np.testing.assert_array_equal(rig.forward()[0], first)


@pytest.mark.parametrize("kind", KINDS)
def test_fixed_parameters_get_no_gradient(kind):
    rig = SingleLayer(layer_text(kind, 3), *inputs(3, 2, (2,), 3, 4))
    rig.layer.param_propagate_down = [False] * len(rig.layer.blobs)
    (y,) = rig.forward()
    dx, _, d_static = rig.backward(y, propagate_down=[False, False, True])
    assert np.isnan(dx).all() and np.isfinite(d_static).all()
    assert not any(blob.diff.any() for blob in rig.layer.blobs)


def test_lstm_equals_pytorch():
    torch = pytest.importorskip("torch")
    steps, streams, size, hidden = 6, 3, 5, 4
    x, dy = uniform(steps, streams, size), uniform(steps, streams, hidden, seed=4)
    rig = SingleLayer(layer_text("LSTM", hidden), x, np.ones((steps, streams)))
    w_x, b, w_h = parameters(rig)
    other = torch.nn.LSTM(size, hidden).double()
    names = ("weight_ih_l0", "bias_ih_l0", "weight_hh_l0")
    order = [0, 1, 3, 2]  # i, f, g, o there

    def arranged(array):
        return array.reshape(4, hidden, -1)[order].reshape(array.shape)

    with torch.no_grad():
        other.bias_hh_l0.zero_()
        for name, values in zip(names, (w_x, b, w_h), strict=True):
            getattr(other, name).copy_(torch.from_numpy(arranged(values)))
    tensor = torch.from_numpy(x).requires_grad_()
    expected, _ = other(tensor)
    expected.backward(torch.from_numpy(dy))
    np.testing.assert_allclose(rig.forward()[0], expected.detach(), rtol=1e-5, atol=1e-6)
    dx, _ = rig.backward(dy, propagate_down=[True, False])
    np.testing.assert_allclose(dx, tensor.grad, rtol=1e-4, atol=1e-6)
    for blob, name in zip(rig.layer.blobs, names, strict=True):
        gradient = arranged(getattr(other, name).grad.numpy())
        np.testing.assert_allclose(blob.diff, gradient, rtol=1e-4, atol=1e-6)


@pytest.fixture
def logged(monkeypatch):
    """Collect the log's messages."""
    lines = []
    monkeypatch.setattr("caffetools.parts.recurrent.info", lines.append)
    return lines


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_logged(kind, logged):
    SingleLayer(layer_text(kind, 3), *inputs(4, 2, (3,), 3, None))
    assert logged == [
        "Initializing recurrent layer: assuming input batch contains 4 timesteps of 2 independent streams."
    ]


@pytest.mark.parametrize(
    ("kind", "step", "states", "step_input"),
    [("LSTM", "unit", ("h", "c"), "gate_input"), ("RNN", "h_neuron", ("h",), "h_neuron_input")],
)
def test_debug_info_shows_every_step(kind, step, states, step_input, logged):
    rig = SingleLayer(layer_text(kind, 3, "debug_info: true"), *inputs(2, 2, (3,), 3, None))
    logged.clear()
    (y,) = rig.forward()
    rig.backward(y, propagate_down=[True, False])
    layer = f"Layer under_test_{step}"
    heads = [f"    [Forward] {layer}_{t}, top blob {state}_{t} data" for state in states for t in (1, 2)]
    heads += [f"    [Backward] {layer}_{t}, bottom blob {step_input}_{t} diff" for t in (1, 2)]
    assert [line.split(": ")[0] for line in logged] == heads
    assert float(logged[0].split(": ")[1]) == pytest.approx(np.abs(rig.layer.states[0][1]).mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(4,), (4,)], r"\(1 vs. 2\) bottom\[0\] must have at least 2 axes -- \(#timesteps, #streams, ...\)"),
        ([(4, 2, 3), (4, 2, 1)], r"\(3 vs. 2\) bottom\[1\] must have exactly 2 axes -- \(#timesteps, #st"),
        ([(4, 2, 3), (5, 2)], r"T_ == bottom\[1\]->shape\(0\) \(4 vs. 5\)"),
        ([(4, 2, 3), (4, 1)], r"N_ == bottom\[1\]->shape\(1\) \(2 vs. 1\)"),
        ([(4, 2), (4, 2)], "axis 2 out of range for 2-D Blob"),
        ([(4, 2, 3), (4, 2), (3, 5)], r"N_ == bottom\[2\]->shape\(0\) \(2 vs. 3\)"),
        ([(4, 2, 3), (4, 2), (2,)], "axis 1 out of range for 1-D Blob"),
        ([(4, 2, 3)], "LSTM Layer takes at least 2 bottom"),
        ([(4, 2, 3), (4, 2), (2, 1), (2, 1)], "LSTM Layer takes at most 3 bottom"),
    ],
)
def test_shapes_that_do_not_fit(shapes, message):
    with pytest.raises(FatalError, match=message):
        SingleLayer(layer_text("LSTM", 3), *(np.ones(shape) for shape in shapes))


@pytest.mark.parametrize(
    ("shapes", "tops", "message"),
    [
        ([(1, 2, 3), (1, 2, 4)], 3, r"bottom\[3\] shape must match hidden state input shape: 1 2 3"),
        ([(1, 2, 3)], 3, "LSTM Layer takes at least 4 bottom"),
        ([(1, 2, 3), (1, 2, 3)], 1, r"LSTM Layer produces 3 top blob\(s\)"),
    ],
)
def test_exposed_states_that_do_not_fit(shapes, tops, message):
    arrays = [np.ones((4, 2, 3)), np.ones((4, 2)), *(np.ones(shape) for shape in shapes)]
    with pytest.raises(FatalError, match=message):
        SingleLayer(layer_text("LSTM", 3, "expose_hidden: true"), *arrays, tops=tops)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(3, 2, 3), (3, 2)], r"\(4 vs. 3\) input number of timesteps changed"),
        ([(4, 2, 5), (4, 2)], r"\(3 vs. 5\) Input size incompatible with inner product parameters."),
    ],
)
def test_what_must_not_change(shapes, message):
    rig = SingleLayer(layer_text("RNN", 3), np.ones((4, 2, 3)), np.ones((4, 2)))
    with pytest.raises(FatalError, match=message):
        rig.reshape(*(np.ones(shape) for shape in shapes))


def test_the_size_is_required():
    with pytest.raises(FatalError, match=r"num_output > 0 \(0 vs. 0\) num_output must be positive"):
        SingleLayer(layer_text("LSTM", 0), np.ones((4, 2, 3)), np.ones((4, 2)))


def test_cont_has_no_gradient():
    rig = SingleLayer(layer_text("LSTM", 3), np.ones((4, 2, 3)), np.ones((4, 2)))
    (y,) = rig.forward()
    with pytest.raises(FatalError, match="Cannot backpropagate to sequence indicators."):
        rig.backward(y)
    assert [rig.layer.allow_force_backward(i) for i in range(3)] == [True, False, True]
