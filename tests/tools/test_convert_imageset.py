"""convert_imageset: databases and logs against the recorded ones, and what can go wrong."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

from caffetools.formats import image
from caffetools.glog import FatalError
from caffetools.tools.convert_imageset import Options, convert
from tests.recorded import FORMATS, log_lines, recorded_log, run_tool
from tests.tools.records import datums, pixels, records

# Recorded database, its log, whether its pixels come from a lossy decoder or from resizing.
RUNS = [
    ("set_plain_lmdb", "log_convert_imageset_plain"),
    ("set_resized_lmdb", "log_convert_imageset_resized"),
    ("set_resized_up_lmdb", "log_convert_imageset_resized_up"),
    ("set_gray_lmdb", "log_convert_imageset_gray"),
    ("set_encoded_lmdb", "log_convert_imageset_encoded"),
    ("set_encoded_jpg_lmdb", "log_convert_imageset_encoded_jpg"),
    ("set_encoded_png_lmdb", "log_convert_imageset_encoded_png"),
    ("set_resized_leveldb", "log_convert_imageset_leveldb"),
    ("set_missing_lmdb", "log_convert_imageset_missing"),
]
PATHS = [line.rsplit(" ", 1)[0] for line in (FORMATS / "list.txt").read_text().splitlines()]


@pytest.fixture(autouse=True)
def in_folder_with_pictures(tmp_path, monkeypatch):
    (tmp_path / "images").symlink_to(FORMATS / "images")
    for path in FORMATS.glob("list*.txt"):
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)


def make(list_text, db="db", root="images/", options=None, **others):
    """Convert the pictures of a list given as text, and return the exit status."""
    with open("own.txt", "w", encoding="utf-8", newline="") as file:
        file.write(list_text)
    return convert(root, "own.txt", db, options or Options(), **others)


def assert_like_recorded(mine, theirs):
    assert list(mine) == list(theirs)
    for key, datum in mine.items():
        expected = theirs[key]
        assert (datum.channels, datum.height, datum.width) == (
            expected.channels,
            expected.height,
            expected.width,
        )
        assert (datum.label, datum.encoded) == (expected.label, expected.encoded)
        assert datum.HasField("label") == expected.HasField("label")
        assert datum.HasField("encoded") == expected.HasField("encoded")
        np.testing.assert_allclose(pixels(datum), pixels(expected), rtol=0, atol=1, err_msg=key)


@pytest.mark.parametrize(("database", "log"), RUNS)
def test_databases_and_logs_as_recorded(database, log, tmp_path):
    command, status, _, err = recorded_log(log)
    if database.endswith("leveldb"):
        pytest.importorskip("plyvel")
    backend = database.rsplit("_", 1)[1]
    skips = log.endswith("missing")
    result = run_tool("convert_imageset", *command[1:], *(["--skip_bad"] if skips else []), cwd=tmp_path)
    assert result.returncode == status == 0
    theirs = [line for line in log_lines(err) if "findDecoder" not in line]
    mine = log_lines(result.stderr)
    if skips:
        assert mine.pop() == "W 1 of 3 pictures were skipped: images/not_there.jpg"
        theirs[2] += " (No such file or directory)"
    assert mine == theirs
    assert_like_recorded(datums(database, backend), datums(FORMATS / database, backend))


@pytest.mark.parametrize("database", ["set_plain_lmdb", "set_encoded_lmdb", "set_encoded_jpg_lmdb"])
def test_bytes_of_records_as_recorded(database, tmp_path):
    """What no other decoder or encoder stands between: lossless pictures, copies, JPEGs of the same library."""
    log = next(log for name, log in RUNS if name == database)
    run_tool("convert_imageset", *recorded_log(log)[0][1:], cwd=tmp_path, check=True)
    mine, theirs = records(database), records(FORMATS / database)
    exact = [key for key in theirs if database != "set_plain_lmdb" or not key.endswith(b".jpg")]
    assert len(exact) >= 5
    for key in exact:
        assert mine[key] == theirs[key], key


@pytest.mark.parametrize(("gray", "database"), [(False, "set_kinds_lmdb"), (True, "set_kinds_gray_lmdb")])
def test_pictures_of_every_kind(gray, database):
    assert convert("images/kinds/", "list_kinds.txt", "db", Options(gray=gray)) == 0
    assert_like_recorded(datums("db"), datums(FORMATS / database))


def test_check_size_as_recorded(tmp_path):
    command, status, _, err = recorded_log("log_convert_imageset_check_size")
    result = run_tool("convert_imageset", *command[1:], cwd=tmp_path)
    assert result.returncode == status == 134
    mine, theirs = log_lines(result.stderr), log_lines(err)
    assert mine[:-1] == theirs[:-1]
    assert mine[-1].startswith(theirs[-1])
    assert "images/b.jpg" in mine[-1]
    assert not list(tmp_path.glob("set_check*"))


def test_check_size_looks_into_encoded_pictures():
    convert(
        "images/", "list.txt", "same", Options(check_size=True, encoded=True, resize_width=8, resize_height=8)
    )
    with pytest.raises(FatalError, match=r"data.size\(\) == data_size \(9216 vs. 7200\)"):
        convert("images/", "list.txt", "db", Options(check_size=True, encoded=True))


def test_an_existing_database_as_recorded(tmp_path):
    command, status, _, err = recorded_log("log_convert_imageset_exists")
    shutil.copytree(FORMATS / "set_gray_lmdb", tmp_path / "set_plain_lmdb")
    before = records("set_plain_lmdb")
    result = run_tool("convert_imageset", *command[1:], cwd=tmp_path)
    assert result.returncode == status == 134
    mine, theirs = log_lines(result.stderr), log_lines(err)
    assert mine[:-1] == theirs[:-1]
    assert mine[-1].startswith(theirs[-1])
    assert "--force" in mine[-1]
    assert records("set_plain_lmdb") == before
    run_tool("convert_imageset", "--force", *command[1:], cwd=tmp_path, check=True)
    assert_like_recorded(datums("set_plain_lmdb"), datums(FORMATS / "set_plain_lmdb"))


def test_usage(tmp_path):
    command, status, out, _ = recorded_log("log_convert_imageset_usage")
    result = run_tool("convert_imageset", *command[1:], cwd=tmp_path)
    assert (result.returncode, result.stderr) == (status, "") == (1, "")
    assert "[FLAGS] ROOTFOLDER/ LISTFILE DB_NAME" in out
    assert "[FLAGS] ROOTFOLDER/ LISTFILE DB_NAME" in result.stdout


def test_skipped_pictures_are_an_error_unless_allowed(capfd):
    assert convert("images/", "list_missing.txt", "db", Options()) == 1
    summary = log_lines(capfd.readouterr().err)[-1]
    assert summary.startswith("E 1 of 3 pictures were skipped: images/not_there.jpg. ")
    assert list(datums("db")) == ["00000000_a.png", "00000002_b.jpg"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no picture of a known format"),
        (b"GIF89a what follows is text", "Could not decode datum"),
        ("half of b.jpg", "truncated"),
        ("half of a.png", ""),
        ("bomb", "decompression bomb"),
        ("folder", "Is a directory"),
    ],
)
def test_bad_pictures_are_named_and_skipped(content, reason, tmp_path, capfd):
    pictures = tmp_path / "own"
    pictures.mkdir()
    if content == "folder":
        (pictures / "bad.jpg").mkdir()
    elif content == "bomb":
        (pictures / "bad.jpg").write_bytes(png_of_size(100_000, 100_000))
    else:
        if isinstance(content, str):
            data = (FORMATS / "images" / content.split()[-1]).read_bytes()
            content = data[: len(data) // 2]
        (pictures / "bad.jpg").write_bytes(content)
    shutil.copy(FORMATS / "images" / "a.png", pictures / "good.png")
    assert make("bad.jpg 0\ngood.png 1\n", root=f"{pictures}/") == 1
    errors = [
        line
        for line in log_lines(capfd.readouterr().err)
        if line.startswith("E Could not open or find file ")
    ]
    assert len(errors) == 1
    assert f"{pictures}/bad.jpg" in errors[0] and reason in errors[0]
    assert list(datums("db")) == ["00000001_good.png"]


def png_of_size(width, height):
    """Return a small PNG file that claims to be large."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    end = chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + end


