"""Every layer against the original: a forward and a backward pass of a small net, recorded from Caffe 1.0.0.

A recording (tests/golden/layers/NAME.npz) holds the net (`prototxt`, `phase`), what is written into it
(`in/BLOB`, `param/LAYER/I`, `dout/BLOB`) and what it gave (`out/BLOB`, `din/BLOB`, `dparam/LAYER/I`,
`param_after/LAYER/I`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffetools.engine.cpu.rng import RandomSource
from caffetools.formats import prototxt
from caffetools.layer import Context
from caffetools.net import load_net
from caffetools.proto import caffe_pb2

RECORDINGS = sorted((Path(__file__).parents[1] / "golden" / "layers").glob("*.npz"))
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_recording(path):
    recording = {tuple(key.split("/")): values for key, values in np.load(path).items()}
    param = prototxt.parse(str(recording[("prototxt",)]), caffe_pb2.NetParameter)
    phase = caffe_pb2.Phase.Value(str(recording[("phase",)]))
    net = load_net(param, phase, Context(random=RandomSource(1)))
    arrays = {
        "in": lambda blob: net.blobs[blob].data,
        "out": lambda blob: net.blobs[blob].data,
        "din": lambda blob: net.blobs[blob].diff,
        "dout": lambda blob: net.blobs[blob].diff,
        "param": lambda layer, i: net.layer_by_name[layer].blobs[int(i)].data,
        "param_after": lambda layer, i: net.layer_by_name[layer].blobs[int(i)].data,
        "dparam": lambda layer, i: net.layer_by_name[layer].blobs[int(i)].diff,
    }

    def write(kind):
        for (_, *name), values in of_kind(kind):
            arrays[kind](*name)[...] = values

    def compare(kind):
        for (_, *name), values in of_kind(kind):
            actual = arrays[kind](*name)
            assert actual.shape == values.shape, (kind, name)
            np.testing.assert_allclose(actual, values, err_msg="/".join((kind, *name)), **TOLERANCE)

    def of_kind(kind):
        return [item for item in recording.items() if item[0][0] == kind]

    write("in")
    write("param")
    net.forward()
    compare("out")
    write("dout")
    net.clear_param_diffs()
    if of_kind("din") or of_kind("dparam"):
        net.backward()
    for kind in ("din", "dparam", "param_after"):
        compare(kind)


def test_there_are_recordings():
    assert len(RECORDINGS) == 133
