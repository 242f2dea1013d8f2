"""Numeric gradients of every layer type under every condition that a net may put it in; see `gradient_table.py`."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from caffetools.glog import FatalError
from caffetools.layers import built_in_types, layer_class
from tests.layers import fork_tables, gradient_table
from tests.layers.gradient import SingleLayer, check_gradient, uniform
from tests.layers.gradient_table import ANY, REFUSED
from tests.layers.test_in_nets import build

TYPES = gradient_table.TYPES | fork_tables.GRADIENTS
WITHOUT_GRADIENT = gradient_table.WITHOUT_GRADIENT | fork_tables.WITHOUT_GRADIENT
NOT_APPLICABLE = {
    condition: reasons | fork_tables.NOT_APPLICABLE.get(condition, {})
    for condition, reasons in gradient_table.NOT_APPLICABLE.items()
}
SAMPLES = 8  # coordinates of each array


def applicable(condition):
    """Return the types for which a condition has a meaning."""
    return [kind for kind in TYPES if kind not in NOT_APPLICABLE.get(condition, {})]


def takes_more(kind):
    cls = layer_class(kind)
    return cls.exact_bottoms is None and cls.max_bottoms != 1


VARIANTS = [(kind, variant) for kind, case in TYPES.items() for variant in case.variants]
SHAPES = [(kind, shape) for kind, case in TYPES.items() for shape in case.shapes]
IN_PLACE = [
    (kind, variant)
    for kind in applicable("in place")
    for variant in (TYPES[kind].variants if TYPES[kind].in_place == ANY else TYPES[kind].in_place)
    if TYPES[kind].in_place != REFUSED
]
NOT_IN_PLACE = [kind for kind in applicable("in place") if TYPES[kind].in_place == REFUSED]
SEVERAL = [kind for kind in applicable("several bottoms") if takes_more(kind)]
LEARNING = [kind for kind, case in TYPES.items() if case.learns]


def text_of(kind, variant=None):
    return f'type: "{kind}" {TYPES[kind].variants[0] if variant is None else variant}'


def bottoms_of(kind, shape=None):
    case = TYPES[kind]
    return case.bottoms(case.shapes[0] if shape is None else shape)


def check(kind, bottoms, variant=None, **more):
    case = TYPES[kind]
    how = {"check": case.check, "tops": case.tops, "check_params": case.learns, "tolerance": case.tolerance, **more}
    check_gradient(text_of(kind, variant), *bottoms, samples=SAMPLES, **how)


@pytest.mark.parametrize(("kind", "variant"), VARIANTS, ids=map(" ".join, VARIANTS))
def test_variants_of_the_settings(kind, variant):
    check(kind, bottoms_of(kind), variant)


@pytest.mark.parametrize(("kind", "shape"), SHAPES, ids=[f"{kind} {shape}" for kind, shape in SHAPES])
def test_shapes(kind, shape):
    check(kind, bottoms_of(kind, shape))


@pytest.mark.parametrize(("kind", "variant"), IN_PLACE, ids=map(" ".join, IN_PLACE))
def test_in_place(kind, variant):
    check(kind, bottoms_of(kind), variant, in_place=True)


@pytest.mark.parametrize("kind", NOT_IN_PLACE)
def test_in_place_is_refused(kind):
    with pytest.raises(FatalError, match=f"{kind} Layer does not allow in-place computation"):
        SingleLayer(text_of(kind), *bottoms_of(kind), tops=TYPES[kind].tops, in_place=True)


@pytest.mark.parametrize("kind", SEVERAL)
def test_several_bottoms(kind):
    """More than the usual number, or the usual number where that is more than one."""
    case = TYPES[kind]
    bottoms, tops = case.more or (case.bottoms, case.tops)
    checked = case.more_check if case.more else case.check
    several = bottoms(case.shapes[0])
    assert len(several) > 1
    check(kind, several, check=[i for i in checked if i < len(several)], tops=tops)


def assert_gradients(net, targets):
    """Compare the gradient of a net's loss with central differences; targets: names and blobs."""
    states = {layer: layer.get_state() for layer in net.layers}

    def loss():
        for layer, state in states.items():
            if state is not None:
                layer.set_state(state)
        return net.forward()

    loss()
    net.clear_param_diffs()
    net.backward()
    for name, blob, tolerance in targets:
        x, diff = blob.flat_data, blob.flat_diff.copy()
        for i in np.random.default_rng(1).permutation(x.size)[:SAMPLES]:
            original, losses = x[i], []
            for x[i] in (original + 1e-5, original - 1e-5):
                losses.append(loss())
            x[i] = original
            numeric = (losses[0] - losses[1]) / 2e-5
            assert abs(numeric - diff[i]) <= tolerance * max(1, abs(numeric)), (name, i, numeric, diff[i])