def test_without_any_picture_there_is_no_database(tmp_path):
    with pytest.raises(FatalError, match="None of the 2 pictures of own.txt could be read"):
        make("x 1\ny 2\n")
    assert not list(tmp_path.glob("db*"))


# Order


def test_shuffle_is_repeated_by_its_seed():
    text = "".join(f"{path} {label}\n" for label, path in enumerate(PATHS * 3))
    orders = []
    for db, seed in (("a", 3), ("b", 3), ("c", 4), ("d", -1), ("e", -1)):
        assert make(text, db, shuffle=True, seed=seed) == 0
        found = datums(db)
        assert [key[:9] for key in found] == [f"{i:08d}_" for i in range(len(PATHS) * 3)]
        assert all(PATHS[datum.label % len(PATHS)] == key[9:] for key, datum in found.items())
        orders.append([datum.label for datum in found.values()])
        assert sorted(orders[-1]) == list(range(len(PATHS) * 3)) != orders[-1]
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) == 4


def test_order_and_records_do_not_depend_on_threads(monkeypatch):
    text = "".join(f"{path} {label}\n" for label, path in enumerate(PATHS * 20))
    for threads in ("1", "5"):
        monkeypatch.setenv("NUMBA_NUM_THREADS", threads)
        assert make(text, f"db{threads}", options=Options(resize_width=11, resize_height=13)) == 0
    assert records("db1") == records("db5")
    assert len(records("db1")) == len(PATHS) * 20


