"""New databases of both backends: complete under their name, or not there, whatever happens to the writer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from caffetools.formats.db import open_db
from caffetools.glog import FatalError

from .conftest import FORMATS
from .databases import RECORDED, RECORDS, build, contents, everything, failure, other

ROOT = Path(__file__).parents[2]
REFUSED = {
    "lmdb": "Check failed: mkdir(source.c_str(), 0744) == 0 (-1 vs. 0) mkdir {} failed ({})",
    "leveldb": "Check failed: status.ok() Failed to open leveldb {} ({})",
}


def test_new_database_has_its_name_when_it_is_complete(backend, tmp_path):
    path = tmp_path / "db"
    with open_db(backend, path, "new") as db:
        db.put(*RECORDS[0])
        db.commit()
        assert os.listdir(tmp_path) == ["db.partial"]
    assert os.listdir(tmp_path) == ["db"]


def test_failing_writer_leaves_nothing(backend, tmp_path):
    with pytest.raises(KeyError), open_db(backend, tmp_path / "db", "new") as db:
        db.put(*RECORDS[0])
        db.commit()
        raise KeyError
    assert os.listdir(tmp_path) == []


KILLED = """
import os, signal, sys
from caffetools.formats.db import open_db

db = open_db(sys.argv[1], sys.argv[2], "new")
db.put(b"a", b"b")
db.commit()
if len(sys.argv) == 3:
    os.kill(os.getpid(), signal.SIGKILL)
print("ready", flush=True)
sys.stdin.read()
"""


def start(backend, path, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, backend, str(path), *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_killed_writer_leaves_nothing_under_the_name(backend, tmp_path):
    with start(backend, tmp_path / "db") as process:
        assert process.wait(60) == -signal.SIGKILL
    assert os.listdir(tmp_path) == ["db.partial"]
    build(backend, tmp_path / "db")  # which sweeps up
    assert os.listdir(tmp_path) == ["db"]
    assert contents(backend, tmp_path / "db") == RECORDS


@pytest.mark.skipif(os.name == "nt", reason="needs locks on folders")
def test_two_writers_of_one_database(backend, tmp_path):
    path = tmp_path / "db"
    with start(backend, path, "wait") as process:
        assert process.stdout.readline() == "ready\n"
        reason = f"another run is writing it, in {path}.partial"
        assert failure(backend, path, "new") == REFUSED[backend].format(path, reason)
        process.kill()
    build(backend, path)
    assert contents(backend, path) == RECORDS


def test_existing_database(backend, tmp_path):
    build(backend, tmp_path / "db")
    before = everything(tmp_path / "db")
    reason = "it exists: delete it, or choose another name"
    assert failure(backend, tmp_path / "db", "new") == REFUSED[backend].format(tmp_path / "db", reason)
    assert everything(tmp_path / "db") == before


def test_existing_lmdb_as_recorded():
    recorded = (FORMATS / "log_convert_imageset_exists.txt").read_text()
    said = failure("lmdb", RECORDED["lmdb"], "new").split(" (it exists")[0]
    assert said.replace(str(RECORDED["lmdb"]), "set_plain_lmdb") + "\n" in recorded


def test_existing_database_is_replaced_on_demand(backend, tmp_path):
    pytest.importorskip("plyvel")
    build(other(backend), tmp_path / "db", RECORDS[:3])
    with open_db(backend, tmp_path / "db", "new", overwrite=True) as db:
        db.put(*RECORDS[5])
        assert contents(other(backend), tmp_path / "db") == RECORDS[:3]
    assert contents(backend, tmp_path / "db") == [RECORDS[5]]
    assert os.listdir(tmp_path) == ["db"]


@pytest.mark.parametrize("where", ["db", "db.partial"])
def test_what_is_no_database_is_never_replaced(backend, where, tmp_path):
    (tmp_path / where).mkdir()
    (tmp_path / where / "thesis.tex").write_text("precious")
    assert "is no database" in failure(backend, tmp_path / "db", "new", overwrite=True)
    assert (tmp_path / where / "thesis.tex").read_text() == "precious"


def test_file_in_the_way(backend, tmp_path):
    (tmp_path / "db").write_text("precious")
    assert "is no database" in failure(backend, tmp_path / "db", "new", overwrite=True)
    assert (tmp_path / "db").read_text() == "precious"


def test_name_taken_while_it_grows(backend, tmp_path):
    path = tmp_path / "db"
    db = open_db(backend, path, "new")
    db.put(*RECORDS[0])
    path.mkdir()
    (path / "thesis.tex").write_text("precious")
    with pytest.raises(
        FatalError, match=r"it exists; the new one is complete in \S+db.partial"
    ):
        db.close()
    assert (path / "thesis.tex").read_text() == "precious"
    assert contents(backend, tmp_path / "db.partial") == RECORDS[:1]


def test_replaced_database_that_a_killed_run_left(backend, tmp_path):
    build(backend, tmp_path / "db")
    build(backend, tmp_path / "db.replaced")
    reason = f"{tmp_path / 'db'}.replaced is in the way: move it"
    assert reason in failure(backend, tmp_path / "db", "new", overwrite=True)
    assert contents(backend, tmp_path / "db.replaced") == RECORDS


def test_missing_parent_folder(backend, tmp_path):
    path = tmp_path / "nope" / "db"
    assert failure(backend, path, "new") == REFUSED[backend].format(path, "No such file or directory")


def test_reading_what_is_being_written(backend, tmp_path):
    with open_db(backend, tmp_path / "db", "new") as db:
        with pytest.raises(FatalError, match="is open to be written, and cannot be read at the same time"):
            db.cursor()
        with pytest.raises(FatalError, match="is open to be written, and cannot be read at the same time"):
            list(db)


def test_full_disk(backend, small_disk):
    with pytest.raises(FatalError) as error, open_db(backend, small_disk / "db", "new") as db:
        for number in range(30):
            db.put(b"%d" % number, os.urandom(100_000))
            db.commit()
    assert str(small_disk / "db") in str(error.value)
    assert "No space left on device" in str(error.value)
    assert os.listdir(small_disk) == []


@pytest.mark.parametrize("key", [b"", b"k" * 512])
def test_keys_that_lmdb_cannot_take(key, tmp_path):
    with (
        open_db("lmdb", tmp_path / "db", "new") as db,
        pytest.raises(FatalError, match="LMDB takes keys of 1 to 511"),
    ):
        db.put(key, b"")
