"""Databases of both backends: the recorded ones, written again, broken, read-only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from caffetools.formats.db import lmdb as lmdb_module
from caffetools.formats.db import open_db
from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2

from .conftest import FORMATS
from .databases import RECORDED, RECORDS, build, contents, everything, failure, other

lmdb = pytest.importorskip("lmdb")
ROOT = Path(__file__).parents[2]


# ---- reading and writing -----------------------------------------------------------------------------------


def test_recorded_lmdb_as_a_library_of_its_own_reads_it():
    with lmdb.open(str(RECORDED["lmdb"]), readonly=True, lock=False) as env, env.begin() as transaction:
        expected = list(transaction.cursor())
    assert len(expected) == 64
    assert contents("lmdb", RECORDED["lmdb"]) == expected


@pytest.mark.parametrize("name", ["mnist_train", "mnist_t10k", "set_resized"])
def test_recorded_databases_hold_the_same_in_both_kinds(name):
    """The original wrote them from the same input; one LevelDB is a log, one a table compressed by snappy."""
    pytest.importorskip("plyvel")
    records = contents("leveldb", FORMATS / f"{name}_leveldb")
    assert records == contents("lmdb", FORMATS / f"{name}_lmdb")
    assert len(records) == {"mnist_train": 64, "mnist_t10k": 32, "set_resized": 7}[name]


def test_recorded_database_is_written_again(backend, tmp_path, logged):
    records = contents("lmdb", RECORDED["lmdb"])
    build(backend, tmp_path / "db", records)
    assert contents(backend, tmp_path / "db") == records
    assert ("info", f"Opened {backend} {tmp_path / 'db'}") in logged


def test_records_are_sorted_and_replaced(backend, tmp_path):
    records = [(b"b", b"1"), (b"a", b"2"), (b"b", b"3"), (b"c" * 511, b"")]
    build(backend, tmp_path / "db", records)
    assert contents(backend, tmp_path / "db") == [(b"a", b"2"), (b"b", b"3"), (b"c" * 511, b"")]


def test_cursor(backend, tmp_path):
    build(backend, tmp_path / "db")
    with open_db(backend, tmp_path / "db") as db:
        cursor = db.cursor()
        for _ in range(2):
            for key, value in RECORDS:
                assert cursor.valid()
                assert (cursor.key(), cursor.value()) == (key, value)
                cursor.next()
            assert not cursor.valid()
            cursor.seek_to_first()
        cursor.seek(b"007")
        assert cursor.key() == b"007"
        cursor.seek(b"0071")
        assert (cursor.key(), cursor.value()) == RECORDS[8]
        cursor.seek(b"9")
        assert not cursor.valid()


def test_cursors_and_iterators_are_independent(backend, tmp_path):
    build(backend, tmp_path / "db")
    with open_db(backend, tmp_path / "db") as db:
        first, second, iterator = db.cursor(), db.cursor(), iter(db)
        first.next()
        next(iterator)
        next(iterator)
        assert (first.key(), second.key(), next(iterator)[0]) == (b"001", b"000", b"002")


def test_values_outlive_the_database(backend, tmp_path):
    build(backend, tmp_path / "db")
    with open_db(backend, tmp_path / "db") as db:
        key, value = db.cursor().key(), db.cursor().value()
    assert (key, value) == RECORDS[0]
    assert type(value) is bytes


def test_length(backend, tmp_path):
    build(backend, tmp_path / "db")
    with open_db(backend, tmp_path / "db") as db:
        assert len(db) == len(RECORDS)
        assert len(db) == len(RECORDS)


def test_empty_database(backend, tmp_path):
    build(backend, tmp_path / "db", [])
    with open_db(backend, tmp_path / "db") as db:
        assert len(db) == 0
        assert list(db) == []
        assert not db.cursor().valid()


def test_write_in_place(backend, tmp_path):
    build(backend, tmp_path / "db")
    with open_db(backend, tmp_path / "db", "write") as db:
        db.put(b"000", b"changed")
        db.commit()
        db.put(b"100", b"added")
    assert contents(backend, tmp_path / "db") == [(b"000", b"changed"), *RECORDS[1:], (b"100", b"added")]


def test_failing_write_in_place_keeps_what_was_committed(backend, tmp_path):
    build(backend, tmp_path / "db")
    with pytest.raises(KeyError), open_db(backend, tmp_path / "db", "write") as db:
        db.put(b"100", b"committed")
        db.commit()
        db.put(b"101", b"pending")
        raise KeyError
    assert contents(backend, tmp_path / "db") == [*RECORDS, (b"100", b"committed")]


def test_close_twice(backend, tmp_path):
    db = open_db(backend, tmp_path / "db", "new")
    db.put(*RECORDS[0])
    db.close()
    db.close()
    db.discard()
    assert contents(backend, tmp_path / "db") == RECORDS[:1]


@pytest.mark.parametrize(
    ("value", "name"), [(caffe_pb2.DataParameter.LMDB, "lmdb"), (caffe_pb2.DataParameter.LEVELDB, "leveldb")]
)
def test_backend_of_a_net(value, name):
    if name == "leveldb":
        pytest.importorskip("plyvel")
    assert contents(value, RECORDED[name]) == contents("lmdb", RECORDED["lmdb"])


def test_lmdb_map_grows(tmp_path, monkeypatch):
    """Records far larger than the first map: one commit needs several doublings, and loses nothing."""
    monkeypatch.setattr(lmdb_module, "FIRST_MAP_SIZE", 1 << 16)
    records = [(b"%04d" % number, os.urandom(3000)) for number in range(400)]
    with open_db("lmdb", tmp_path / "db", "new") as db:
        for number, (key, value) in enumerate(records):
            db.put(key, value)
            if number == 100:
                db.commit()
    assert contents("lmdb", tmp_path / "db") == records
    with open_db("lmdb", tmp_path / "db", "write") as db:
        db.put(b"5000", bytes(5 << 20))
    assert len(contents("lmdb", tmp_path / "db")) == 401


def test_lmdb_map_grows_beyond_what_was_expected(tmp_path, monkeypatch):
    """Keys do not count in the estimate, so that these fill the map during the commit."""
    monkeypatch.setattr(lmdb_module, "FIRST_MAP_SIZE", 1 << 16)
    records = [(b"%0500d" % number, b"") for number in range(2000)]
    with open_db("lmdb", tmp_path / "db", "new") as db:
        for key, value in records:
            db.put(key, value)
    assert contents("lmdb", tmp_path / "db") == records


# ---- several readers, read-only folders --------------------------------------------------------------------


def test_two_readers_in_one_process(backend, tmp_path):
    build(backend, tmp_path / "db")
    with open_db(backend, tmp_path / "db") as first:
        with open_db(backend, tmp_path / "db") as second:
            assert list(first) == list(second) == RECORDS
        assert list(first) == RECORDS
    assert contents(backend, tmp_path / "db") == RECORDS


def test_reader_leaves_no_trace(backend, tmp_path):
    folder = tmp_path / "db"
    shutil.copytree(RECORDED[backend], folder)
    before = everything(folder)
    assert len(contents(backend, folder)) == 64
    assert everything(folder) == before


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become somebody else"
)
def test_read_only_folder(backend):
    """As a user who may not write there; in a folder outside of pytest's, which are closed to others."""
    code = f"""
import os, sys
from caffetools.formats.db import open_db
open_db("lmdb", {str(RECORDED["lmdb"])!r}).close()
if {backend!r} == "leveldb":
    import plyvel
os.setuid(65534)
try:
    open(os.path.join(sys.argv[1], "file"), "w")
except PermissionError:
    with open_db({backend!r}, sys.argv[1]) as db:
        sys.stdout.write(str(len(list(db))))
"""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "db"
        shutil.copytree(RECORDED[backend], folder)
        for path in (Path(parent), folder, *folder.iterdir()):
            path.chmod(0o555)
        run = subprocess.run(
            [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=60,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    assert (run.stdout, run.returncode) == ("64", 0), run.stderr


# ---- what cannot be opened ---------------------------------------------------------------------------------

UNOPENED = {
    "lmdb": "Check failed: mdb_status == 0 (2 vs. 0) No such file or directory ({})",
    "leveldb": "Check failed: status.ok() Failed to open leveldb {path} ({})",
}


@pytest.mark.parametrize("mode", ["r", "write"])
def test_missing_database(backend, mode, tmp_path):
    if (backend, mode) == ("leveldb", "write"):
        pytest.skip("LevelDB makes it")
    path = tmp_path / "db"
    assert failure(backend, path, mode) == UNOPENED[backend].format(f"{path} does not exist", path=path)


def test_folder_without_a_database(backend, tmp_path):
    reason = f"{tmp_path} holds no {backend} database"
    assert failure(backend, tmp_path) == UNOPENED[backend].format(reason, path=tmp_path)


def test_file_in_place_of_a_folder(backend, tmp_path):
    path = tmp_path / "data.mdb"
    path.write_text("")
    reason = f"{path} is a file; the database is the folder that holds it"
    assert failure(backend, path) == UNOPENED[backend].format(reason, path=path)


def test_database_of_the_other_kind(backend):
    path, kind = RECORDED[other(backend)], other(backend)
    reason = f"{path} is a {kind} database: choose the backend {kind} (in a net: {kind.upper()})"
    assert failure(backend, path) == UNOPENED[backend].format(reason, path=path)


def test_unknown_backend(tmp_path):
    assert failure("sqlite", tmp_path) == "Unknown database backend: sqlite (known: lmdb, leveldb)"


@pytest.mark.parametrize("size", [0, 100, 9000, 50000])
def test_truncated_lmdb(size, tmp_path):
    """Reading beyond the end of the file would kill the process."""
    shutil.copytree(RECORDED["lmdb"], tmp_path / "db")
    os.truncate(tmp_path / "db" / "data.mdb", size)
    message = failure("lmdb", tmp_path / "db")
    assert str(tmp_path / "db") in message
    if size > 8192:
        assert message == f"{tmp_path / 'db'} is truncated: data.mdb has {size} of 77824 bytes"


def test_lmdb_of_other_bytes(tmp_path):
    (tmp_path / "data.mdb").write_bytes(bytes(range(256)) * 64)
    assert failure("lmdb", tmp_path).startswith(
        f"Check failed: mdb_status == 0 Cannot open lmdb {tmp_path}: "
    )


def test_damaged_leveldb_table(tmp_path):
    pytest.importorskip("plyvel")
    shutil.copytree(FORMATS / "mnist_t10k_leveldb", tmp_path / "db")
    table = tmp_path / "db" / "000005.ldb"
    data = bytearray(table.read_bytes())
    data[5000] ^= 0xFF
    table.write_bytes(data)
    expected = f"Check failed: status.ok() Cannot read leveldb {tmp_path / 'db'}: "
    with open_db("leveldb", tmp_path / "db") as db:
        with pytest.raises(FatalError) as error:
            list(db)
        assert str(error.value).startswith(expected)
        with pytest.raises(FatalError) as error:
            walk(db.cursor())
        assert str(error.value).startswith(expected)


def walk(cursor):
    while cursor.valid():
        cursor.next()


def test_leveldb_without_its_parts(tmp_path):
    pytest.importorskip("plyvel")
    shutil.copytree(FORMATS / "mnist_t10k_leveldb", tmp_path / "db")
    (tmp_path / "db" / "000005.ldb").unlink()
    message = failure("leveldb", tmp_path / "db")
    assert message.startswith(f"Check failed: status.ok() Failed to open leveldb {tmp_path / 'db'} (")
    assert "000005.ldb" in message


@pytest.mark.parametrize("mode", ["r", "new"])
def test_without_plyvel(mode, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plyvel", None)
    path = RECORDED["leveldb"] if mode == "r" else tmp_path / "db"
    assert "the package plyvel is not installed: pip install plyvel, or use LMDB" in failure(
        "leveldb", path, mode
    )
    assert os.listdir(tmp_path) == []
