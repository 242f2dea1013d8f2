"""Every layer on the GPU against the original: the recordings of tests/layers/test_recordings.py."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.engine.cpu.rng import RandomSource
from caffetools.formats import prototxt
from caffetools.layer import Context
from caffetools.net import load_net
from caffetools.net.twins import twin_of
from caffetools.proto import caffe_pb2
from tests.layers.test_recordings import RECORDINGS

TOLERANCE = {"rtol": 1e-3, "atol": 1e-5}
#: Types that have no kernels on purpose: they bring data in or take it out, or run what a user wrote.
ON_THE_HOST = {
    "Data",
    "DummyData",
    "HDF5Data",
    "HDF5Output",
    "ImageData",
    "Input",
    "MemoryData",
    "Parameter",
    "Python",
    "WindowData",
}


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_recording(path, engine):
    recording = {tuple(key.split("/")): values for key, values in np.load(path).items()}
    param = prototxt.parse(str(recording[("prototxt",)]), caffe_pb2.NetParameter)
    phase = caffe_pb2.Phase.Value(str(recording[("phase",)]))
    net = load_net(param, phase, Context(random=RandomSource(1), engine=engine))
    missing = {layer.type for layer in net.layers if twin_of(layer) is None} - ON_THE_HOST
    writable = {
        "in": lambda blob: net.blobs[blob].data,
        "dout": lambda blob: net.blobs[blob].diff,
        "param": lambda layer, i: net.layer_by_name[layer].blobs[int(i)].data,
    }
    readable = {
        "out": lambda blob: net.blobs[blob].cpu_data,
        "din": lambda blob: net.blobs[blob].cpu_diff,
        "param_after": lambda layer, i: net.layer_by_name[layer].blobs[int(i)].cpu_data,
        "dparam": lambda layer, i: net.layer_by_name[layer].blobs[int(i)].cpu_diff,
    }

    def of_kind(kind):
        return [(name, values) for (first, *name), values in recording.items() if first == kind]

    def write(kind):
        for name, values in of_kind(kind):
            writable[kind](*name)[...] = values

    def compare(kind):
        for name, values in of_kind(kind):
            actual = readable[kind](*name)
            assert actual.shape == values.shape, (kind, name)
            np.testing.assert_allclose(actual, values, err_msg="/".join((kind, *name)), **TOLERANCE)

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
    if missing:
        pytest.xfail(f"right, but on the host: {', '.join(sorted(missing))}")
