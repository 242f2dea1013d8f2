"""ImageData: recorded batches, the list, orders, sizes and colours, resuming, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image

from caffetools.blob import Blob
from caffetools.engine.cpu.rng import RandomSource
from caffetools.glog import FatalError
from caffetools.layer import TEST, TRAIN, Context
from caffetools.layers import layer_class
from caffetools.layers.image_data import read_list
from caffetools.proto import caffe_pb2
from tests.layers.recorded_batches import check_recorded_batches


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current directory, with 7 pictures of one colour each; their blue values are their labels."""
    monkeypatch.chdir(tmp_path)
    for i in range(7):
        Image.new("RGB", (5, 4), (200, 100, i)).save(f"{i}.png")
    (tmp_path / "list.txt").write_text("".join(f"{i}.png {i}\n" for i in range(7)))
    return tmp_path


@pytest.fixture
def image_data(folder):
    """Return a function that makes a layer and its tops; its threads are stopped at the end."""
    layers = []

    def make(data='source: "list.txt" batch_size: 3', transform="", phase=TRAIN, seed=1, rank=0, ranks=1):
        text = f'name: "d" type: "ImageData" image_data_param {{ {data} }} transform_param {{ {transform} }}'
        context = Context(phase=phase, random=RandomSource(seed), rank=rank, ranks=ranks)
        layer = layer_class("ImageData")(text_format.Parse(text, caffe_pb2.LayerParameter()), context)
        layers.append(layer)
        top = [Blob(), Blob()]
        layer.setup([], top)
        return Reader(layer, top)

    yield make
    for layer in layers:
        layer.close()


class Reader:
    def __init__(self, layer, top):
        self.layer = layer
        self.top = top

    def batch(self):
        self.layer.forward([], self.top)
        return [blob.data.copy() for blob in self.top]

    def labels(self, batches=1):
        """Return the labels of the next batches, having seen that the pictures belong to them."""
        labels = []
        for _ in range(batches):
            data, label = self.batch()
            assert (data[:, 0] == label[:, np.newaxis, np.newaxis]).all()
            labels += label.astype(int).tolist()
        return labels


@pytest.mark.parametrize(("name", "tolerance"), [("image_data", 1), ("image_data_root", 0)])
def test_recording(name, tolerance, monkeypatch):
    # A grey level for JPEG decoders, which may differ by one; lossless pictures are equal.
    check_recorded_batches(name, monkeypatch, tolerance)


def test_list_order_and_shapes(image_data):
    reader = image_data()
    assert [blob.shape for blob in reader.top] == [(3, 3, 4, 5), (3,)]
    assert reader.labels(4) == [0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4]


def test_channels_are_blue_green_red(image_data):
    assert image_data().batch()[0][1, :, 0, 0].tolist() == [1, 100, 200]


def test_gray(image_data):
    data, _ = image_data('source: "list.txt" batch_size: 1 is_color: false').batch()
    assert data.shape == (1, 1, 4, 5)
    assert np.unique(data) == round(0.299 * 200 + 0.587 * 100)


def test_new_size(image_data):
    assert image_data('source: "list.txt" new_height: 6 new_width: 2').batch()[0].shape == (1, 3, 6, 2)


def test_batch_has_the_shape_of_its_first_picture(image_data):
    Image.new("RGB", (9, 2)).save("1.png")
    reader = image_data('source: "list.txt"')
    assert [reader.batch()[0].shape for _ in range(3)] == [(1, 3, 4, 5), (1, 3, 2, 9), (1, 3, 4, 5)]


def test_transform(image_data):
    data, _ = image_data(transform="mean_value: 100 scale: 0.5 crop_size: 2").batch()
    assert data.shape == (3, 3, 2, 2)
    assert data[2, :, 0, 0].tolist() == [-49, 0, 50]


class TestOrder:
    SHUFFLED = 'source: "list.txt" batch_size: 7 shuffle: true'

    def test_every_pass_has_every_picture_once_in_another_order(self, image_data):
        reader = image_data(self.SHUFFLED)
        orders = [reader.labels() for _ in range(5)]
        assert all(sorted(order) == list(range(7)) for order in orders)
        assert len({tuple(order) for order in orders}) == 5

    def test_seed_decides(self, image_data):
        assert image_data(self.SHUFFLED).labels(2) == image_data(self.SHUFFLED).labels(2)
        assert image_data(self.SHUFFLED).labels(2) != image_data(self.SHUFFLED, seed=2).labels(2)

    def test_rand_skip(self, image_data):
        starts = set()
        for seed in range(30):
            labels = image_data('source: "list.txt" rand_skip: 5', seed=seed).labels(9)
            starts.add(labels[0])
            assert labels == [(labels[0] + i) % 7 for i in range(9)]
        assert starts == set(range(5))

    def test_rand_skip_beyond_the_list(self, image_data):
        with pytest.raises(FatalError, match="Not enough points to skip"):
            for seed in range(20):
                image_data('source: "list.txt" rand_skip: 1000', seed=seed)

    @pytest.mark.parametrize(
        "data", [SHUFFLED.replace("7", "3"), 'source: "list.txt" batch_size: 2 rand_skip: 4']
    )
    @pytest.mark.parametrize("before", [0, 1, 4])
    def test_resume(self, image_data, data, before):
        transform = "crop_size: 2 mirror: true"
        first, resumed = image_data(data, transform), image_data(data, transform, seed=9)
        first.labels(before)
        resumed.labels(2)
        resumed.layer.set_state(first.layer.get_state())
        for _ in range(6):
            for mine, theirs in zip(resumed.batch(), first.batch(), strict=True):
                np.testing.assert_array_equal(mine, theirs)


