"""The example of docs/plugins.md, run as a user would: one file in the current directory and a net that names it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

import caffetools.pycaffe as caffe

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
CODE = re.search(r"^```python\n# soft_clip.py\n(.*?)^```", PAGE, re.M | re.S)[1]
LAYER = re.search(r"^```\n(layer \{.*?)^```", PAGE, re.M | re.S)[1]


def test_the_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("soft_clip.py").write_text(CODE)
    inputs = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }'
    layer = LAYER.replace('top: "y"', 'top: "y" loss_weight: 1')
    Path("net.prototxt").write_text("force_backward: true\n" + inputs + layer)
    net = caffe.Net("net.prototxt", caffe.TRAIN)
    x = np.array([[-9, -1, 0], [0.5, 2.5, 9]], np.float32)
    net.blobs["x"].data[...] = x
    net.forward()
    np.testing.assert_allclose(net.blobs["y"].data, 2.5 * np.tanh(x / 2.5), rtol=1e-5)
    net.backward()
    np.testing.assert_allclose(net.blobs["x"].diff, 1 - np.tanh(x / 2.5) ** 2, rtol=1e-4, atol=1e-6)
