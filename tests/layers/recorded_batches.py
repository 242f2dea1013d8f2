"""The recordings of data layers: four batches of the original in the TEST phase, in folder golden/formats."""

from __future__ import annotations

import numpy as np
from google.protobuf import text_format

from caffetools.layer import TEST, Context
from caffetools.net import Net
from caffetools.proto import caffe_pb2
from tests.recorded import FORMATS, GOLDEN


def check_recorded_batches(name, monkeypatch, tolerance=0):
    """Assert that the net of a recording gives its batches."""
    monkeypatch.chdir(FORMATS)
    recording = np.load(GOLDEN / "data_layers" / f"{name}.npz")
    net = build(str(recording["prototxt"]))
    for k in range(4):
        net.forward()
        for top in net.blobs:
            expected = recording[f"batch{k}/{top}"]
            data = net.blobs[top].data
            assert data.shape == expected.shape
            np.testing.assert_allclose(data, expected, tolerance, tolerance, err_msg=f"batch {k}, {top}")
    net.close()


def build(prototxt: str, phase: int = TEST) -> Net:
    param = text_format.Parse(prototxt, caffe_pb2.NetParameter())
    param.state.phase = phase
    return Net(param, Context())
