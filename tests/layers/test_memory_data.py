"""MemoryData: arrays and pictures that are handed over, and what is refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from caffetools.formats import datum
from caffetools.glog import FatalError
from caffetools.layer import TEST, TRAIN
from caffetools.proto import caffe_pb2
from tests.layers.gradient import SingleLayer

RANDOM = np.random.default_rng(4)


def memory_data(batch_size=2, shape=(3, 4, 5), more="", **options):
    sizes = "batch_size: {} channels: {} height: {} width: {}".format(batch_size, *shape)
    text = f'name: "m" type: "MemoryData" memory_data_param {{ {sizes} }} {more}'
    return SingleLayer(text, tops=2, **options)


def pictures(count, shape=(3, 4, 5)):
    return RANDOM.integers(0, 256, (count, *shape), dtype=np.uint8)


def as_datums(batch):
    return [datum.from_array(picture, label) for label, picture in enumerate(batch)]


class TestReset:
    def test_batches_go_round(self):
        rig = memory_data()
        data, labels = RANDOM.random((6, 3, 4, 5), np.float32), np.arange(6, dtype=np.float32)
        rig.layer.reset(data, labels)
        for start in (0, 2, 4, 0):
            x, label = rig.forward()
            np.testing.assert_array_equal(x, data[start : start + 2])
            np.testing.assert_array_equal(label, labels[start : start + 2])

    def test_arrays_may_be_flat_and_labels_have_four_axes(self):
        rig = memory_data()
        data = np.arange(120, dtype=np.float32)
        rig.layer.reset(data, np.ones((2, 1, 1, 1), np.float32))
        x, label = rig.forward()
        np.testing.assert_array_equal(x, data.reshape(2, 3, 4, 5))
        assert label.tolist() == [1, 1]

    def test_changes_of_the_arrays_are_seen(self):
        rig = memory_data(1, (1, 1, 1))
        data = np.zeros((1, 1, 1, 1), np.float32)
        rig.layer.reset(data, np.zeros(1, np.float32))
        data[...] = 5
        assert rig.forward()[0].item() == 5

    def test_arrays_are_not_written_to(self):
        rig = memory_data(1, (1, 1, 1))
        data = np.zeros((1, 1, 1, 1), np.float32)
        rig.layer.reset(data, np.zeros(1, np.float32))
        rig.forward()
        rig.top[0].data[...] = 5  # as a layer that works in place does
        assert data.item() == 0

    def test_no_multiple_of_the_batch(self):
        with pytest.raises(FatalError, match="n must be a multiple of batch size"):
            memory_data().layer.reset(np.zeros((3, 3, 4, 5), np.float32), np.zeros(3, np.float32))

    def test_labels_are_not_as_many(self):
        with pytest.raises(FatalError, match=r"\(4 vs. 2\) there must be a label for each item"):
            memory_data().layer.reset(np.zeros((4, 3, 4, 5), np.float32), np.zeros(2, np.float32))

    def test_arrays_are_not_transformed(self, capfd):
        rig = memory_data(1, (1, 1, 1), "transform_param { scale: 2 }")
        rig.layer.reset(np.ones((1, 1, 1, 1), np.float32), np.zeros(1, np.float32))
        assert rig.forward()[0].item() == 1
        assert "MemoryData does not transform array data on Reset()" in capfd.readouterr().err


class TestAddedPictures:
    TRANSFORM = "transform_param { mean_value: 100 scale: 0.5 }"

    def test_datums(self):
        rig = memory_data(more=self.TRANSFORM)
        batch = pictures(4)
        rig.layer.add_datum_vector(as_datums(batch))
        for start in (0, 2):
            x, label = rig.forward()
            np.testing.assert_array_equal(x, (batch[start : start + 2].astype(np.float32) - 100) / 2)
            assert label.tolist() == [start, start + 1]

    def test_datums_of_floats(self):
        rig = memory_data(1, more=self.TRANSFORM)
        values = RANDOM.random((3, 4, 5), np.float32)
        rig.layer.add_datum_vector([datum.from_array(values, 1)])
        np.testing.assert_allclose(rig.forward()[0][0], (values - 100) / 2, rtol=1e-6)

    def test_mats(self):
        rig = memory_data(more=self.TRANSFORM)
        batch = pictures(2)
        rig.layer.add_mat_vector(list(batch.transpose(0, 2, 3, 1)), [7, 8])
        x, label = rig.forward()
        np.testing.assert_array_equal(x, (batch.astype(np.float32) - 100) / 2)
        assert label.tolist() == [7, 8]

    def test_encoded_datums_are_decoded_in_the_colour_that_is_asked_for(self):
        file = io.BytesIO()
        Image.new("RGB", (5, 4), (200, 100, 0)).save(file, "PNG")
        encoded = caffe_pb2.Datum(data=file.getvalue(), encoded=True, label=3)
        rig = memory_data(1, (1, 4, 5), "transform_param { force_gray: true }")
        rig.layer.add_datum_vector([encoded])
        np.testing.assert_allclose(rig.forward()[0], 0.299 * 200 + 0.587 * 100, atol=1)

    def test_pictures_that_are_not_decoded_keep_their_channels(self):
        rig = memory_data(more="transform_param { force_gray: true }")
        words = "force_gray } would have no effect: .*3 channels"
        with pytest.raises(FatalError, match=words):
            rig.layer.add_datum_vector(as_datums(pictures(2)))
        with pytest.raises(FatalError, match=words):
            rig.layer.add_mat_vector(list(pictures(2).transpose(0, 2, 3, 1)), [0, 1])

    def test_mats_of_one_channel(self):
        rig = memory_data(1, (1, 4, 5))
        batch = pictures(1, (4, 5))
        rig.layer.add_mat_vector(list(batch), [0])
        np.testing.assert_array_equal(rig.forward()[0], batch[np.newaxis])

    def test_crop_in_the_middle(self):
        rig = memory_data(1, (3, 2, 2), "transform_param { crop_size: 2 }", phase=TEST)
        batch = pictures(1, (3, 6, 8))
        rig.layer.add_datum_vector(as_datums(batch))
        np.testing.assert_array_equal(rig.forward()[0], batch[:, :, 2:4, 3:5])

    def test_random_crops_go_on(self):
        def rig(seed):
            return memory_data(1, (1, 2, 2), "transform_param { crop_size: 2 }", phase=TRAIN, seed=seed)

        def crops(rig):
            seen = []
            for _ in range(8):
                rig.layer.add_datum_vector(as_datums(batch))
                seen.append(rig.forward()[0].tolist())
            return seen

        batch = pictures(1, (1, 20, 20))
        first, resumed = rig(1), rig(2)
        assert len({str(crop) for crop in crops(first)}) > 4
        resumed.layer.set_state(first.layer.get_state())
        assert crops(resumed) == crops(first)

    def test_new_ones_only_after_the_old_are_used_up(self):
        rig = memory_data()
        rig.layer.add_datum_vector(as_datums(pictures(4)))
        rig.forward()
        for add, words in (
            (lambda: rig.layer.add_datum_vector(as_datums(pictures(2))), "Can't add data until current data"),
            (lambda: rig.layer.add_mat_vector([], []), "Can't add mat until current data"),
            (lambda: rig.layer.set_batch_size(1), "Can't change batch_size until current data"),
        ):
            with pytest.raises(FatalError, match=words):
                add()
        rig.forward()
        rig.layer.add_datum_vector(as_datums(pictures(2)))

    def test_batch_size_is_changed(self):
        rig = memory_data()
        rig.layer.set_batch_size(3)
        rig.layer.add_datum_vector(as_datums(pictures(3)))
        assert [top.shape for top in rig.forward()] == [(3, 3, 4, 5), (3,)]

    @pytest.mark.parametrize(
        ("add", "words"),
        [
            (lambda layer: layer.add_datum_vector([]), "There is no datum to add"),
            (lambda layer: layer.add_mat_vector([], []), "There is no mat to add"),
            (
                lambda layer: layer.add_datum_vector(as_datums(pictures(3))),
                "must be a multiple of the batch size",
            ),
            (lambda layer: layer.add_mat_vector(np.zeros((2, 4, 5, 3)), [0, 0]), "must be unsigned byte"),
            (
                lambda layer: layer.add_datum_vector(as_datums(pictures(2, (3, 4, 6)))),
                r"3 4 6 \(72\) .* 3 4 5 \(60\)",
            ),
        ],
    )
    def test_refusals(self, add, words):
        with pytest.raises(FatalError, match=words):
            add(memory_data().layer)


def test_nothing_was_handed_over():
    with pytest.raises(FatalError, match="MemoryDataLayer needs to be initialized by calling Reset"):
        memory_data().forward()


@pytest.mark.parametrize("sizes", [(0, (1, 1, 1)), (1, (1, 0, 1)), (1, (0, 1, 1))])
def test_sizes_must_be_positive(sizes):
    with pytest.raises(
        FatalError, match="batch_size, channels, height, and width must be specified and positive"
    ):
        memory_data(*sizes)
