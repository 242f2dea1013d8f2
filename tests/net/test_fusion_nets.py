"""Layers that run as one, in whole nets: random ones, and the beginnings of those in models/."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools import graph, upgrade
from caffetools.formats import prototxt
from caffetools.layer import TEST, TRAIN
from caffetools.proto import caffe_pb2
from caffetools.tools.net_inputs import with_inputs
from tests.models.zoo import MODELS
from tests.net.test_fusion import (
    LOSS,
    add,
    assert_same,
    build,
    conv,
    data,
    layer,
    norm,
    relu,
    run,
    scale,
    steps_of,
)

KINDS = {"conv": 0.3, "norm": 0.2, "scale": 0.15, "relu": 0.15, "add": 0.1, "concat": 0.05, "tanh": 0.05}


def random_net(seed):
    """Return a net of a random chain of layers, with branches that are added or joined."""
    random = np.random.default_rng(seed)
    text, blob, channels, known = "", "data", 3, {}
    for i in range(12):
        kind = random.choice(list(KINDS), p=list(KINDS.values()))
        top = blob if random.random() < 0.7 and blob != "data" and blob not in known.values() else f"b{i}"
        name = f"l{i}"
        if kind == "conv":
            group = int(random.choice([1, channels]))
            outputs = group * int(random.integers(1, 7)) if group == 1 else channels
            more = f"group: {group} bias_term: {str(bool(random.random() < 0.5)).lower()}"
            top, channels = f"b{i}", outputs
            text += conv(name, blob, top, outputs, int(random.choice([1, 3])), more)
        elif kind == "norm":
            text += norm(name, blob, top)
        elif kind == "scale":
            text += scale(name, blob, top, more=random.choice(["bias_term: true", ""]))
        elif kind == "relu":
            text += relu(name, blob, top, float(random.choice([0, 0.1])))
        elif kind == "tanh":
            text += layer("TanH", name, blob, top)
        elif kind == "add" and channels in known and known[channels] != blob:
            top = f"b{i}"
            text += add(name, f"{known[channels]} {blob}", top)
        elif kind == "concat" and channels in known and known[channels] != blob:
            top = f"b{i}"
            text += layer("Concat", name, f"{known[channels]} {blob}", top)
            channels *= 2
        else:
            continue
        blob = top
        if random.random() < 0.4:
            known[channels] = blob
    return data(size=6) + text + LOSS % blob


@pytest.mark.parametrize("seed", range(30))
def test_random_nets(seed):
    # In double precision, where rounding does not decide on which side of 0 a ReLU finds a value.
    text = random_net(seed)
    plain = run(build(text, plain=True, dtype=np.float64))
    assert_same(run(build(text, dtype=np.float64)), plain, rtol=1e-9)
    assert_same(run(build(text, plan=True, dtype=np.float64)), plain, rtol=1e-9, inside=False)


def start_of(name, phase, layers=44, size=32):
    """Return the first layers of a net of models/ with small pictures, and a loss."""
    param = upgrade.read_net_text(MODELS / name / "train_val.prototxt")
    param.state.phase = phase
    param = graph.filter_net(param)
    param = with_inputs(param, {"data": (3, 3, size, size), "label": (3,)})
    del param.layer[layers:]
    used = {bottom for each in param.layer for bottom in each.bottom}
    ends = [top for each in param.layer for top in each.top if top not in used]
    last = next(each for each in reversed(param.layer) if set(each.top) & {*ends, *each.bottom})
    text = prototxt.dumps(param) + LOSS % last.top[0]
    return prototxt.parse(text, caffe_pb2.NetParameter)


@pytest.mark.parametrize("phase", [TRAIN, TEST])
@pytest.mark.parametrize("name", ["resnet50", "mobilenet", "densenet121", "googlenet", "squeezenet_v1.1"])
def test_zoo(name, phase):
    param = start_of(name, phase)
    backward = phase == TRAIN
    dtype = np.float64 if backward else np.float32
    fused, plain = (
        run(build(param, phase, dtype=dtype, **how), backward) for how in ({"plan": True}, {"plain": True})
    )
    assert len(steps_of(fused)) >= 4
    assert_same(fused, plain, rtol=1e-9 if backward else 1e-5, inside=False)
