"""Data against the original's batches, and in what is new here: exact resume, errors that name a record."""

from __future__ import annotations

import io
import json
import re
import threading

import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image

from caffetools.blob import Blob
from caffetools.engine.cpu.rng import RandomSource
from caffetools.formats.db import open_db
from caffetools.glog import FatalError
from caffetools.layer import TEST, TRAIN, Context
from caffetools.layers.data import DataLayer
from caffetools.proto import caffe_pb2
from tests.layers.recorded_batches import check_recorded_batches
from tests.recorded import FORMATS, GOLDEN, log_lines

RECORDINGS = sorted(path.stem for path in (GOLDEN / "data_layers").glob("data_*.npz"))
RANDOM = np.random.default_rng(11)
PICTURES = RANDOM.integers(0, 256, (10, 3, 9, 12), np.uint8)
LABELS = [3, 1, 4, 1, 5, 9, 2, 6, -5, 300]


@pytest.mark.parametrize("name", RECORDINGS)
def test_recorded_batches(name, monkeypatch):
    if "leveldb" in name:
        pytest.importorskip("plyvel")
    check_recorded_batches(name, monkeypatch)


def plain(i, picture) -> caffe_pb2.Datum:
    channels, height, width = picture.shape
    return caffe_pb2.Datum(
        channels=channels, height=height, width=width, data=picture.tobytes(), label=LABELS[i % 10]
    )


def floats(i, picture) -> caffe_pb2.Datum:
    datum = plain(i, picture)
    datum.ClearField("data")
    datum.float_data.extend(picture.ravel() / 4 - 20)
    return datum


def png(i, picture) -> caffe_pb2.Datum:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0)[:, :, ::-1])).save(file, "PNG")
    return caffe_pb2.Datum(data=file.getvalue(), encoded=True, label=LABELS[i % 10])


@pytest.fixture
def database(tmp_path):
    """Makes databases; returns the part of a layer that reads one."""

    def make(records, backend="lmdb"):
        path = tmp_path / f"db{len(list(tmp_path.iterdir()))}"
        with open_db(backend, path, "new") as db:
            for i, record in enumerate(records):
                db.put(b"key%03d" % i, record if isinstance(record, bytes) else record.SerializeToString())
        return f'source: "{path}" backend: {backend.upper()}'

    return make


@pytest.fixture
def start():
    """Makes layers that are set up, with `next()` for their next batch, and closes them at the end."""
    made = []

    def make(data, transform="", phase=TEST, tops=2, seed=1, rank=0, ranks=1, dtype=np.float32):
        param = caffe_pb2.LayerParameter(name="d", type="Data")
        text_format.Parse(f"data_param {{ {data} }} transform_param {{ {transform} }}", param)
        context = Context(phase, np.dtype(dtype), RandomSource(seed), rank, ranks)
        layer = DataLayer(param, context)
        made.append(layer)
        top = [Blob((), dtype) for _ in range(tops)]
        layer.check_blob_counts([], top)
        layer.setup([], top)
        layer.reshape([], top)
        layer.top = top

        def following():
            layer.forward([], top)
            return [blob.data.copy() for blob in top]

        layer.next = following
        return layer

    yield make
    for layer in made:
        layer.close()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch d")]


def batches(layer, count):
    return [layer.next() for _ in range(count)]


