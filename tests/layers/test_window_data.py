"""WindowData: cutting from a picture whose values tell their place, drawing of windows, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image

from caffetools.blob import Blob
from caffetools.engine.cpu.rng import RandomSource
from caffetools.formats import binary
from caffetools.formats import blob as blob_format
from caffetools.glog import FatalError
from caffetools.layer import Context
from caffetools.layers import layer_class
from caffetools.layers.window_data import fit
from caffetools.proto import caffe_pb2

WIDTH, HEIGHT = 100, 80
RED = 50


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current directory with a picture whose blue is x, whose green is y, and whose red is constant."""
    monkeypatch.chdir(tmp_path)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.uint8)
    Image.fromarray(np.stack([np.full_like(x, RED), y, x], 2)).save("ramp.png")
    return tmp_path


@pytest.fixture
def window_data(folder):
    """Return a function that makes a layer for these windows: (class, overlap, x1, y1, x2, y2)."""
    layers = []

    def make(*windows, data="", transform="crop_size: 10", seed=1, pictures=None):
        if pictures is None:
            pictures = [("ramp.png", windows)]
        lines = []
        for i, (path, rows) in enumerate(pictures):
            lines += [f"# {i}", path, "3", str(HEIGHT), str(WIDTH), str(len(rows))]
            lines += [" ".join(map(str, row)) for row in rows]
        (folder / "windows.txt").write_text("\n".join(lines) + "\n")
        text = (
            f'name: "w" type: "WindowData" window_data_param {{ source: "windows.txt" {data} }} '
            f"transform_param {{ {transform} }}"
        )
        context = Context(random=RandomSource(seed))
        layer = layer_class("WindowData")(text_format.Parse(text, caffe_pb2.LayerParameter()), context)
        layers.append(layer)
        top = [Blob(), Blob()]
        layer.setup([], top)

        def batch():
            layer.forward([], top)
            return [blob.data.copy() for blob in top]

        batch.layer = layer
        return batch

    yield make
    for layer in layers:
        layer.close()


OBJECT = (3, 0.9, 20, 30, 49, 69)
NOTHING = (3, 0.1, 0, 0, 9, 9)


def one_window(window_data, box, data="", transform="crop_size: 10"):
    """Return the foreground patch of one window."""
    windows = [(3, 0.9, *box), NOTHING]
    batch = window_data(*windows, data=f"batch_size: 1 fg_fraction: 1 {data}", transform=transform)
    data, label = batch()
    assert label.tolist() == [3]
    return data[0]


def ramp(start, end, size):
    """Positions of the middles of `size` equal parts of the pixels start to end."""
    return start + (np.arange(size) + 0.5) * (end - start + 1) / size - 0.5


