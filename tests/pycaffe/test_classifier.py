"""Classifier and Detector: their crops, orders and means, with nets whose outputs tell what came in."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
from PIL import Image

import caffetools.pycaffe as caffe

# The output is the input: 2 pictures of 3 x 4 x 4 a batch.
ECHO = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 4 } } }
layer { name: "out" type: "Flatten" bottom: "data" top: "out" }
"""


@pytest.fixture
def files(write):
    caffe.Net(write(ECHO), caffe.TEST).save("net.caffemodel")
    return "net.prototxt", "net.caffemodel"


def random(*shape):
    return np.random.default_rng(3).random(shape, np.float32)


def channels_first(picture):
    return picture.transpose(2, 0, 1).ravel()


class TestClassifier:
    def test_centre(self, files):
        classifier = caffe.Classifier(*files, image_dims=(8, 6))
        pictures = [random(8, 6, 3), random(8, 6, 3) + 1, random(8, 6, 3) + 2]
        found = classifier.predict(pictures, oversample=False)
        np.testing.assert_allclose(found, [channels_first(x[2:6, 1:5]) for x in pictures], rtol=1e-5)

    def test_mean_of_ten_crops(self, files):
        classifier = caffe.Classifier(*files, image_dims=(6, 6))
        x = random(6, 6, 3)
        corners = [x[i : i + 4, j : j + 4] for i, j in ((0, 0), (0, 2), (2, 0), (2, 2), (1, 1))]
        expected = np.mean([channels_first(c) for crop in corners for c in (crop, crop[:, ::-1])], 0)
        np.testing.assert_allclose(classifier.predict([x, x]), [expected] * 2, rtol=1e-5)

    def test_settings(self, files):
        mean = np.array([10, 20, 30])
        classifier = caffe.Classifier(*files, None, mean, 0.5, 255, (2, 1, 0))
        x = random(4, 4, 3)
        expected = ((255 * x[:, :, ::-1] - mean) * 0.5).transpose(2, 0, 1).ravel()
        np.testing.assert_allclose(classifier.predict([x], False)[0], expected, rtol=1e-4)

    def test_pictures_are_resized(self, files):
        classifier = caffe.Classifier(*files)
        x = random(9, 7, 3)
        expected = channels_first(caffe.io.resize_image(x, (4, 4)))
        np.testing.assert_allclose(classifier.predict([x], oversample=False), [expected], rtol=1e-5)

    def test_it_is_a_net(self, files):
        classifier = caffe.Classifier(*files)
        assert isinstance(classifier, caffe.Net)
        assert list(classifier.blobs) == ["data", "out"]

    @pytest.mark.parametrize(
        ("call", "words"),
        [
            (lambda files: caffe.Classifier(*files, image_dims=(3, 9)), "smaller than the net's input"),
            (lambda files: caffe.Classifier(*files).predict([]), "no pictures to classify"),
            (
                lambda files: caffe.Classifier(*files).predict([random(4, 4, 1)]),
                r"\(1, 4, 4\), but the input 'data'",
            ),
            (lambda files: caffe.Classifier(*files, mean=np.zeros(2)), "Mean channels incompatible"),
        ],
    )
    def test_refusals(self, files, call, words):
        with pytest.raises(ValueError, match=words):
            call(files)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (
                'layer { name: "d" type: "DummyData" top: "d" dummy_data_param { shape { dim: 2 } } }',
                "has no input",
            ),
            (
                'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 2 } } }',
                "takes no pictures",
            ),
        ],
    )
    def test_nets_that_take_no_pictures(self, files, write, text, words):
        with pytest.raises(ValueError, match=words):
            caffe.Classifier(write(text, "other.prototxt"), files[1])


@pytest.fixture
def picture(files):
    """A PNG file of 20 x 30 pixels and its values."""
    pixels = np.random.default_rng(4).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    Image.fromarray(pixels).save("picture.png")
    return "picture.png", (pixels / np.float32(255)).astype(np.float32)