def layer_text(name, kind, bottoms, weights, more=""):
    blobs = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
    tops = " ".join(f'top: "{name}{i}" loss_weight: {weight}' for i, weight in enumerate(weights))
    return f'layer {{ name: "{name}" {blobs} {tops} {more} {text_of(kind)} }}\n'


@pytest.mark.parametrize("kind", applicable("loss weights"))
def test_loss_weights(kind):
    """The loss is the weighted sum of a layer's tops, whatever its type."""
    case = TYPES[kind]
    inputs = {f"x{i}": bottom for i, bottom in enumerate(bottoms_of(kind))}
    weights = [0.7, -1.3, 2.1][: case.tops]
    net = build("force_backward: true\n" + layer_text("l", kind, inputs, weights), **inputs)
    loss = net.forward()
    assert loss == pytest.approx(sum(w * net.blobs[f"l{i}"].data.sum() for i, w in enumerate(weights)))
    targets = [(f"x{i}", net.blobs[f"x{i}"], 1e-6) for i in case.check]
    targets += [("parameter", blob, 1e-6) for blob in net.params if case.learns]
    assert_gradients(net, targets)


@pytest.mark.parametrize("kind", LEARNING)
def test_shared_parameters(kind):
    """Two layers with the same parameters and other bottoms: both add to one gradient."""
    bottoms = bottoms_of(kind)
    movable = [i for i in range(len(bottoms)) if i in TYPES[kind].check]
    others = [uniform(*b.shape, seed=9) if i in movable else b for i, b in enumerate(bottoms)]
    inputs = {f"x{i}": b for i, b in enumerate(bottoms)} | {f"y{i}": b for i, b in enumerate(others)}
    count = len(SingleLayer(text_of(kind), *bottoms, tops=TYPES[kind].tops).layer.blobs)
    names = " ".join(f'param {{ name: "p{i}" }}' for i in range(count))
    layers = [
        layer_text(name, kind, [f"{bottom}{i}" for i in range(len(bottoms))], [weight], names)
        for name, bottom, weight in (("a", "x", 1), ("b", "y", -0.6))
    ]
    net = build("".join(layers), **inputs)
    assert len(net.params) == count > 0
    assert_gradients(net, [(f"parameter {i}", blob, 1e-6) for i, blob in enumerate(net.params)])
    alone = build(layers[0], **{name: inputs[name] for name in inputs if name.startswith("x")})
    for mine, theirs in zip(alone.params, net.params, strict=True):
        mine.data[...] = theirs.data
    alone.forward()
    alone.backward()
    differs = [not np.allclose(a.diff, b.diff) for a, b in zip(alone.params, net.params, strict=True)]
    assert any(differs), "the second layer adds nothing"


def gradients(rig, wanted, wanted_params):
    """Run both passes; return the bottoms' and the parameters' gradients."""
    state = rig.layer.get_state()
    for blob in rig.layer.blobs:
        blob.diff.fill(0)
    rig.layer.param_propagate_down = wanted_params
    tops = rig.forward()
    diffs = rig.backward(*(uniform(*top.shape, seed=4) for top in tops), propagate_down=wanted)
    if state is not None:
        rig.layer.set_state(state)
    return diffs, [blob.diff.copy() for blob in rig.layer.blobs]