class TestCutting:
    def test_window_is_warped(self, window_data):
        blue, green, red = one_window(window_data, (20, 30, 49, 69))
        assert np.abs(blue - ramp(20, 49, 10)).max() <= 1
        assert np.abs(green - ramp(30, 69, 10)[:, np.newaxis]).max() <= 1
        assert (red == RED).all()

    def test_window_of_the_right_size_is_copied(self, window_data):
        blue, green, _ = one_window(window_data, (20, 30, 29, 39))
        assert (blue == np.arange(20, 30)).all()
        assert (green == np.arange(30, 40)[:, np.newaxis]).all()

    def test_context(self, window_data):
        # 20 of 24 pixels show the window, so the region is 24/20 as long as the window, about its middle.
        blue, green, _ = one_window(window_data, (30, 20, 69, 59), "context_pad: 2", "crop_size: 24")
        assert np.abs(blue - ramp(50 - 24, 50 + 24, 24)).max() <= 1
        assert np.abs(green - ramp(40 - 24, 40 + 24, 24)[:, np.newaxis]).max() <= 1

    def test_square(self, window_data):
        blue, green, _ = one_window(window_data, (40, 20, 49, 59), 'crop_mode: "square"', "crop_size: 20")
        assert np.abs(blue - ramp(45 - 20, 45 + 20, 20)).max() <= 1
        assert np.abs(green - ramp(40 - 20, 40 + 20, 20)[:, np.newaxis]).max() <= 1

    def test_what_is_outside_is_zero_after_the_mean(self, window_data):
        # The region is -10 .. 50 in both directions; 61 pixels become 61, of which the first 10 are outside.
        transform = "crop_size: 61 mean_value: 1 mean_value: 2 mean_value: 3"
        patch = one_window(window_data, (0, 0, 39, 39), "context_pad: 10", transform)
        assert (patch[:, :10] == 0).all() and (patch[:, :, :10] == 0).all()
        blue, green, red = patch[:, 10:, 10:]
        assert np.abs(blue - (np.arange(51) - 1)).max() <= 1
        assert np.abs(green - (np.arange(51) - 2)[:, np.newaxis]).max() <= 1
        assert (red == RED - 3).all()

    def test_outside_at_right_and_below(self, window_data):
        patch = one_window(window_data, (60, 40, 99, 79), "context_pad: 10", "crop_size: 61")
        assert (patch[:, 50:] == 0).all() and (patch[:, :, 50:] == 0).all()
        assert (patch[2, :50, :50] == RED).all()

    def test_mirror(self, window_data):
        # Outside on the left, so after a flip on the right.
        windows = [(3, 0.9, 0, 20, 39, 59), NOTHING]
        data = "batch_size: 40 fg_fraction: 1 context_pad: 10"
        patches, _ = window_data(*windows, data=data, transform="crop_size: 61 mirror: true")()
        flipped = patches[:, 2, 30, 0] == RED
        assert 5 < flipped.sum() < 35
        assert (patches[flipped] == patches[flipped][0]).all() and (
            patches[~flipped] == patches[~flipped][0]
        ).all()
        np.testing.assert_array_equal(patches[flipped][0], patches[~flipped][0][:, :, ::-1])

    def test_mean_file_is_taken_about_its_middle(self, window_data, folder):
        proto = caffe_pb2.BlobProto()
        mean = np.arange(3 * 14 * 14, dtype=np.float32).reshape(3, 14, 14)
        blob_format.fill_proto(proto, mean)
        binary.write("mean.binaryproto", proto)
        transform = 'crop_size: 10 mean_file: "mean.binaryproto"'
        patch = one_window(window_data, (20, 30, 29, 39), transform=transform)
        np.testing.assert_array_equal(patch[2], RED - mean[2, 2:12, 2:12])

    @pytest.mark.parametrize(
        ("ends", "expected"),
        [
            ((10, 29, 100, 20), (10, 29, 0, 0, 20)),
            ((-5, 14, 100, 20), (0, 14, 5, 0, 15)),
            ((90, 109, 100, 20), (90, 99, 0, 10, 10)),
            ((-10, 109, 100, 24), (0, 99, 2, 2, 20)),
            ((-1, 3, 100, 8), (0, 3, 2, 0, 6)),  # 1.6 and 6.4
        ],
    )
    def test_clipping(self, ends, expected):
        assert fit(*ends) == expected


class TestDrawing:
    @pytest.mark.parametrize(("fraction", "foreground"), [(0, 0), (0.25, 2), (0.3, 3), (0.5, 5), (1, 10)])
    def test_background_before_foreground(self, window_data, fraction, foreground):
        _, label = window_data(OBJECT, NOTHING, data=f"batch_size: 10 fg_fraction: {fraction}")()
        assert label.tolist() == [0] * (10 - foreground) + [3] * foreground

    def test_thresholds(self, window_data):
        windows = [
            (1, 0.8, 0, 0, 9, 9),
            (2, 0.6, 10, 0, 19, 9),
            (3, 0.5, 20, 0, 29, 9),  # between the thresholds: never drawn
            (4, 0.2, 30, 0, 39, 9),
        ]
        data = "batch_size: 100 fg_fraction: 0.5 fg_threshold: 0.6 bg_threshold: 0.5"
        patches, label = window_data(*windows, data=data)()
        first_columns = patches[:, 0, 0, 0]
        assert set(zip(first_columns[:50], label[:50], strict=True)) == {(30, 0)}
        assert set(zip(first_columns[50:], label[50:], strict=True)) == {(0, 1), (10, 2)}

    def test_windows_of_several_pictures_are_drawn_alike(self, window_data):
        Image.new("RGB", (20, 20), (0, 0, 200)).save("blue.png")
        pictures = [("ramp.png", [OBJECT, NOTHING]), ("blue.png", [(7, 1, 0, 0, 9, 9)])]
        patches, label = window_data(pictures=pictures, data="batch_size: 200 fg_fraction: 1")()
        assert 70 < (label == 7).sum() < 130
        assert ((patches[:, 0] == 200).all((1, 2)) == (label == 7)).all()

    def test_seed_decides(self, window_data):
        def labels(seed):
            windows = [(i, 1, 0, 0, 9, 9) for i in range(1, 20)]
            batch = window_data(*windows, NOTHING, data="batch_size: 30 fg_fraction: 1", seed=seed)
            return batch()[1].tolist() + batch()[1].tolist()

        assert labels(1) == labels(1)
        assert labels(1) != labels(2)

    def test_resume(self, window_data):
        windows = [(i, 1, i, 0, i + 9, 9) for i in range(1, 20)]
        options = {"data": "batch_size: 5 fg_fraction: 1", "transform": "crop_size: 10 mirror: true"}
        first = window_data(*windows, NOTHING, **options)
        resumed = window_data(*windows, NOTHING, **options, seed=5)
        for _ in range(3):
            first()
        resumed.layer.set_state(first.layer.get_state())
        for _ in range(4):
            for mine, theirs in zip(resumed(), first(), strict=True):
                np.testing.assert_array_equal(mine, theirs)


