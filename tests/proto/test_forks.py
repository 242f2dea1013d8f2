"""Names of forks: none of them is one of ours, and each leads to its fork."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from caffetools.proto import forks

GOLDEN = Path(__file__).parents[1] / "golden" / "formats"
LIST = re.search(r"known types: (.*)\)", (GOLDEN / "log_bad_layer_type.txt").read_text()).group(1)
OWN_TYPES = set(LIST.split(", "))
with open(GOLDEN.parent / "schema.csv", newline="") as table:
    SCHEMA = {(row["message_or_enum"], row["name"]) for row in csv.DictReader(table)}
FIELDS = [
    (fork.name, message, name)
    for fork in forks.FORKS
    for message, names in fork.fields.items()
    for name in names.split()
]


@pytest.mark.parametrize("fork", forks.FORKS, ids=lambda fork: fork.name)
def test_types_are_not_ours(fork):
    assert len(OWN_TYPES) == 61
    assert not OWN_TYPES & set(fork.layers.split())


@pytest.mark.parametrize(("fork", "message", "name"), FIELDS)
def test_field_is_not_the_originals(fork, message, name):
    assert (message, name) not in SCHEMA


@pytest.mark.parametrize("fork", forks.FORKS, ids=lambda fork: fork.name)
def test_no_name_twice(fork):
    for names in (fork.layers, *fork.fields.values()):
        assert len(set(names.split())) == len(names.split())


TYPES = [
    ("Permute", "SSD"),
    ("PriorBox", "SSD"),
    ("ROIPooling", "py-faster-rcnn"),
    ("PSROIPooling", "R-FCN"),
    ("Upsample", "SegNet"),
    ("BN", "SegNet"),
    ("BN", "PSPNet"),
    ("BN", "yjxiong"),
    ("Interp", "DeepLab"),
    ("Interp", "PSPNet"),
    ("DepthwiseConvolution", "MobileNet"),
    ("ShuffleChannel", "ShuffleNet"),
    ("ImageLabelmapData", "HED"),
    ("PredictBox", "MTCNN"),
    ("CPMData", "CPM"),
    ("DetectNetTransformation", "NVCaffe"),
    ("MnActivation", "Intel Caffe"),
]


@pytest.mark.parametrize(("layer_type", "fork"), TYPES)
def test_layer_type(layer_type, fork):
    hint = forks.layer_type_hint(layer_type)
    assert hint.startswith(f"{layer_type} belongs to the ")
    assert fork in hint


@pytest.mark.parametrize(
    ("message", "name", "fork"),
    [
        ("LayerParameter", "permute_param", "SSD"),
        ("caffe.LayerParameter", "permute_param", "SSD"),
        ("caffe.V1LayerParameter", "bn_param", "SegNet"),
        ("TransformationParameter", "resize_param", "SSD"),
        ("DropoutParameter", "scale_train", "py-faster-rcnn"),
        ("LossParameter", "pre_fixed_normalizer", "R-FCN"),
        ("NetParameter", "default_forward_type", "NVCaffe"),
        ("SolverParameter", "rampup_lr", "NVCaffe"),
        ("LayerParameter", "engine", "Intel Caffe"),
        ("LossParameter", "weight_by_label_freqs", "SegNet"),
        ("ConvolutionParameter", "hole", "DeepLab"),
        ("TransformationParameter", "fix_crop", "yjxiong"),
        ("MemoryDataParameter", "transpose", "MTCNN"),
        ("LayerParameter", "cpm_transform_param", "CPM"),
    ],
)
def test_field(message, name, fork):
    hint = forks.field_hint(message, name)
    assert hint.startswith(f"{name} belongs to the ")
    assert fork in hint


WORDS = [
    (forks.layer_type_hint("Permute"), "Permute belongs to the SSD fork (weiliu89/caffe)"),
    (
        forks.layer_type_hint("SmoothL1Loss"),
        "SmoothL1Loss belongs to the forks SSD (weiliu89/caffe) "
        "and py-faster-rcnn (rbgirshick/caffe-fast-rcnn)",
    ),
    (
        forks.layer_type_hint("MatWrite"),
        "MatWrite belongs to the DeepLab fork (bitbucket.org/aquariusjay/deeplab-public-ver2); "
        'use an "HDF5Output" layer instead',
    ),
    (
        forks.layer_type_hint("CReLU"),
        'use a "Power" layer with scale: -1, a "Concat" of both and a "ReLU" instead',
    ),
    (forks.layer_type_hint("Recurrent"), 'use type "LSTM" or "RNN" instead'),
    (forks.field_hint("ConvolutionParameter", "kernel"), "use kernel_size instead"),
    (forks.layer_type_hint("NoSuchLayer"), None),
]


@pytest.mark.parametrize(("hint", "words"), WORDS)
def test_words(hint, words):
    assert hint == words


def test_types_of_v1_layers():
    assert forks.old_type_hint("IMAGE_SEG_DATA") == forks.layer_type_hint("ImageSegData")
    assert forks.old_type_hint("MAT_WRITE") == forks.layer_type_hint("MatWrite")
    assert forks.old_type_hint("CONVOLUTON") is None


@pytest.mark.parametrize(
    "hint",
    [
        forks.layer_type_hint("Convolution"),
        forks.layer_type_hint("Convolutoin"),
        forks.layer_type_hint(""),
        forks.field_hint("LayerParameter", "convolution_param"),
        forks.field_hint("ConvolutionParameter", "permute_param"),
        forks.field_hint("NoSuchParameter", "permute_param"),
    ],
)
def test_no_hint(hint):
    assert hint is None


#: Names that no fork has, or many: from other frameworks, or looked for in the wrong message.
LOOKED_FOR = {"CReLU", "Recurrent", "kernel", "momentum"}
OF_TYPES = {name for fork in forks.FORKS for name in fork.layers.split()}
OF_FIELDS = {name for fork in forks.FORKS for names in fork.fields.values() for name in names.split()}


@pytest.mark.parametrize(
    ("name", "known"),
    [
        *((name, OF_TYPES) for name in forks.TYPES_INSTEAD),
        *((name, OF_FIELDS) for name in forks.FIELDS_INSTEAD),
    ],
)
def test_whatever_is_instead_is_about_a_known_name(name, known):
    assert name in known | LOOKED_FOR


@pytest.mark.parametrize("message", forks.SPEED_ONLY)
def test_fields_left_out_are_those_of_a_fork(message):
    known = {name for fork in forks.FORKS for name in fork.fields.get(message, "").split()}
    for name in forks.SPEED_ONLY[message].split():
        assert name in known or name == "engine"  # which each fork has in other messages
        assert (message, name) not in SCHEMA
