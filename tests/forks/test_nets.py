"""Nets as the files of well-known forks have them, but small: those for use run, those for training train or say why.

The files in `nets/` are written for this test, after the fields and values that the forks' own have.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffetools import graph, upgrade
from caffetools.formats import datum as datum_format
from caffetools.formats.db import open_db
from caffetools.glog import FatalError
from caffetools.layer import TEST, TRAIN, Context, RandomSource
from caffetools.net import Net
from caffetools.proto import caffe_pb2
from caffetools.solver.solver import Solver
from caffetools.tools import net_inputs
from caffetools.tools.test import test as run_test
from caffetools.tools.warm import warm

NETS = Path(__file__).parent / "nets"
#: The files that a net for use consists of, and the shapes of its outputs.
DEPLOY = {
    "ssd": (["ssd_body", "ssd_deploy_head"], {"detection_out": 7}),
    "pspnet": (["pspnet_deploy"], {"conv6_interp": (1, 5, 33, 33)}),
    "deeplab": (["deeplab_deploy"], {"fc8_interp": (1, 21, 33, 41)}),
    "segnet": (["segnet_inference"], {"prob": (1, 11, 18, 24)}),
    "shufflenet": (["shufflenet_deploy"], {"fc": (1, 10)}),
    "mobilenet_v2": (["mobilenet_v2_deploy"], {"prob": (1, 8, 1, 1)}),
    "senet": (["senet_deploy"], {"classifier": (1, 10)}),
    "yolo": (["yolo_deploy"], {"layer5-conv": (1, 75, 16, 16)}),
    "faster_rcnn": (["faster_rcnn_test"], {"bbox_pred": (3, 84), "cls_prob": (3, 21)}),
}
SSD_INPUT = 'input: "data" input_shape { dim: 1 dim: 3 dim: 64 dim: 64 }\n'

PROPOSAL = """
import numpy as np

class ProposalLayer:
    def setup(self, bottom, top):
        self.stride = int(self.param_str.split(":")[1])

    def reshape(self, bottom, top):
        top[0].reshape(3, 5)

    def forward(self, bottom, top):
        top[0].data[...] = [[0, 0, 0, 9, 9], [0, 8, 4, 40, 30], [0, 30, 20, 62, 46]]