class TestList:
    @pytest.mark.parametrize(
        ("text", "lines"),
        [
            ("a.png 3\n", [("a.png", 3)]),
            ("a b/c d.png 3", [("a b/c d.png", 3)]),
            ("a.png 3\r\nb.png 4\r\n", [("a.png", 3), ("b.png", 4)]),
            ("a.png   3\n\n\n", [("a.png", 3)]),
            ("a.png -1\n", [("a.png", -1)]),
            ("a.png\n", [("a.png", 0)]),
        ],
    )
    def test_lines(self, tmp_path, text, lines):
        (tmp_path / "list.txt").write_bytes(text.encode())
        assert read_list(str(tmp_path / "list.txt")) == lines

    @pytest.mark.parametrize("label", ["1.5", "cat", "1,2"])
    def test_label_is_no_number(self, tmp_path, label):
        (tmp_path / "list.txt").write_text(f"a.png 1\nb.png {label}\n")
        with pytest.raises(FatalError, match=f"list.txt, line 2: the label .* but '{label}'"):
            read_list(str(tmp_path / "list.txt"))

    @pytest.mark.parametrize("text", ["", "\n \n"])
    def test_empty(self, tmp_path, text):
        (tmp_path / "list.txt").write_text(text)
        with pytest.raises(FatalError, match="File is empty: .*list.txt"):
            read_list(str(tmp_path / "list.txt"))

    def test_missing(self, tmp_path):
        with pytest.raises(FatalError, match="Failed to open source file: .*none.txt"):
            read_list(str(tmp_path / "none.txt"))


class TestRefusals:
    def test_first_picture_is_missing(self, image_data, folder):
        (folder / "0.png").unlink()
        with pytest.raises(FatalError, match="Could not load ./0.png"):
            image_data('source: "list.txt" root_folder: "./"')

    def test_later_picture_is_missing(self, image_data, folder):
        (folder / "4.png").unlink()
        reader = image_data()
        reader.batch()
        with pytest.raises(FatalError, match="Could not load 4.png"):
            reader.batch()

    def test_no_picture(self, image_data, folder):
        (folder / "0.png").write_text("something else")
        with pytest.raises(FatalError, match="Could not load 0.png"):
            image_data()

    def test_later_picture_is_damaged(self, image_data, folder):
        (folder / "4.png").write_bytes((folder / "4.png").read_bytes()[:50])
        reader = image_data()
        reader.batch()
        with pytest.raises(FatalError, match="Could not load 4.png"):
            reader.batch()

    @pytest.mark.parametrize(("number", "batches"), [(0, 0), (3, 1)])
    def test_picture_at_the_start_of_a_batch_is_too_small(self, number, batches, image_data):
        Image.new("RGB", (3, 3)).save(f"{number}.png")
        with pytest.raises(FatalError, match=rf"img_height >= crop_size .*\(picture {number}.png\)"):
            reader = image_data(transform="crop_size: 4")
            for _ in range(batches + 1):
                reader.batch()

    def test_sizes_differ(self, image_data):
        Image.new("RGB", (9, 2)).save("1.png")
        with pytest.raises(FatalError, match=r"height .*\(picture 1.png\)"):
            image_data().batch()

    @pytest.mark.parametrize("size", ["new_height: 3", "new_width: 3"])
    def test_one_of_two_sizes(self, image_data, size):
        with pytest.raises(FatalError, match="new_height and new_width to be set at the same time"):
            image_data(f'source: "list.txt" {size}')

    def test_batch_size_zero(self, image_data):
        with pytest.raises(FatalError, match="Positive batch size required"):
            image_data('source: "list.txt" batch_size: 0')

    def test_crop_larger_than_the_picture(self, image_data):
        with pytest.raises(FatalError, match="img_height >= crop_size"):
            image_data(transform="crop_size: 5")

    @pytest.mark.parametrize(("transform", "other"), [("force_gray", "true"), ("force_color", "false")])
    def test_colour_is_told_by_the_layers_own_message(self, image_data, transform, other):
        with pytest.raises(FatalError, match=rf"{transform} }} would have no effect: .*is_color: {other}"):
            image_data(f'source: "list.txt" is_color: {other}', transform=f"{transform}: true", phase=TEST)
        same = "false" if other == "true" else "true"
        image_data(f'source: "list.txt" is_color: {same}', transform=f"{transform}: true", phase=TEST)


@pytest.mark.parametrize(
    ("data", "rank", "warned"),
    [("", 0, True), ("", 1, False), ("shuffle: true", 0, False), ("rand_skip: 1", 0, False)],
)
def test_processes_that_train_together_should_differ(image_data, capfd, data, rank, warned):
    """One of them says so."""
    image_data(f'source: "list.txt" {data}', rank=rank, ranks=2)
    assert ("Shuffling or skipping recommended for multi-GPU" in capfd.readouterr().err) == warned
