"""Net: passes over arrays of any length, and arrays that a MemoryData layer takes its batches from."""

from __future__ import annotations

import numpy as np
import pytest

import caffetools.pycaffe as caffe
from tests.pycaffe.conftest import DEPLOY
from tests.pycaffe.test_net import random


class TestArraysOfAnyLength:
    @pytest.mark.parametrize("length", [1, 4, 7, 12])
    def test_forward_all(self, deploy, length):
        x = random(length, 3)
        outputs = deploy.forward_all(blobs=["data"], data=x)
        weight, bias = (blob.data for blob in deploy.params["ip"])
        np.testing.assert_allclose(outputs["ip"], x @ weight.T + bias, rtol=1e-5)
        np.testing.assert_array_equal(outputs["data"], x)

    @pytest.mark.parametrize("length", [3, 8])
    def test_forward_backward_all(self, write, length):
        net = caffe.Net(write("force_backward: true" + DEPLOY), caffe.TRAIN)
        x, dy = random(length, 3), random(length, 2)
        outputs, diffs = net.forward_backward_all(diffs=["ip"], data=x, ip=dy)
        weight, bias = (blob.data for blob in net.params["ip"])
        np.testing.assert_allclose(outputs["ip"], x @ weight.T + bias, rtol=1e-5)
        np.testing.assert_allclose(diffs["data"], dy @ weight, rtol=1e-5)
        np.testing.assert_array_equal(diffs["ip"], dy)

    def test_what_is_no_item_of_a_batch_comes_once_for_each_batch(self, write):
        loss = 'layer { type: "Reduction" name: "sum" bottom: "ip" top: "sum" }'
        net = caffe.Net(write(DEPLOY + loss), caffe.TEST)
        outputs = net.forward_all(blobs=["ip"], data=random(6, 3))
        sums = [outputs["ip"][:4].sum(), outputs["ip"][4:].sum()]
        np.testing.assert_allclose(outputs["sum"], sums, rtol=1e-4)

    def test_without_arrays(self, deploy):
        for run in (deploy.forward_all, deploy.forward_backward_all):
            with pytest.raises(RuntimeError, match="needs arrays, named as the net's inputs"):
                run()

    def test_unequal_lengths(self, deploy):
        with pytest.raises(RuntimeError, match="'ip' has 3 items, 'data' has 4"):
            deploy.forward_backward_all(data=random(4, 3), ip=random(3, 2))

    def test_unknown_name(self, deploy):
        with pytest.raises(RuntimeError, match=r"data, x are not all inputs"):
            deploy.forward_backward_all(data=random(4, 3), x=random(4, 2))


class TestInputArrays:
    @pytest.fixture
    def memory_net(self, write):
        sizes = "batch_size: 2 channels: 1 height: 2 width: 3"
        layer = f'type: "MemoryData" name: "d" top: "data" top: "label" memory_data_param {{ {sizes} }}'
        return caffe.Net(write(f"layer {{ {layer} }}"), caffe.TEST)

    def test_rounds(self, memory_net):
        x, label = random(4, 1, 2, 3), np.arange(4, dtype=np.float32)
        memory_net.set_input_arrays(x, label)
        for start in (0, 2, 0):
            outputs = memory_net.forward()
            np.testing.assert_array_equal(outputs["data"], x[start : start + 2])
            np.testing.assert_array_equal(outputs["label"], label[start : start + 2])

    def test_labels_of_four_axes(self, memory_net):
        memory_net.set_input_arrays(random(2, 1, 2, 3), np.ones((2, 1, 1, 1), np.float32))
        assert memory_net.forward()["label"].tolist() == [1, 1]

    LABELS = np.zeros(2, np.float32)

    @pytest.mark.parametrize(
        ("data", "labels", "words"),
        [
            (random(2, 1, 3, 2).transpose(0, 1, 3, 2), LABELS, "data array must be C contiguous"),
            (random(2, 2, 3), LABELS, "data array must be 4-d"),
            (np.zeros((2, 1, 2, 3)), LABELS, "data array must be float32"),
            (random(2, 2, 2, 3), LABELS, "data array has wrong number of channels"),
            (random(2, 1, 3, 3), LABELS, "data array has wrong height"),
            (random(2, 1, 2, 2), LABELS, "data array has wrong width"),
            (random(2, 1, 2, 3), np.zeros(2), "labels array must be float32"),
            (random(4, 1, 2, 3), LABELS, "data and labels must have the same first dimension"),
            (random(3, 1, 2, 3), np.zeros(3, np.float32), "must be a multiple of batch size"),
        ],
    )
    def test_refusals(self, memory_net, data, labels, words):
        with pytest.raises(RuntimeError, match=words):
            memory_net.set_input_arrays(data, labels)

    def test_other_layer(self, deploy):
        with pytest.raises(RuntimeError, match="only be called if the first layer is a MemoryDataLayer"):
            deploy.set_input_arrays(random(4, 3, 1, 1), np.zeros(4, np.float32))