"""


def text_of(*names: str) -> str:
    return "\n".join((NETS / f"{name}.prototxt").read_text() for name in names)


def made_livelier(net: Net) -> Net:
    """Give a net weights with which values keep their size, and statistics as if it had been trained."""
    random = np.random.default_rng(4)
    for layer in net.layers:
        if layer.type in ("Convolution", "InnerProduct", "ConvolutionDepthwise", "DepthwiseConvolution"):
            weights = layer.blobs[0]
            weights.data[...] = random.normal(size=weights.shape) * (2 / weights.count_from(1)) ** 0.5
        elif layer.type == "BatchNorm" or len(layer.blobs) == 4:
            mean, variance = layer.blobs[:2] if layer.type == "BatchNorm" else layer.blobs[2:]
            mean.data[...] = random.normal(scale=0.2, size=mean.shape)
            variance.data[...] = random.uniform(1, 2, variance.shape)
            if layer.type == "BatchNorm":
                layer.blobs[2].data[...] = 1
    return net


@pytest.fixture
def deploy(tmp_path, monkeypatch):
    """Return a function that writes and builds a net for use."""
    (tmp_path / "proposal_of_forks_test.py").write_text(PROPOSAL)
    monkeypatch.syspath_prepend(tmp_path)

    def build(name):
        path = tmp_path / f"{name}.prototxt"
        path.write_text((SSD_INPUT if name == "ssd" else "") + text_of(*DEPLOY[name][0]))
        param = upgrade.read_net_text(path)
        param.state.phase = TEST
        return made_livelier(Net(graph.filter_net(param), Context(TEST, random=RandomSource(2)))), path

    return build


@pytest.mark.parametrize("name", DEPLOY)
def test_nets_for_use_run(name, deploy):
    net, _ = deploy(name)
    random = np.random.default_rng(3)
    net.blobs["data"].data[...] = random.normal(size=net.blobs["data"].shape)
    net.forward()
    for blob, shape in DEPLOY[name][1].items():
        values = net.blobs[blob].data
        assert np.isfinite(values).all() and values.std() > 0
        assert values.shape == shape or values.shape[-1] == shape
    if name == "ssd":
        rows = net.blobs["detection_out"].data.reshape(-1, 7)
        assert 1 < len(rows) <= 200 and rows[:, 1].min() >= 1 and rows[:, 2].min() > 0.01


@pytest.mark.parametrize("name", [name for name in DEPLOY if name != "faster_rcnn"])
def test_nets_for_use_agree_with_onnxruntime(name, deploy, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from tests.exchange.test_onnx import compare, exported

    net, path = deploy(name)
    compare(net, exported(net, tmp_path, path.read_text()), np.random.default_rng(7), twice=True)


def record(random) -> caffe_pb2.AnnotatedDatum:
    """A picture with two objects of classes 1 and 7."""
    picture = random.integers(0, 60, (3, 70, 90), np.uint8)
    result = caffe_pb2.AnnotatedDatum(type="BBOX")
    for label, (left, top) in ((1, (5, 5)), (7, (50, 30))):
        picture[label % 3, top : top + 30, left : left + 30] = 220
        box = {"xmin": left / 90, "ymin": top / 70, "xmax": (left + 30) / 90, "ymax": (top + 30) / 70}
        result.annotation_group.add(group_label=label).annotation.add(bbox=box)
    result.datum.CopyFrom(datum_format.from_array(picture))
    return result


def test_ssd_trains_and_is_evaluated(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path("train.prototxt").write_text(text_of("ssd_train_data", "ssd_body", "ssd_train_head"))
    Path("test.prototxt").write_text(text_of("ssd_test_data", "ssd_body", "ssd_deploy_head", "ssd_test_head"))
    Path("labelmap_voc.prototxt").write_text('item { name: "none" label: 0 } item { name: "aeroplane" label: 1 }')
    Path("test_name_size.txt").write_text("000001 70 90\n" * 4)
    # Without a seed, samples of pictures may happen to hold no object, and the loss is 0.
    Path("solver.prototxt").write_text(text_of("ssd_solver") + "random_seed: 1\n")
    random = np.random.default_rng(5)
    for source in ("trainval_lmdb", "test_lmdb"):
        with open_db("lmdb", source, "new") as db:
            for i in range(4):
                db.put(b"%d" % i, record(random).SerializeToString())
    warm(solver="solver.prototxt")
    solver = Solver(upgrade.read_solver("solver.prototxt"))
    before = [blob.data.copy() for blob in solver.net.layer_by_name["conv4_3_norm"].blobs]
    solver.solve()
    solver.close()
    log = capfd.readouterr().err
    assert "Iteration 1 (" in log and "mbox_loss = " in log and "detection_eval = " in log
    assert np.isfinite(solver.losses).all() and min(solver.losses) > 0
    means = run_test("test.prototxt", "VGG_VOC0712_SSD_300x300_iter_2.caffemodel", iterations=2)
    assert len(means["detection_eval"]) == 1 and 0 <= means["detection_eval"][0] <= 1
    learnt = solver.net.layer_by_name["conv4_3_norm"].blobs
    assert all((blob.data != old).any() for blob, old in zip(learnt, before, strict=True))


def test_losses_of_faster_rcnn(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(text_of("faster_rcnn_losses"))
    net = Net(upgrade.read_net_text(path), Context(TRAIN))
    random = np.random.default_rng(1)
    for name in net.inputs:
        values = random.normal(size=net.blobs[name].shape)
        net.blobs[name].data[...] = np.clip(np.rint(values), -1, 1) if name == "rpn_labels" else values
    net.forward()
    net.backward()
    ignored = net.blobs["rpn_labels"].data[0, 0] == -1
    scores = net.blobs["rpn_cls_score_reshape"].diff[0]
    assert ignored.any() and not scores[:, ignored].any() and scores[:, ~ignored].any()
    assert net.blobs["rpn_bbox_pred"].diff.any()


@pytest.mark.parametrize(("name", "count"), [("nvcaffe_train_val", 19), ("intel_train_val", 13)])
def test_settings_of_speed_are_left_out(name, count, tmp_path, capfd):
    path = tmp_path / "net.prototxt"
    path.write_text(text_of(name))
    param = upgrade.read_net_text(path)
    lines = [line for line in capfd.readouterr().err.splitlines() if "is left out" in line]
    assert len(lines) == count and all(f"{path}:" in line for line in lines)
    param.state.phase = TRAIN
    net = Net(net_inputs.with_inputs(graph.filter_net(param), {"data": (2, 3, 16, 16)}), Context(TRAIN))
    net.blobs["data"].data[...] = np.random.default_rng(2).normal(size=(2, 3, 16, 16))
    loss = net.forward()
    net.backward()
    assert np.isfinite(loss) and loss > 0 and net.layer_by_name["conv1"].blobs[0].diff.any()


UNKNOWN = [
    ('type: "ImageSegData" top: "data"', "ImageSegData .*DeepLab .*PSPNet .*one for the labels of their pixels"),
    ('type: "DenseImageData" top: "data"', 'DenseImageData .*SegNet .*use "Data" or "HDF5Data" layers'),
    ('type: "SegAccuracy"', 'SegAccuracy .*use an "Accuracy" layer'),
    ('type: "PSROIPooling"', "PSROIPooling .*R-FCN"),
    ('type: "ConvolutionRistretto"', 'Ristretto .*use type "Convolution"'),
    ('type: "Yolov3DetectionOutput"', "Yolov3DetectionOutput .*MobileNet-YOLO"),
    ('type: "RegionLoss"', "RegionLoss .*YOLO"),
    ('type: "DetectNetTransformation"', "NVCaffe"),
    ('type: "MultiStageMeanfield"', "CRF-RNN"),
]


@pytest.mark.parametrize(("text", "message"), UNKNOWN)
def test_types_that_are_not_here_are_named(text, message, tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(f'layer {{ name: "odd one" {text} }}')
    with pytest.raises(FatalError, match=rf"Unknown layer type: .*{message}.*\(layer 'odd one'\)"):
        Net(upgrade.read_net_text(path), Context(TEST))


FIELDS = [
    ("layer { dense_image_data_param { } }", "dense_image_data_param belongs to the SegNet fork"),
    ("layer { image_data_param { label_type: PIXEL } }", "label_type belongs to the forks DeepLab .*PSPNet"),
    ("layer { convolution_param { relu: true } }", 'relu belongs to the Intel Caffe fork .*use a "ReLU" layer behind'),
    ("layer { batch_norm_param { use_weight_bias: true } }", "use scale_bias: true"),
    ("layer { batch_norm_param { momentum: 0.9 } }", "use moving_average_fraction instead"),
    ("layer { data_param { shuffle: true } }", "use convert_imageset --shuffle"),
    ("bn_stats_batch_size: 32", "bn_stats_batch_size belongs to the Intel Caffe fork"),
]


@pytest.mark.parametrize(("text", "message"), FIELDS)
def test_fields_that_change_results_are_named(text, message, tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    with pytest.raises(FatalError, match=rf"net.prototxt:1:\d+: .*{message}"):
        upgrade.read_net_text(path)


SOLVER_FIELDS = [
    ("rampup_interval: 100", "use warmup_iter instead"),
    ("max_epoch: 60", "use max_iter, which counts batches"),
    ("disabled_update: true", "use base_lr: 0 instead"),
    ("larc: true", "larc belongs to the NVCaffe fork"),
]


@pytest.mark.parametrize(("text", "message"), SOLVER_FIELDS)
def test_fields_of_solvers_are_named(text, message, tmp_path):
    path = tmp_path / "solver.prototxt"
    path.write_text(text)
    with pytest.raises(FatalError, match=message):
        upgrade.read_solver(path)
