"""Convolutions that write into the top of a Concat, against the same nets layer by layer."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.layer import TEST, TRAIN
from caffetools.layers import concat
from caffetools.net.fused.concat import ConcatStep
from tests.net.planned_nets import NETS, choose_alike, definition, twins
from tests.net.test_fusion import LOSS, add, assert_same, build, conv, data, layer, norm, relu, run, scale

BRANCHES = conv("a", "data", outputs=6) + relu("r", "a", "a", 0.1) + conv("b", "data", outputs=3, kernel=1)
JOIN = layer("Concat", "c", "a b", "c")
MORE = conv("d", "c")
FROZEN = "param { lr_mult: 0 } param { lr_mult: 0 } "
DEPTHWISE = conv("b", "data", outputs=3, more="group: 3")
NORMALISED = (
    conv("a", "data", outputs=6) + norm("n", "a") + scale("s", "a") + relu("r", "a", "a")
    + norm("m", "data", "n2") + layer("TanH", "b", "n2", "b")
)  # fmt: skip
#: Nets that join branches, and the bottoms of their Concat that are written in place in training and in tests.
CASES = {
    "convolutions with and without ReLU": (BRANCHES + JOIN + MORE, "ab", "ab"),
    "depthwise": (conv("a", "data", outputs=6) + DEPTHWISE + JOIN + MORE, "ab", "ab"),
    "others": (conv("a", "data") + layer("TanH", "b", "data", "b") + JOIN + MORE, "a", "a"),
    "a net's input": (conv("a", "data") + layer("Concat", "c", "a data", "c") + MORE, "a", "a"),
    "normalised": (NORMALISED + JOIN + MORE, "", "a"),
    "ReLU into another blob": (
        conv("x", "data") + relu("r", "x", "a") + conv("b", "data") + JOIN + MORE, "b", "ab",
    ),
    "changed in place": (BRANCHES + JOIN + layer("Sigmoid", "t", "c", "c") + MORE, "b", "ab"),
    "Dropout in place": (BRANCHES + JOIN + layer("Dropout", "t", "c", "c") + MORE, "ab", "ab"),
    "a ReLU in place on the Concat": (BRANCHES + JOIN + relu("t", "c", "c") + MORE, "ab", "ab"),
    "a ReLU that turns signs": (BRANCHES + JOIN + relu("t", "c", "c", -0.5) + MORE, "b", "ab"),
    "a ReLU on the Concat": (BRANCHES + JOIN + relu("t", "c", "t") + conv("d", "t"), "ab", "ab"),
    "more than one reader": (BRANCHES + JOIN + layer("Eltwise", "e", "a a", "e") + MORE, "b", "b"),
    "sums": (
        conv("x", "data") + conv("y", "data") + add("b", "x y", "b") + conv("a", "data") + JOIN + MORE, "a", "a",
    ),
    "nested": (BRANCHES + JOIN + MORE + layer("Concat", "e", "c d", "e") + conv("f", "e"), "abd", "abd"),
    "items side by side": (
        conv("a", "data") + conv("b", "data") + layer("Concat", "c", "a b", "c", "concat_param { axis: 0 }") + MORE,
        "", "",
    ),
    "rows side by side": (
        conv("a", "data") + conv("b", "data") + layer("Concat", "c", "a b", "c", "concat_param { axis: 2 }") + MORE,
        "", "",
    ),
    "frozen": (
        conv("a", "data").replace("convolution_param", FROZEN + "convolution_param") + relu("r", "a", "a")
        + conv("b", "data") + JOIN + MORE, "ab", "ab",
    ),
}  # fmt: skip


def with_loss(text):
    return data() + text + LOSS % text.rpartition('top: "')[2].partition('"')[0]


def written(net):
    """Return the bottoms that convolutions write into the tops of Concats."""
    steps = [step for step in net._fused.steps if isinstance(step, ConcatStep)]
    return "".join(sorted(net.bottom_names[step.first][i][0] for step in steps for i in step.writers))


@pytest.mark.parametrize("phase", [TRAIN, TEST])
@pytest.mark.parametrize(("text", "training", "testing"), CASES.values(), ids=CASES)
def test_joined_branches(text, training, testing, phase):
    # In double precision, where rounding does not decide on which side of 0 a ReLU finds a value.
    text, backward = with_loss(text), phase == TRAIN
    planned = build(text, phase, plan=True, dtype=np.float64)
    assert written(planned) == (training if backward else testing)
    plain = run(build(text, phase, plain=True, dtype=np.float64), backward)
    assert_same(run(planned, backward), plain, rtol=1e-9, inside=False)
    assert written(build(text, phase)) == ""  # where every blob is to be seen


@pytest.mark.parametrize("phase", [TRAIN, TEST])
def test_nothing_is_copied(phase, monkeypatch):
    net = build(with_loss(BRANCHES + JOIN + MORE), phase, plan=True)
    monkeypatch.setattr(concat, "insert_columns", None)
    monkeypatch.setattr("caffetools.net.fused.concat.insert_columns", lambda *_: pytest.fail("a bottom was copied"))
    net.forward()
    assert net.blobs["a"].data_storage.array is None


def test_blobs_that_are_asked_for_are_there():
    text = with_loss(BRANCHES + JOIN + MORE)
    net, plain = run(build(text, plan=True, keep=["a", "c"])), run(build(text, plain=True))
    assert written(net) == "b"
    for name in ("a", "c"):
        np.testing.assert_allclose(net.blobs[name].data, plain.blobs[name].data, rtol=1e-5, atol=1e-6)


def test_hooks_of_the_backward_pass_see_every_layer():
    text, seen = with_loss(BRANCHES + JOIN + MORE), []
    net, plain = build(text, plan=True, dtype=np.float64), run(build(text, plain=True, dtype=np.float64))
    net.before_backward.append(lambda i: seen.append(net.layer_names[i]))
    assert_same(run(net), plain, rtol=1e-9, inside=False)
    assert seen == net.layer_names[::-1]


def test_one_layer_after_the_other_backward():
    text = with_loss(BRANCHES + JOIN + MORE)
    net, plain = build(text, plan=True, dtype=np.float64), run(build(text, plain=True, dtype=np.float64))
    net.clear_param_diffs()
    net.forward()
    for i in reversed(range(len(net.layers))):
        net.backward(i, i)
    assert_same(net, plain, rtol=1e-9, inside=False)


@pytest.mark.parametrize("batches", [(4, 2, 5), (1, 3, 1, 2)])
def test_other_shapes_in_every_pass(batches):
    net, plain = (build(data() + BRANCHES + JOIN + MORE, TEST, **how) for how in ({"plan": True}, {"plain": True}))
    for batch in batches:
        for each in (net, plain):
            each.blobs["data"].reshape((batch, 3, 5 + batch, 7))
            each.blobs["data"].data[...] = np.random.default_rng(batch).standard_normal(each.blobs["data"].shape)
            each.forward()
        assert_same(net, plain, inside=False)


def test_shapes_that_change_within_a_pass():
    chosen = "labelled: data label label > x y; Silence: y > ; " + NETS["inception"].replace("data", "x")
    planned, plain = twins(definition(chosen + "; energy: last > sum", 4))
    assert written(planned) == "bd"
    choose_alike(planned, plain)