def test_progress_is_logged_every_1000_files(capfd):
    assert make("sub/gray.png 1\n" * 2001, options=Options(resize_width=1, resize_height=1)) == 0
    lines = [line for line in log_lines(capfd.readouterr().err) if "Processed" in line]
    assert lines == [f"I Processed {count} files." for count in (1000, 2000, 2001)]


# Encoded pictures


def test_a_jpeg_is_kept_as_jpg_and_other_files_are_encoded():
    shutil.copy("images/b.jpg", "b.JPEG")
    shutil.copy("images/a.png", "a.png")
    assert make("b.JPEG 1\na.png 2\n", root="", options=Options(encode_type="jpg")) == 0
    kept, encoded = datums("db").values()
    assert kept.data == (FORMATS / "images" / "b.jpg").read_bytes()
    assert encoded.data[:3] == b"\xff\xd8\xff"


@pytest.mark.parametrize("kind", ["bmp", "jp2", "png", "ppm", "tiff", "webp", "PNG"])
def test_lossless_types_keep_every_pixel(kind):
    assert make("b.jpg 1\n", options=Options(encode_type=kind)) == 0
    (datum,) = datums("db").values()
    with open("images/b.jpg", "rb") as file:
        np.testing.assert_array_equal(image.decode(datum.data, True), image.decode(file.read(), True))


def test_gray_pictures_are_encoded_with_one_channel():
    assert make("b.jpg 1\n", options=Options(encode_type="png", gray=True)) == 0
    (datum,) = datums("db").values()
    assert image.decode(datum.data).shape == (1, 64, 48)


def test_unknown_types(tmp_path, capfd):
    with pytest.raises(FatalError, match="encoded as 'gif'.*known: bmp, jp2"):
        make("a.png 1\n", options=Options(encode_type="gif"))
    shutil.copy("images/a.png", "noextension")
    shutil.copy("images/a.png", "picture.xyz")
    options = Options(encoded=True, resize_width=4, resize_height=4)
    assert make("noextension 1\npicture.xyz 2\nimages/a.png 3\n", root="", options=options) == 1
    first, second = [line for line in log_lines(capfd.readouterr().err) if line.startswith("E Could")]
    assert "noextension (its name has no extension" in first
    assert "picture.xyz (Pictures cannot be encoded as 'xyz'" in second


# Mistakes


def test_a_missing_slash_is_seen(tmp_path):
    with pytest.raises(FatalError, match="ROOTFOLDER needs a slash at its end: 'images/'"):
        convert("images", "list.txt", "db", Options())
    assert not (tmp_path / "db").exists()


def test_a_root_may_be_the_beginning_of_a_name():
    assert make("ages/a.png 1\n", root="im") == 0
    assert list(datums("db")) == ["00000000_ages/a.png"]


def test_the_value_of_a_boolean_behind_a_blank(tmp_path):
    result = run_tool("convert_imageset", "--shuffle", "true", "images/", "list.txt", "db", cwd=tmp_path)
    assert result.returncode == 134
    assert "--shuffle=true" in result.stderr


@pytest.mark.parametrize("backend", ["hdf5", ""])
def test_an_unknown_backend(backend):
    with pytest.raises(FatalError, match="Unknown database backend"):
        make("a.png 1\n", backend=backend)


def test_a_key_that_is_too_long_for_lmdb(tmp_path):
    folder = tmp_path / ("x" * 250) / ("y" * 250)
    folder.mkdir(parents=True)
    shutil.copy(FORMATS / "images" / "a.png", folder)
    with pytest.raises(FatalError, match="LMDB takes keys of 1 to 511 bytes"):
        make(f"{'x' * 250}/{'y' * 250}/a.png 1\n", root=f"{tmp_path}/")
    assert not (tmp_path / "db").exists()


def test_a_killed_run_leaves_no_database(tmp_path):
    import signal
    import subprocess
    import sys
    import time

    from tests.recorded import tool_environment

    (tmp_path / "own.txt").write_text("d.png 1\n" * 20000)
    command = [
        sys.executable,
        "-m",
        "caffetools.cli.convert_imageset",
        "--resize_width=256",
        "--resize_height=256",
    ]
    process = subprocess.Popen([*command, "images/", "own.txt", "db"], cwd=tmp_path, env=tool_environment())
    deadline = time.monotonic() + 60
    while not (tmp_path / "db.partial").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "db").exists()
    assert make("a.png 1\n") == 0
    assert not (tmp_path / "db.partial").exists()
    assert len(records("db")) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_write_protected(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    with pytest.raises(FatalError, match="mkdir locked/db failed .Permission denied."):
        make("a.png 1\n", "locked/db")


def test_paths_that_are_not_utf8(tmp_path):
    name = b"caf\xe9.png"
    shutil.copy(FORMATS / "images" / "a.png", os.path.join(os.fsencode(tmp_path), name))
    (tmp_path / "own.txt").write_bytes(name + b" 1\n")
    assert convert("", "own.txt", "db", Options()) == 0
    assert list(records("db")) == [b"00000000_" + name]
