"""Atomic writes: whatever happens, a file is the old one or the new one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from caffetools.formats import files
from caffetools.glog import FatalError

ROOT = Path(__file__).parents[2]
posix = pytest.mark.skipif(os.name == "nt", reason="needs a POSIX system")


def write(path, content):
    with files.atomic_path(path) as temporary:
        Path(temporary).write_text(content)


@pytest.fixture
def old(tmp_path):
    """A file with an earlier content."""
    path = tmp_path / "file"
    path.write_text("old")
    return path


def assert_untouched(old):
    assert old.read_text() == "old"
    assert os.listdir(old.parent) == ["file"]


def python(code, **options):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60, **options,
    )  # fmt: skip


def test_new_file(tmp_path):
    write(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"
    assert os.listdir(tmp_path) == ["file"]


def test_name_without_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("file", "new")
    assert os.listdir(tmp_path) == ["file"]


def test_old_file_is_there_until_the_end(old):
    with files.atomic_path(old) as temporary:
        Path(temporary).write_text("new")
        assert old.read_text() == "old"
        assert Path(temporary).parent == old.parent
    assert old.read_text() == "new"


def test_failing_body(old):
    with pytest.raises(KeyError), files.atomic_path(old) as temporary:
        Path(temporary).write_text("half")
        raise KeyError
    assert_untouched(old)


def test_body_that_writes_nothing(old):
    message = "Cannot write .*file: No such file or directory"
    with pytest.raises(FatalError, match=message), files.atomic_path(old):
        pass
    assert_untouched(old)


@posix
def test_mode_is_kept(old):
    old.chmod(0o640)
    write(old, "new")
    assert old.stat().st_mode & 0o777 == 0o640


@posix
def test_mode_of_a_new_file_follows_the_mask(tmp_path):
    (tmp_path / "usual").write_text("")
    write(tmp_path / "file", "new")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "usual").stat().st_mode


@posix
def test_link_is_followed(old, tmp_path):
    link = tmp_path / "link"
    link.symlink_to("file")
    write(link, "new")
    assert link.is_symlink()
    assert old.read_text() == "new"


@posix
def test_device_is_written_directly():
    write("/dev/null", "new")
    assert Path("/dev/null").is_char_device()


def test_nested_writers_appear_together_and_errors_name_the_file(tmp_path):
    with files.atomic_path(tmp_path / "b") as b, files.atomic_path(tmp_path / "a") as a:
        write(a, "first")
        write(b, "second")
        assert not (tmp_path / "a").exists()
        assert not (tmp_path / "b").exists()
    assert (tmp_path / "a").read_text() == "first"
    assert (tmp_path / "b").read_text() == "second"
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_error_in_a_nested_writer_names_the_file(tmp_path):
    path = tmp_path / "f"
    with pytest.raises(FatalError) as error, files.atomic_path(path) as outer, files.atomic_path(outer):
        raise OSError(28, "No space left on device")
    assert str(error.value) == f"Cannot write {path}: No space left on device"


def test_missing_folder(tmp_path):
    with pytest.raises(FatalError, match="Cannot write .*nope/file: No such file or directory"):
        write(tmp_path / "nope" / "file", "new")


def test_folder_in_the_way(tmp_path):
    with pytest.raises(FatalError, match="Cannot write .*: Is a directory"):
        write(tmp_path, "new")


@posix
@pytest.mark.skipif(os.name != "nt" and os.geteuid() == 0, reason="the superuser may write anything")
def test_write_protected_file(old):
    old.chmod(0o444)
    with pytest.raises(FatalError, match="Permission denied"):
        write(old, "new")
    assert_untouched(old)


@posix
def test_write_error_of_the_system(old):
    """The system refuses to let a file grow, as it does on a full disk."""
    run = python(
        """
        import resource, signal, sys
        from caffetools.formats import files
        from caffetools.glog import FatalError

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            with files.atomic_path(sys.argv[1]) as temporary, open(temporary, "wb") as file:
                file.write(bytes(2000))
        except FatalError as error:
            sys.stdout.write(str(error))
        """.replace("sys.argv[1]", repr(str(old)))
    )
    assert run.stdout == f"Cannot write {old}: File too large"
    assert_untouched(old)


def test_full_disk(small_disk):
    old = small_disk / "file"
    old.write_text("old")
    with pytest.raises(FatalError) as error:
        write(old, "x" * 2_000_000)
    assert str(error.value) == f"Cannot write {old}: No space left on device"
    assert_untouched(old)


@posix
def test_killed_writer_leaves_the_old_file(old):
    run = python(
        f"""
        import os, signal
        from caffetools.formats import files

        with files.atomic_path({str(old)!r}) as temporary:
            with open(temporary, "w") as file:
                file.write("half")
                file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    assert run.returncode == -signal.SIGKILL
    assert old.read_text() == "old"


def test_final_name(tmp_path):
    with files.atomic_path(tmp_path / "f") as temporary:
        Path(temporary).touch()
        assert files.final_name(temporary) == str(tmp_path / "f")
    assert files.final_name(temporary) == temporary
    assert files.final_name(tmp_path / "f") == str(tmp_path / "f")