def test_cached_pictures_are_not_read_again(window_data, folder):
    batch = window_data(OBJECT, NOTHING, data="batch_size: 4 cache_images: true")
    (folder / "ramp.png").unlink()
    for _ in range(12):
        batch()


def test_root_folder(window_data, folder):
    (folder / "sub").mkdir()
    (folder / "ramp.png").rename(folder / "sub" / "ramp.png")
    window_data(OBJECT, NOTHING, data='batch_size: 4 root_folder: "sub/"')()


def test_log(window_data, capfd):
    window_data(OBJECT, OBJECT, NOTHING, data="batch_size: 4 context_pad: 1")
    log = [line.split("] ", 1)[-1] for line in capfd.readouterr().err.splitlines()]
    assert [line for line in log if not line.startswith("WARNING: Logging before")] == [
        "Window data layer:",
        "  foreground (object) overlap threshold: 0.5",
        "  background (non-object) overlap threshold: 0.5",
        "  foreground sampling fraction: 0.25",
        "  cache_images: 0",
        "  root_folder: ",
        "num: 0 ramp.png 3 80 100 windows to process: 3",
        "Number of images: 1",
        "class 0 has 1 samples",
        "class 3 has 2 samples",
        "Amount of context padding: 1",
        "Crop mode: warp",
        "output data size: 4,3,10,10",
    ]


def test_scale_stands_in_the_layers_own_message(window_data):
    patches, _ = window_data(OBJECT, NOTHING, data="batch_size: 1 fg_fraction: 1 scale: 0.5")()
    assert (patches[0, 2] == RED / 2).all()


class TestRefusals:
    @pytest.mark.parametrize(
        ("windows", "options", "words"),
        [
            ([OBJECT], {}, "windows.txt has no background windows"),
            ([NOTHING], {}, "windows.txt has no foreground windows"),
            ([(0, 0.9, 0, 0, 9, 9), NOTHING], {}, "class of a foreground window .windows.txt, picture 0"),
            ([OBJECT, NOTHING], {"transform": ""}, "crop_size > 0"),
            ([OBJECT, NOTHING], {"data": "context_pad: 5 batch_size: 1"}, "crop_size > 2 . context_pad"),
            (
                [OBJECT, NOTHING],
                {"data": 'crop_mode: "wrap"'},
                "Unknown crop_mode: wrap .known modes: warp, square",
            ),
            ([OBJECT, NOTHING], {"data": ""}, "Positive batch size required"),
            (
                [OBJECT, NOTHING],
                {"data": "batch_size: 1", "transform": "crop_size: 4 mean_value: [1, 2]"},
                "either 1 mean_value",
            ),
        ],
    )
    def test_setup(self, window_data, windows, options, words):
        with pytest.raises(FatalError, match=words):
            window_data(*windows, **options)

    def test_window_outside_of_its_picture(self, window_data):
        batch = window_data((3, 0.9, 90, 0, 100, 9), NOTHING, data="batch_size: 1 fg_fraction: 1")
        with pytest.raises(
            FatalError, match=r"Window \[90, 0, 100, 9\] is not within ramp.png, of width 100"
        ):
            batch()

    def test_damaged_picture(self, window_data, folder):
        (folder / "ramp.png").write_bytes((folder / "ramp.png").read_bytes()[:60])
        batch = window_data(OBJECT, NOTHING, data="batch_size: 1")
        with pytest.raises(FatalError, match="Could not load ramp.png"):
            batch()

    def test_missing_picture(self, window_data, folder):
        (folder / "ramp.png").unlink()
        batch = window_data(OBJECT, NOTHING, data="batch_size: 1")
        with pytest.raises(FatalError, match="Could not load ramp.png"):
            batch()
