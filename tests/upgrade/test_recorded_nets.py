"""Upgrades of whole nets, and what the log says meanwhile, as the original's tool recorded them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.protobuf import text_format

from caffetools import upgrade
from caffetools.formats import prototxt
from caffetools.proto import caffe_pb2

GOLDEN = Path(__file__).parents[1] / "golden" / "formats"


@pytest.mark.parametrize("name", ["v0", "v1"])
def test_as_recorded(name, log):
    old = text_format.Parse((GOLDEN / f"{name}.prototxt").read_text(), caffe_pb2.NetParameter())
    before = old.SerializeToString(deterministic=True)
    new = upgrade.upgrade_net(old, f"{name}.prototxt")
    recorded = re.findall(r"\] (.*)", (GOLDEN / f"log_upgrade_{name}.txt").read_text())
    assert log() == recorded[:-1]  # the last line is about the tool's output
    assert prototxt.dumps(new) == (GOLDEN / f"{name}_upgraded.prototxt").read_text()
    assert old.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("name", ["v0_upgraded", "v1_upgraded"])
def test_a_net_in_todays_form_stays(name, log):
    new = text_format.Parse((GOLDEN / f"{name}.prototxt").read_text(), caffe_pb2.NetParameter())
    assert upgrade.upgrade_net(new, "n") is new
    assert log() == []


def test_weights_come_through_both_upgrades():
    old = text_format.Parse(
        'layers { layer { name: "c" type: "conv" blobs { num: 2 channels: 1 height: 1 data: 1 data: -2 } } }',
        caffe_pb2.NetParameter(),
    )
    (layer,) = upgrade.upgrade_net(old, "n").layer
    (blob,) = layer.blobs
    assert (layer.type, blob.num, list(blob.data)) == ("Convolution", 2, [1, -2])


def test_all_passes_on_one_net(log):
    old = text_format.Parse(
        """
        name: "all" force_backward: true state { phase: TEST stage: "s" }
        input: "x" input_shape { dim: 1 dim: 2 }
        layers { layer { name: "d" type: "data" scale: 0.5 } top: "y" }
        layers {
          name: "i" type: IMAGE_DATA top: "z" include { phase: TEST } image_data_param { crop_size: 3 }
        }
        """,
        caffe_pb2.NetParameter(),
    )
    expected = text_format.Parse(
        """
        name: "all" force_backward: true state { phase: TEST stage: "s" }
        layer { name: "input" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }
        layer { name: "d" type: "Data" top: "y" transform_param { scale: 0.5 } }
        layer {
          name: "i" type: "ImageData" top: "z" include { phase: TEST } transform_param { crop_size: 3 }
          image_data_param { }
        }
        """,
        caffe_pb2.NetParameter(),
    )
    assert upgrade.upgrade_net(old, "n") == expected
    attempts = [line for line in log() if line.startswith("Attempting")]
    assert [line.split("deprecated ")[1] for line in attempts] == [
        "V0LayerParameter: n",
        "transformation parameters: n",
        "V1LayerParameter: n",
        "input fields: n",
    ]
