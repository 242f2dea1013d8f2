"""Fetching an archive from folders and from a web server on this machine; it is made for the test."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest

from caffetools.glog import FatalError
from caffetools.tools import get_cifar10, get_ilsvrc_aux
from caffetools.tools.archive import fetch as fetch_archive
from tests.tools.mirror import Mirror

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(1)
BATCHES = tuple(get_cifar10.ARCHIVE.files)
CONTENTS = {name: RNG.bytes(40_000) for name in BATCHES} | {"batches.meta.txt": b"airplane\nautomobile\n"}


def pack(contents):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in contents.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


PACKED = pack(CONTENTS)
SMALL = get_cifar10.ARCHIVE._replace(
    md5=hashlib.md5(PACKED).hexdigest(), files=dict.fromkeys(BATCHES, 40_000)
)


@pytest.fixture
def mirror():
    with Mirror({f"/{SMALL.name}": PACKED}) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.over.set()
        server.shutdown()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("CIFAR10_DIR", raising=False)


def fetch(folder, *mirrors, archive=SMALL):
    fetch_archive(archive, folder, mirrors, timeout=5.0)


def assert_complete(folder):
    assert {path.name: path.read_bytes() for path in Path(folder).iterdir()} == CONTENTS


def test_download_into_a_new_folder(tmp_path, mirror):
    fetch(tmp_path / "a", mirror.url)
    assert_complete(tmp_path / "a")
    fetch(tmp_path / "a", mirror.url)
    assert len(mirror.requests) == 1  # what is there is not fetched again


def test_a_broken_connection_is_taken_up_again(tmp_path, mirror):
    mirror.faults = [100_000, 0]
    with pytest.raises(FatalError, match="the connection broke after 100000 of"):
        fetch(tmp_path, mirror.url)
    fetch(tmp_path, mirror.url)
    assert mirror.requests[-1] == (f"/{SMALL.name}", "bytes=100000-")
    assert_complete(tmp_path)


def test_a_wrong_beginning_is_thrown_away(tmp_path, mirror):
    (tmp_path / f"{SMALL.name}.part").write_bytes(b"<html>" * 1000)
    fetch(tmp_path, mirror.url)
    assert_complete(tmp_path)


@pytest.mark.parametrize("what", ["archive", "batches", "folder of batches"])
def test_files_that_are_there(what, tmp_path, monkeypatch):
    source = tmp_path / "source"
    monkeypatch.setenv("CIFAR10_DIR", str(source))
    if what == "archive":
        source.mkdir()
        (source / SMALL.name).write_bytes(PACKED)
    else:
        place = source if what == "batches" else source / "cifar-10-batches-bin"
        place.mkdir(parents=True)
        for name in BATCHES:
            (place / name).write_bytes(CONTENTS[name])
    fetch(tmp_path / "out")
    for name in BATCHES:
        assert (tmp_path / "out" / name).read_bytes() == CONTENTS[name]


def test_an_archive_in_the_folder_itself(tmp_path):
    (tmp_path / SMALL.name).write_bytes(PACKED)
    fetch(tmp_path)
    assert (tmp_path / "test_batch.bin").read_bytes() == CONTENTS["test_batch.bin"]


def test_a_batch_of_another_size_is_replaced(tmp_path, mirror):
    for name in BATCHES:
        (tmp_path / name).write_bytes(CONTENTS[name])
    (tmp_path / "test_batch.bin").write_bytes(b"half")
    fetch(tmp_path, mirror.url)
    assert_complete(tmp_path)


def test_the_next_mirror_is_tried(tmp_path, mirror):
    with Mirror({f"/{SMALL.name}": b"<html>log in first</html>"}) as bad:
        threading.Thread(target=bad.serve_forever, args=(0.01,), daemon=True).start()
        fetch(tmp_path, bad.url, mirror.url)
        bad.shutdown()
    assert_complete(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("cut", "cannot unpack cifar-10-binary.tar.gz"),
        ("no test batch", "cifar-10-binary.tar.gz has no test_batch.bin"),
    ],
)
def test_an_archive_that_cannot_be_unpacked(damage, message, tmp_path):
    packed = PACKED[:-5000] if damage == "cut" else pack({n: d for n, d in CONTENTS.items() if n[0] != "t"})
    (tmp_path / SMALL.name).write_bytes(packed)
    with pytest.raises(FatalError, match=message):
        fetch(tmp_path, archive=SMALL._replace(md5=hashlib.md5(packed).hexdigest()))
    assert not (tmp_path / "test_batch.bin").exists()


def test_the_error_lists_what_was_tried(tmp_path, mirror, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / SMALL.name).write_bytes(b"no archive")
    monkeypatch.setenv("CIFAR10_DIR", str(tmp_path / "elsewhere"))
    mirror.files = {}
    with pytest.raises(FatalError) as caught:
        fetch(tmp_path / "out", mirror.url)
    first, *tried, last = str(caught.value).splitlines()
    assert first == "Cannot get CIFAR-10. Tried:"
    reasons = [
        "out: there are neither data_batch_1.bin, data_batch_2.bin, ",
        "elsewhere: cifar-10-binary.tar.gz has the MD5 sum",
        f"{mirror.url}: HTTP status 404",
    ]
    for line, reason in zip(tried, reasons, strict=True):
        assert reason in line
    assert "CIFAR10_DIR=folder" in last


def test_an_archive_without_a_known_sum_is_never_continued(tmp_path, mirror):
    """The beginning may be of another file: what was there counts for nothing."""
    (tmp_path / f"{SMALL.name}.part").write_bytes(PACKED[:1000])
    fetch(tmp_path, mirror.url, archive=SMALL._replace(md5=""))
    assert_complete(tmp_path)


@pytest.mark.parametrize("module", [get_cifar10, get_ilsvrc_aux])
def test_archives_of_the_scripts(module, tmp_path, monkeypatch):
    """Each script's main takes files of the right sizes from where the environment says."""
    archive = module.ARCHIVE
    monkeypatch.setenv(archive.variable, str(tmp_path / "mine"))
    (tmp_path / "mine").mkdir()
    for name, size in archive.files.items():
        with open(tmp_path / "mine" / name, "wb") as file:
            file.truncate(size or 10)
    module.main([str(tmp_path / "out")])
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(archive.files)
    with pytest.raises(SystemExit, match="one folder at most"):
        module.main(["a", "b"])


@pytest.mark.parametrize(
    ("data", "module"),
    [("cifar10/get_cifar10.sh", get_cifar10), ("ilsvrc12/get_ilsvrc_aux.sh", get_ilsvrc_aux)],
)
def test_scripts(data, module, tmp_path):
    """The scripts find the checkout's Python and a folder given relative to where the user is."""
    script = tmp_path / "checkout" / "data" / data
    script.parent.mkdir(parents=True)
    for path in (script, script.parents[1] / "python.sh"):
        path.write_bytes((ROOT / path.relative_to(tmp_path / "checkout")).read_bytes())
    (tmp_path / "checkout" / "caffetools").symlink_to(ROOT / "caffetools")
    (tmp_path / "mine").mkdir()
    for name, size in module.ARCHIVE.files.items():
        with open(tmp_path / "mine" / name, "wb") as file:
            file.truncate(size)
    env = os.environ | {module.ARCHIVE.variable: "mine", "PYTHON": sys.executable}
    command = ["sh", script]
    result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert {path.name for path in script.parent.iterdir()} == {*module.ARCHIVE.files, script.name}
