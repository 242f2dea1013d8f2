"""caffe.io: against what the original computed, and against formulas where there is no recording."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from PIL import Image

import caffetools.pycaffe as caffe
from caffetools.proto import caffe_pb2
from tests.recorded import FORMATS, GOLDEN

RECORDED = np.load(GOLDEN / "pycaffe_io.npz")
PICTURES = ["images/a.png", "images/b.jpg", "images/sub/gray.png", "images/rgba.png"]


def close(actual, expected, rtol=1e-5):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=1e-6)
    assert actual.dtype == expected.dtype


class TestLoadImage:
    @pytest.mark.parametrize("name", PICTURES)
    def test_color(self, name):
        close(caffe.io.load_image(FORMATS / name), RECORDED[f"load/{name}"])

    @pytest.mark.parametrize("name", PICTURES)
    def test_gray(self, name):
        close(caffe.io.load_image(str(FORMATS / name), color=False), RECORDED[f"load_gray/{name}"])

    @pytest.mark.parametrize(
        ("mode", "value", "expected"),
        [
            ("L", 51, [0.2, 0.2, 0.2]),
            ("1", 1, [1, 1, 1]),
            ("LA", (51, 128), [0.2, 0.2, 0.2]),
            ("I;16", 13107, [0.2, 0.2, 0.2]),
            ("RGBA", (255, 51, 0, 7), [1, 0.2, 0]),
        ],
    )
    def test_kinds_of_pictures(self, tmp_path, mode, value, expected):
        Image.new(mode, (3, 2), value).save(tmp_path / "x.png")
        picture = caffe.io.load_image(tmp_path / "x.png")
        assert picture.shape == (2, 3, 3)
        np.testing.assert_allclose(picture[1, 2], expected, rtol=1e-6)

    @pytest.mark.parametrize(("color", "expected"), [(True, [1, 0.2, 0]), (False, [0.2125 + 0.7154 / 5])])
    def test_palette(self, tmp_path, color, expected):
        Image.new("RGB", (3, 2), (255, 51, 0)).quantize().save(tmp_path / "x.png")
        picture = caffe.io.load_image(tmp_path / "x.png", color)
        np.testing.assert_allclose(picture, np.broadcast_to(expected, (2, 3, len(expected))), rtol=1e-6)

    def test_missing_file(self):
        with pytest.raises(OSError, match="gone.png"):
            caffe.io.load_image("gone.png")


class TestResizeImage:
    @pytest.mark.parametrize("size", [(24, 30), (100, 77)])
    @pytest.mark.parametrize("name", PICTURES)
    def test_recorded(self, name, size):
        picture = RECORDED[f"load/{name}"]
        close(caffe.io.resize_image(picture, size), RECORDED[f"resize/{size[0]}_{size[1]}/{name}"])

    def test_other_numbers_of_channels(self):
        close(caffe.io.resize_image(RECORDED["nd"], (13, 17)), RECORDED["resize_nd"])

    def test_nearest(self):
        close(caffe.io.resize_image(RECORDED["nd"], (5, 6), interp_order=0), RECORDED["resize_nd_order0"])

    def test_one_color(self):
        y = caffe.io.resize_image(np.full((5, 4, 3), 0.3, np.float32), (2, 9))
        np.testing.assert_array_equal(y, np.full((2, 9, 3), np.float32(0.3)))

    @pytest.mark.parametrize("channels", [1, 2, 3])
    def test_one_pixel(self, channels):
        x = np.random.default_rng(0).random((6, 7, channels), np.float32)
        assert caffe.io.resize_image(x, (1, 1)).shape == (1, 1, channels)
        up = caffe.io.resize_image(np.ones((1, 1, channels)), (3, 2))
        np.testing.assert_array_equal(up, np.ones((3, 2, channels)))

    @pytest.mark.parametrize("channels", [3, 5])
    def test_same_size(self, channels):
        x = np.random.default_rng(0).random((6, 7, channels), np.float32)
        close(caffe.io.resize_image(x, (6, 7)), x)

    @pytest.mark.parametrize("order", range(6))
    @pytest.mark.parametrize("size", [(40, 31), (5, 4), (9, 9)])
    def test_orders(self, order, size):
        """Against SciPy, which the original's picture library calls."""
        ndimage = pytest.importorskip("scipy.ndimage")
        x = np.random.default_rng(1).random((9, 9, 3))
        x -= x.min()
        x /= x.max()
        sigmas = [max(0, (9 / new - 1) / 2) for new in size]
        smooth = ndimage.gaussian_filter(x, (*sigmas, 0), mode="constant")
        scale = (size[0] / 9, size[1] / 9, 1)
        expected = ndimage.zoom(smooth, scale, order=order, mode="grid-constant", grid_mode=True)
        y = caffe.io.resize_image(x, size, order)
        np.testing.assert_allclose(y, expected.clip(0, 1), rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("order", range(6))
    @pytest.mark.parametrize("size", [(40, 31), (5, 4), (9, 9)])
    def test_orders_of_other_numbers_of_channels(self, order, size):
        ndimage = pytest.importorskip("scipy.ndimage")
        x = np.random.default_rng(1).random((9, 9, 4))
        expected = ndimage.zoom(x, (size[0] / 9, size[1] / 9, 1), order=order)
        np.testing.assert_allclose(caffe.io.resize_image(x, size, order), expected, rtol=1e-5, atol=1e-6)

    @pytest.mark.skipif(importlib.util.find_spec("scipy") is not None, reason="SciPy is there")
    def test_splines_need_scipy(self):
        with pytest.raises(ImportError, match="install scipy, or use order 0 or 1"):
            caffe.io.resize_image(np.eye(3)[:, :, None], (2, 2), 3)

    @pytest.mark.parametrize(
        ("shape", "size", "order", "words"),
        [
            ((4, 4), (2, 2), 1, r"\(4, 4\) cannot be resized to \(2, 2\)"),
            ((0, 4, 3), (2, 2), 1, r"\(0, 4, 3\) cannot be resized"),
            ((4, 4, 3), (0, 2), 1, r"cannot be resized to \(0, 2\)"),
            ((4, 4, 3), (2, 2), 6, "interp_order is .* not 6"),
        ],
    )
    def test_refusals(self, shape, size, order, words):
        with pytest.raises(ValueError, match=words):
            caffe.io.resize_image(np.zeros(shape), size, order)


class TestOversample:
    def test_recorded(self):
        picture = caffe.io.resize_image(RECORDED["load/images/b.jpg"], (32, 32))
        close(caffe.io.oversample([picture], (24, 24)), RECORDED["oversample"])

    def test_order(self):
        """Crops of one pixel from pictures of numbers: corners, centre, and the same again."""
        pictures = np.arange(18, dtype=np.float32).reshape(2, 3, 3, 1)
        crops = caffe.io.oversample(pictures, (1, 1)).ravel()
        assert crops.tolist() == [0, 2, 6, 8, 4] * 2 + [9, 11, 15, 17, 13] * 2

    def test_mirror(self):
        picture = np.arange(4, dtype=np.float32).reshape(1, 2, 2, 1)
        crops = caffe.io.oversample(picture, (2, 2))[..., 0].tolist()
        assert crops == [[[0, 1], [2, 3]]] * 5 + [[[1, 0], [3, 2]]] * 5

    def test_larger_crop(self):
        with pytest.raises(ValueError, match="Crops of 3 x 2 do not fit into pictures of 2 x 2"):
            caffe.io.oversample(np.zeros((1, 2, 2, 1)), (3, 2))


@pytest.fixture
def transformer():
    return caffe.io.Transformer({"data": (1, 3, 20, 22)})


class TestTransformer:
    @pytest.fixture
    def recorded(self, transformer):
        transformer.set_input_scale("data", 0.017)  # the order of the calls does not matter
        transformer.set_mean("data", np.array([104, 117, 123]))
        transformer.set_transpose("data", (2, 0, 1))
        transformer.set_channel_swap("data", (2, 1, 0))
        transformer.set_raw_scale("data", 255)
        return transformer

    def test_preprocess(self, recorded):
        close(recorded.preprocess("data", RECORDED["load/images/b.jpg"]), RECORDED["preprocess"])

    def test_deprocess(self, recorded):
        close(recorded.deprocess("data", RECORDED["preprocess"][np.newaxis]), RECORDED["deprocess"])

    @pytest.mark.parametrize("shape", [(20, 22, 3), (9, 30, 3)])
    def test_arguments_are_left_as_they_are(self, recorded, shape):
        picture = np.ones(shape, np.float32)
        x = recorded.preprocess("data", picture)
        expected = x.copy()
        recorded.deprocess("data", x)
        assert (picture == 1).all() and (x == expected).all()

    def test_nothing_set(self, transformer):
        picture = np.random.default_rng(0).random((20, 22, 3))
        np.testing.assert_array_equal(
            transformer.preprocess("data", picture), picture.astype(np.float32), strict=True
        )

    def test_there_and_back(self, recorded):
        picture = np.random.default_rng(0).random((20, 22, 3), np.float32)
        recorded.set_mean("data", np.random.default_rng(1).random((3, 20, 22)) * 99)
        back = recorded.deprocess("data", recorded.preprocess("data", picture))
        np.testing.assert_allclose(back, picture, atol=1e-5)

    @pytest.mark.parametrize("shape", [(3, 40, 44), (40, 44)])
    def test_mean_of_another_size(self, transformer, shape):
        transformer.set_transpose("data", (2, 0, 1))
        transformer.set_mean("data", np.full(shape, 7.0))
        x = transformer.preprocess("data", np.full((20, 22, 3), 9.0))
        np.testing.assert_array_equal(x, np.full((3, 20, 22), 2))

    def test_one_channel(self):
        transformer = caffe.io.Transformer({"data": (8, 1, 2, 2)})
        transformer.set_transpose("data", (2, 0, 1))
        x = transformer.preprocess("data", np.arange(4.0).reshape(2, 2, 1))
        assert x.tolist() == [[[0, 1], [2, 3]]]

    @pytest.mark.parametrize(
        ("method", "value", "words"),
        [
            ("set_transpose", (1, 0), "Transpose order needs to have the same number of dimensions"),
            ("set_channel_swap", (1, 0), "Channel swap needs to have the same number of dimensions"),
            ("set_mean", np.zeros(2), "Mean channels incompatible with input"),
            ("set_mean", np.zeros((2, 20, 22)), "Mean channels incompatible with input"),
            ("set_mean", np.zeros((1, 3, 20, 22)), "Mean shape invalid"),
        ],
    )
    def test_refused_settings(self, transformer, method, value, words):
        with pytest.raises(ValueError, match=words):
            getattr(transformer, method)("data", value)

    @pytest.mark.parametrize(
        "method",
        [
            "set_transpose",
            "set_channel_swap",
            "set_mean",
            "set_raw_scale",
            "set_input_scale",
            "preprocess",
            "deprocess",
        ],
    )
    def test_names_that_are_no_inputs(self, transformer, method):
        with pytest.raises(ValueError, match="label is not one of the net inputs: data"):
            getattr(transformer, method)("label", 1)


class TestBlobs:
    VALUES = np.arange(120, dtype=np.float32).reshape(2, 3, 4, 5)

    def test_old_layout(self):
        blob = caffe_pb2.BlobProto(num=2, channels=3, height=4, width=5, data=range(120))
        np.testing.assert_array_equal(caffe.io.blobproto_to_array(blob), self.VALUES, strict=True)

    def test_new_layout(self):
        blob = caffe_pb2.BlobProto(shape={"dim": [2, 60]}, data=range(120))
        np.testing.assert_array_equal(caffe.io.blobproto_to_array(blob), self.VALUES.reshape(2, 60))

    def test_without_a_shape(self):
        with pytest.raises(ValueError, match="120 are stored"):
            caffe.io.blobproto_to_array(caffe_pb2.BlobProto(data=range(120)))

    def test_scalar_without_a_shape(self):
        assert caffe.io.blobproto_to_array(caffe_pb2.BlobProto(data=[123])) == 123

    def test_gradients(self):
        blob = caffe.io.array_to_blobproto(self.VALUES, -self.VALUES)
        assert list(blob.shape.dim) == [2, 3, 4, 5]
        np.testing.assert_array_equal(list(blob.diff), -self.VALUES.ravel())
        np.testing.assert_array_equal(caffe.io.blobproto_to_array(blob, return_diff=True), -self.VALUES)

    def test_lists(self):
        arrays = [self.VALUES, np.float32([1, 2]), np.zeros((0, 3), np.float32)]
        text = caffe.io.arraylist_to_blobprotovector_str(arrays)
        assert isinstance(text, bytes) and len(caffe_pb2.BlobProtoVector.FromString(text).blobs) == 3
        for array, again in zip(arrays, caffe.io.blobprotovector_str_to_arraylist(text), strict=True):
            np.testing.assert_array_equal(again, array, strict=True)


class TestDatums:
    def test_bytes(self):
        x = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
        datum = caffe.io.array_to_datum(x, np.int64(7))
        assert (datum.channels, datum.height, datum.width, datum.label) == (2, 3, 4, 7)
        assert datum.data == bytes(range(24))
        np.testing.assert_array_equal(caffe.io.datum_to_array(datum), x, strict=True)

    def test_floats_without_a_label(self):
        x = np.arange(24).reshape(2, 3, 4) / 10
        datum = caffe.io.array_to_datum(x)
        assert not datum.HasField("label")
        np.testing.assert_array_equal(np.array(datum.float_data, np.float32), x.ravel().astype(np.float32))
        np.testing.assert_array_equal(caffe.io.datum_to_array(datum), x.astype(np.float32), strict=True)

    def test_arrays_may_be_changed(self):
        array = caffe.io.datum_to_array(caffe.io.array_to_datum(np.zeros((1, 2, 2), np.uint8)))
        array += 1

    def test_encoded_picture(self):
        datum = caffe_pb2.Datum(encoded=True, data=(FORMATS / "images/a.png").read_bytes())
        rgb = np.asarray(Image.open(FORMATS / "images/a.png"))
        np.testing.assert_array_equal(caffe.io.datum_to_array(datum), rgb.transpose(2, 0, 1)[::-1])

    @pytest.mark.parametrize("shape", [(4,), (2, 2), (1, 1, 2, 2)])
    def test_other_numbers_of_axes(self, shape):
        with pytest.raises(ValueError, match="Incorrect array shape."):
            caffe.io.array_to_datum(np.zeros(shape))

    def test_values_that_do_not_fit(self):
        with pytest.raises(ValueError, match="Incorrect data field size 3"):
            caffe.io.datum_to_array(caffe_pb2.Datum(channels=1, height=2, width=2, data=b"abc"))
