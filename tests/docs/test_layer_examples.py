"""The example of each layer's page is a layer that can be built."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from caffetools.formats import prototxt
from caffetools.layer import TEST, TRAIN, Context
from caffetools.layers import built_in_types
from caffetools.net import Net
from caffetools.proto import caffe_pb2
from scripts import docs_pages

#: These read files when they are built; their examples are read only.
FROM_FILES = {"AnnotatedData", "Data", "HDF5Data", "ImageData", "WindowData"}
MAPS = (2, 96, 8, 8)
SHAPES = {
    "attention": (2, 96), "bn1": MAPS, "c_before": (1, 2, 5), "cont": (3, 2), "cont_now": (1, 2), "conf": (1, 4 * 21),
    "conv1": MAPS, "conv2": MAPS, "data": (2, 3, 40, 40), "detections": (1, 1, 2, 7), "difference": (2, 5),
    "fc7": (2, 5), "fc7_p": (2, 5), "fc8": (2, 10), "gates": (1, 2, 20), "indices": (2,), "infogain": (1, 1, 10, 10),
    "inside": (2, 5), "label": (2,), "loc": (1, 16), "outside": (2, 5), "priors": (1, 2, 16), "prob": (2, 10),
    "rois": (3, 5), "score": (2, 21, 8, 8), "selector": (2, 1), "similar": (2,), "truth": (1, 1, 2, 8),
    "upscored": (2, 21, 50, 50), "vectors": (3, 2, 7),
}  # fmt: skip
EXAMPLES = docs_pages.layer_examples()


def test_every_type_has_one():
    assert sorted(EXAMPLES) == sorted(built_in_types())


@pytest.mark.parametrize("kind", EXAMPLES)
def test_it_builds(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    page = (Path(docs_pages.ROOT) / "docs" / "plugins.md").read_text(encoding="utf-8")
    (tmp_path / "soft_clip.py").write_text(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1])
    net = prototxt.parse(EXAMPLES[kind], caffe_pb2.NetParameter)
    (layer,) = net.layer
    assert layer.type == kind
    if kind in FROM_FILES:
        return
    phase = TEST if any(rule.phase == TEST for rule in layer.include) else TRAIN
    for name in dict.fromkeys(layer.bottom):
        given = net.layer.add(name=f"given_{name}", type="Input", top=[name])
        given.input_param.shape.add(dim=SHAPES[name])
    del net.layer[0]
    net.layer.append(layer)
    net.state.phase = phase
    built = Net(net, Context(phase))
    assert kind in [layer.type for layer in built.layers]
    built.close()