def assert_same(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("backend", ["lmdb", "leveldb"])
@pytest.mark.parametrize("batch_size", [1, 4, 10, 23])
def test_records_in_the_order_of_their_keys_over_and_over(batch_size, backend, database, start):
    if backend == "leveldb":
        pytest.importorskip("plyvel")
    layer = start(database(map(plain, range(10), PICTURES), backend) + f" batch_size: {batch_size}")
    for k in range(6):
        data, labels = layer.next()
        numbers = np.arange(k * batch_size, (k + 1) * batch_size) % 10
        np.testing.assert_array_equal(data, PICTURES[numbers])
        np.testing.assert_array_equal(labels, np.array(LABELS)[numbers])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("tops", [1, 2])
def test_tops(tops, dtype, database, start):
    layer = start(database(map(plain, range(10), PICTURES)) + " batch_size: 4", tops=tops, dtype=dtype)
    shapes = [(4, 3, 9, 12), (4,)][:tops]
    assert [blob.shape for blob in layer.top] == shapes  # known before the first batch: other layers ask
    assert [(values.shape, values.dtype) for values in layer.next()] == [(shape, dtype) for shape in shapes]


def test_plain_float_and_encoded_records_in_one_batch(database, start):
    kinds = [plain, floats, png, png, floats, plain, plain, png, floats, floats]
    records = [kind(i, picture) for i, (kind, picture) in enumerate(zip(kinds, PICTURES, strict=True))]
    data, _ = start(database(records) + " batch_size: 10", "scale: 2 mean_value: 7").next()
    values = [p / 4 - 20 if kind is floats else p for kind, p in zip(kinds, PICTURES, strict=True)]
    np.testing.assert_array_equal(data, (np.array(values, np.float32) - 7) * 2)


def test_large_pictures_are_transformed_a_few_at_a_time(database, start):
    pictures = RANDOM.integers(0, 256, (5, 3, 150, 90), np.uint8)
    data, _ = start(database(map(plain, range(5), pictures)) + " batch_size: 5", "mirror: true").next()
    for found, picture in zip(data, pictures, strict=True):
        assert np.array_equal(found, picture) or np.array_equal(found, picture[:, :, ::-1])


def test_sizes_that_differ(database, start):
    pictures = [PICTURES[0], PICTURES[1, :, 1:], PICTURES[2, :, :, 2:]]
    source = database(map(plain, range(3), pictures))
    single = start(source + " batch_size: 1")
    assert [single.next()[0].shape for _ in range(3)] == [(1, *picture.shape) for picture in pictures]
    cropped = start(source + " batch_size: 3", "crop_size: 4").next()[0]
    for found, picture in zip(cropped, pictures, strict=True):
        top, left = (picture.shape[1] - 4) // 2, (picture.shape[2] - 4) // 2
        np.testing.assert_array_equal(found, picture[:, top : top + 4, left : left + 4])


AUGMENTED = "crop_size: 5 mirror: true scale: 0.5"


@pytest.mark.parametrize("kind", [plain, png])
def test_neither_prefetch_nor_threads_change_a_batch(kind, database, start, monkeypatch):
    source = database(map(kind, range(10), PICTURES)) + " batch_size: 3"
    expected = batches(start(source + " prefetch: 1", AUGMENTED, TRAIN), 12)
    for prefetch, processors in ((2, 1), (4, 2), (7, 5)):
        monkeypatch.setattr("caffetools.samples.prefetch.processors", lambda n=processors: n)
        layer = start(source + f" prefetch: {prefetch}", AUGMENTED, TRAIN)
        assert layer.threads == (processors if kind is png else 1)
        assert_same(batches(layer, 12), expected)


@pytest.mark.parametrize("kind", [plain, png])
@pytest.mark.parametrize("done", [0, 1, 3, 11])
def test_resume_is_exact(done, kind, database, start):
    source = database(map(kind, range(10), PICTURES)) + " batch_size: 3"
    layer = start(source, AUGMENTED, TRAIN, seed=1)
    batches(layer, done)
    state = json.loads(json.dumps(layer.get_state()))
    expected = batches(layer, 8)
    other = start(source, AUGMENTED, TRAIN, seed=2)
    batches(other, 5)
    other.set_state(state)
    assert_same(batches(other, 8), expected)
    assert other.get_state() == layer.get_state()


def test_a_state_of_another_database_is_refused(database, start):
    state = start(database(map(plain, range(10), PICTURES)) + " batch_size: 3").get_state()
    layer = start(database(map(plain, range(10), PICTURES)) + " batch_size: 3")
    with pytest.raises(FatalError, match="Cannot resume at record 'key777': .* is another database now"):
        layer.set_state({**state, "record": "key777"})


def test_other_seeds_draw_other_crops(database, start):
    source = database(map(plain, range(10), PICTURES)) + " batch_size: 10"
    first, again, other = (start(source, AUGMENTED, TRAIN, seed=seed).next()[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("ranks", [2, 3, 10, 17])
def test_processes_share_the_records_in_training(ranks, database, start):
    """Together the processes see what one alone sees, with the same crops."""
    source = database(map(plain, range(10), PICTURES)) + " batch_size: "
    data, labels = start(source + f"{2 * ranks}", AUGMENTED, TRAIN).next()
    for rank in range(ranks):
        mine, my_labels = start(source + "2", AUGMENTED, TRAIN, rank=rank, ranks=ranks).next()
        np.testing.assert_array_equal(mine, data[rank::ranks])
        np.testing.assert_array_equal(my_labels, labels[rank::ranks])


def test_tests_see_all_records_on_every_process(database, start):
    source = database(map(plain, range(10), PICTURES)) + " batch_size: 6"
    assert_same(batches(start(source, rank=1, ranks=3), 3), batches(start(source), 3))


def test_log_of_setup_is_the_recorded_one(start, capfd, monkeypatch):
    monkeypatch.chdir(FORMATS)
    start('source: "mnist_t10k_lmdb" backend: LMDB batch_size: 8', "scale: 0.00390625")
    lines = log_lines(capfd.readouterr().err)
    recorded = log_lines((FORMATS / "log_train.txt").read_text())
    expected = [line for line in recorded if line.startswith(("I Opened lmdb", "I output data size"))]
    assert [line for line in lines if line.startswith("I ")] == expected[2:]


def test_restarts_are_logged_by_the_thread_that_reads(database, start, capfd):
    layer = start(database(map(plain, range(10), PICTURES)) + " batch_size: 5 prefetch: 1")
    batches(layer, 4)
    layer.close()
    pattern = r"^I\d{4} .* +(\d+) data\.py:\d+\] Restarting data prefetching from start\.$"
    threads = re.findall(pattern, capfd.readouterr().err, re.M)
    assert len(threads) in (2, 3)  # 4 batches were taken, and up to 2 more made ready
    assert len(set(threads)) == 1
    assert threads[0] != str(threading.get_native_id())


def test_only_the_first_process_logs_restarts(database, start, capfd):
    source = database(map(plain, range(10), PICTURES)) + " batch_size: 5"
    batches(start(source, phase=TRAIN, rank=1, ranks=2), 4)
    assert "Restarting" not in capfd.readouterr().err


def test_raw_records_keep_their_channels(database, start):
    source = database(map(plain, range(10), PICTURES)) + " batch_size: 10"
    with pytest.raises(FatalError, match=r"force_gray } would have no effect: .*only for encoded.*layer 'd'"):
        start(source, "force_gray: true")
    np.testing.assert_array_equal(start(source, "force_color: true").next()[0], PICTURES)


def damaged(change) -> list:
    """Ten records, of which number 7 is changed."""
    records = [plain(i, picture) for i, picture in enumerate(PICTURES)]
    records[7] = change(records[7])
    return records


def with_fields(**fields):
    def change(datum):
        for name, value in fields.items():
            setattr(datum, name, value)
        return datum

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda datum: b"\x22\xff\x01" + b"x" * 20, "The value is no Datum, or is damaged"),
        (lambda datum: datum.SerializeToString()[:-30], "The value is no Datum, or is damaged"),
        (with_fields(height=10), "Incorrect data field size 324"),
        (with_fields(channels=0), "Incorrect data field size 324"),
        (with_fields(data=b""), "Incorrect data field size 0"),
        (with_fields(channels=1, height=27), r"channels == datum_channels \(3 vs. 1\)"),
        (with_fields(height=12, width=9), r"width <= datum_width \(12 vs. 9\) \(pictures of different sizes"),
        (with_fields(encoded=True), "Could not decode datum"),
    ],
)
def test_a_bad_record_is_named_after_the_batches_before_it(change, reason, database, start):
    source = database(damaged(change))
    layer = start(source + " batch_size: 2")
    assert_same([batch[:1] for batch in batches(layer, 3)], [[PICTURES[i : i + 2]] for i in (0, 2, 4)])
    path = re.search('source: "(.*?)"', source)[1]
    with pytest.raises(FatalError, match=f"{reason}.* \\(record 'key007' of {re.escape(path)}\\)$"):
        layer.next()