class TestDetector:
    def test_windows(self, files, picture):
        name, pixels = picture
        windows = np.array([[0, 0, 4, 4], [3, 7, 11, 15], [16, 26, 20, 30]])
        found = caffe.Detector(*files).detect_windows([(name, windows[:2]), (name, windows[2:])])
        assert [detection["filename"] for detection in found] == [name] * 3
        for detection, window in zip(found, windows, strict=True):
            np.testing.assert_array_equal(detection["window"], window)
            piece = caffe.io.resize_image(pixels[window[0] : window[2], window[1] : window[3]], (4, 4))
            np.testing.assert_allclose(detection["prediction"], channels_first(piece), rtol=1e-5, atol=1e-6)

    def test_no_windows(self, files):
        assert caffe.Detector(*files).detect_windows([]) == []

    def test_context_within_the_picture(self, files, picture):
        """A window of 4 x 4 in an input of 4 x 4 with 1 pixel of context: twice its size around the same middle."""
        detector = caffe.Detector(*files, context_pad=1)
        _, pixels = picture
        crop = detector.crop(pixels, np.array([8, 10, 11, 13]))
        np.testing.assert_allclose(crop, caffe.io.resize_image(pixels[6:14, 8:16], (4, 4)), atol=1e-6)

    @pytest.mark.parametrize("swap", [None, (2, 0, 1)])
    @pytest.mark.parametrize("raw_scale", [None, 255])
    @pytest.mark.parametrize("kind", ["vector", "picture"])
    def test_context_outside_is_the_mean(self, files, picture, swap, raw_scale, kind):
        """What lies outside of the picture becomes zero in the net."""
        mean = np.array([3.0, 5.0, 7.0])
        if kind == "picture":
            mean = mean[:, None, None] + np.arange(16).reshape(1, 4, 4)
        detector = caffe.Detector(*files, mean, None, raw_scale, swap, 1)
        (found,) = detector.detect_windows([(picture[0], [[0, 0, 3, 3]])])
        x = found["prediction"].reshape(3, 4, 4)
        np.testing.assert_allclose(x[:, 0], 0, atol=1e-5)
        np.testing.assert_allclose(x[:, :, 0], 0, atol=1e-5)
        assert np.abs(x[:, 1:, 1:]).min() > 1e-3

    @pytest.mark.parametrize(
        ("window", "context_pad"),
        [
            ([25, 0, 30, 4], None),
            ([0, 31, 4, 40], None),
            ([-9, -9, -3, -3], None),
            ([5, 5, 5, 9], None),
            ([55, 0, 60, 4], 1),
            ([0, 51, 4, 60], 1),
            ([-39, -39, -33, -33], 1),
        ],
    )
    def test_windows_outside(self, files, picture, window, context_pad):
        detector = caffe.Detector(*files, context_pad=context_pad)
        with pytest.raises(ValueError, match="lies outside of a picture of .20, 30."):
            detector.crop(picture[1], window)

    def test_context_without_room(self, files):
        with pytest.raises(ValueError, match="A context of 2 pixels on each side leaves no room in"):
            caffe.Detector(*files, context_pad=2)

    def test_selective_search(self, files, picture, monkeypatch):
        module = types.SimpleNamespace(
            get_windows=lambda names, cmd: [np.array([[0, 0, 4, 4]]) for _ in names]
        )
        monkeypatch.setitem(sys.modules, "selective_search_ijcv_with_python", module)
        (found,) = caffe.Detector(*files).detect_selective_search([picture[0]])
        np.testing.assert_allclose(
            found["prediction"], channels_first(picture[1][:4, :4]), rtol=1e-5, atol=1e-6
        )

    def test_selective_search_without_its_module(self, files):
        with pytest.raises(ImportError, match="needs the module selective_search_ijcv_with_python"):
            caffe.Detector(*files).detect_selective_search(["picture.png"])