@pytest.mark.parametrize("kind", applicable("propagate_down"))
def test_propagate_down(kind):
    """What is not asked for is left alone, and what is asked for does not depend on it."""
    case = TYPES[kind]
    bottoms, tops = case.more or (case.bottoms, case.tops)
    checked = case.more_check if case.more else case.check
    several = bottoms(case.shapes[0])
    rig = SingleLayer(text_of(kind), *several, tops=tops, dtype=np.float64)
    count, params = len(several), len(rig.layer.blobs)
    all_params = [True] * params
    full, full_params = gradients(rig, [i in checked for i in range(count)], all_params)
    for size in range(len(checked)):
        for subset in combinations(checked, size):
            some, some_params = gradients(rig, [i in subset for i in range(count)], all_params)
            for i in range(count):
                if i in subset:
                    np.testing.assert_array_equal(some[i], full[i])
                else:
                    assert np.isnan(some[i]).all(), f"bottom {i} was written to"
            for one, other in zip(some_params, full_params, strict=True):
                np.testing.assert_array_equal(one, other)
    if kind == "Python":
        return  # which parameters get a gradient is for the user's class to say
    for frozen in range(params):
        some, some_params = gradients(rig, [i in checked for i in range(count)], [i != frozen for i in range(params)])
        for one, other in zip(some, full, strict=True):
            np.testing.assert_array_equal(one, other)
        for i, (one, other) in enumerate(zip(some_params, full_params, strict=True)):
            # Another way may lead to the rest, with another rounding.
            np.testing.assert_allclose(one, np.zeros_like(other) if i == frozen else other, rtol=1e-12)


@pytest.mark.parametrize("kind", applicable("reshaping"))
def test_reshaping_between_passes(kind):
    """Larger and smaller bottoms after others, and the first ones again."""
    case = TYPES[kind]
    first, later = bottoms_of(kind), bottoms_of(kind, case.later)
    check(kind, later, earlier=first)
    check(kind, first, earlier=later)


def test_every_type_is_in_the_table():
    assert {*TYPES, *WITHOUT_GRADIENT} == set(built_in_types())
    assert not TYPES.keys() & WITHOUT_GRADIENT.keys()


@pytest.mark.parametrize("kind", [kind for kind, why in WITHOUT_GRADIENT.items() if "no bottom" not in why])
def test_types_without_a_gradient_give_none(kind):
    """They say so where one is asked for, or give zeros."""
    cls = layer_class(kind)
    layer = cls.__new__(cls)
    layer.name = "l"
    if kind == "HDF5Output":
        return  # zeros: test_hdf5_output.py
    with pytest.raises(FatalError, match=f"{kind} Layer has no gradient"):
        layer.backward([None], [True], [None])


@pytest.mark.parametrize("kind", TYPES)
def test_every_condition_is_tried_or_has_a_reason_not_to_be(kind):
    case, cls = TYPES[kind], layer_class(kind)
    in_place = {kind for kind, _ in IN_PLACE} | set(NOT_IN_PLACE)
    for condition, tried in {
        "in place": in_place,
        "loss weights": applicable("loss weights"),
        "propagate_down": applicable("propagate_down"),
        "reshaping": [kind for kind in TYPES if TYPES[kind].later is not None],
    }.items():
        assert (kind in tried) != (kind in NOT_APPLICABLE[condition]), condition
    # Types that take one bottom, and types without parameters, say so themselves.
    assert (kind in SEVERAL) == (takes_more(kind) and kind not in NOT_APPLICABLE["several bottoms"])
    rig = SingleLayer(text_of(kind), *bottoms_of(kind), tops=case.tops)
    assert bool(rig.layer.blobs) == case.learns or kind == "BatchNorm"  # whose parameters are statistics
    assert cls.backward is not layer_class("Threshold").backward
    if kind != "Parameter":
        assert len(case.shapes) >= 3
        assert any(shape[0] == 1 for shape in case.shapes), "a batch of one"