@pytest.mark.parametrize(
    ("record", "transform", "reason"),
    [
        (b"\xff", "", r"The value is no Datum.*\(record 'key000' of"),
        (plain(0, PICTURES[0]), "crop_size: 10", r"datum_height >= crop_size \(9 vs. 10\).*'key000' of"),
        (png(0, PICTURES[0]), "crop_size: 10", r"img_height >= crop_size \(9 vs. 10\).*'key000' of"),
    ],
)
def test_a_first_record_that_will_not_do(record, transform, reason, database, start):
    with pytest.raises(FatalError, match=reason):
        start(database([record]) + " batch_size: 1", transform)


def test_a_mean_of_another_size(database, start, monkeypatch):
    monkeypatch.chdir(FORMATS)
    layer = start(database([plain(0, PICTURES[0])]) + " batch_size: 1", 'mean_file: "mnist_mean.binaryproto"')
    with pytest.raises(FatalError, match=r"datum_channels == data_mean_.channels\(\) \(3 vs. 1\).*key000"):
        layer.next()


@pytest.mark.parametrize("backend", ["lmdb", "leveldb"])
def test_a_damaged_file_is_named(backend, database, start):
    if backend == "leveldb":
        pytest.importorskip("plyvel")
    pictures = np.random.default_rng(3).integers(0, 256, (2000, 1, 20, 20), np.uint8)
    source = database(map(plain, range(2000), pictures), backend) + " batch_size: 10"
    path = re.search('source: "(.*?)"', source)[1]
    largest = max((FORMATS / path).iterdir(), key=lambda file: file.stat().st_size)
    contents = bytearray(largest.read_bytes())
    contents[len(contents) // 2 : len(contents) // 2 + 20000] = b"\xff" * 20000
    largest.write_bytes(contents)
    layer = start(source)
    with pytest.raises(FatalError, match=f"Cannot read .*\\(after record 'key\\d+' of {re.escape(path)}\\)"):
        batches(layer, 200)


def test_an_empty_database(database, start):
    with pytest.raises(FatalError, match="has no records"):
        start(database([]) + " batch_size: 1")


@pytest.mark.parametrize("setting", ["batch_size: 0", "batch_size: 1 prefetch: 0"])
def test_numbers_that_must_be_positive(setting, database, start):
    with pytest.raises(FatalError, match=r"Check failed: \w+ > 0 \(0 vs. 0\) \(layer 'd'\)"):
        start(database([plain(0, PICTURES[0])]) + f" {setting}")


def test_a_missing_database(start):
    with pytest.raises(FatalError, match="nowhere"):
        start('source: "nowhere" backend: LMDB batch_size: 1')


def test_waiting_is_counted(database, start):
    layer = start(database(map(plain, range(10), PICTURES)) + " batch_size: 500 prefetch: 1")
    batches(layer, 20)
    assert layer.prefetcher.waits > 0
    assert layer.prefetcher.waited_seconds > 0
