"""Where compiled kernels go, also where the usual place cannot be used; each case is a process of its own."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import llvmlite
import numba
import numpy as np
import pytest
from numba.core.registry import CPUDispatcher

import caffetools
from caffetools.engine.cpu import cache
from tests.recorded import tool_environment

#: Packages outside the engine that have kernels.
ROOMS = tuple(f"caffetools.{room}." for room in ("layers", "parts", "samples", "solver"))
PROGRAM = """
import numpy as np
from caffetools.engine.cpu import jit, rng
print(jit.FOLDER)
print(rng.random_bits(np.uint64(1), np.uint64(2)))
"""


def run(**environment):
    """Compile and call one kernel; return the folder it is kept in, and standard error."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**tool_environment(), **environment}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    folder, value = result.stdout.splitlines()
    assert int(value) == 17911839290282890590  # SplitMix64: the third number of the generator seeded with 1
    return folder, result.stderr


def test_the_users_folder_is_filled_once(tmp_path):
    folder, said = run(NUMBA_CACHE_DIR=str(tmp_path))
    assert Path(folder) == tmp_path / "caffetools" / cache.cache_key()
    assert f"compiling kernels ... (only once: they are kept in {folder})" in said
    assert list(Path(folder).rglob("*.nbc"))
    assert "compiling kernels" not in run(NUMBA_CACHE_DIR=str(tmp_path))[1]


ARITHMETIC = """
import hashlib
import numpy as np
from caffetools.engine.cpu.conv_weights import add_bias_gradient
from caffetools.solver import rules
w, g, *h = np.random.default_rng(0).random((4, 30000), np.float32) - np.float32(0.4)
h = np.abs(np.stack(h))
table, one = rules.block_table([0], [30000]), np.ones(1, np.float32)
hyper = np.array([1e-8, 0.9, 0.999, 1.2], np.float32)
rules.adam(w, g, h, table, np.float32(1), one, one, False, hyper)
print(hashlib.sha256(w.tobytes() + g.tobytes() + h.tobytes()).hexdigest())
db = np.zeros(33, np.float32)
add_bias_gradient(w[: 33 * 784].reshape(1, 33, 28, 28), db)
print(hashlib.sha256(db.tobytes()).hexdigest())
"""


def test_the_process_that_compiles_computes_the_same_bits_as_later_ones(tmp_path):
    environment = {**tool_environment(), "NUMBA_CACHE_DIR": str(tmp_path)}
    first, second = (
        subprocess.run([sys.executable, "-c", ARITHMETIC], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    )
    assert "compiling kernels" in first.stderr and "compiling kernels" not in second.stderr
    assert first.stdout == second.stdout


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "file").write_text("")
    folder, said = run(NUMBA_CACHE_DIR=str(tmp_path / "file"), TMPDIR=str(tmp_path))
    assert Path(folder).parent.parent == tmp_path
    assert Path(folder).parent.stat().st_mode & 0o077 == 0
    assert f"kept in {folder}" in said


def test_no_folder_at_all(tmp_path):
    for name in ("cache", "temporary"):
        (tmp_path / name).mkdir()
    (tmp_path / "cache" / "caffetools").write_text("")
    (tmp_path / "temporary" / f"caffetools-{cache._temporary_parent().name.removeprefix('caffetools-')}").write_text("")
    folder, said = run(NUMBA_CACHE_DIR=str(tmp_path / "cache"), TMPDIR=str(tmp_path / "temporary"))
    assert folder == "None"
    assert "compiling kernels ... (in every run: no folder for them can be written" in said


@pytest.mark.skipif(os.name == "nt", reason="POSIX owners")
def test_a_folder_that_others_may_write_is_not_trusted(tmp_path):
    tmp_path.chmod(0o777)
    assert not cache._usable(tmp_path, tmp_path / "key", private=True)
    tmp_path.chmod(0o700)
    assert cache._usable(tmp_path, tmp_path / "key", private=True)


def test_a_full_disk_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "ROOM", 1 << 62)
    assert not cache._usable(tmp_path, tmp_path / "key", private=False)


def test_prune(tmp_path):
    for i in range(7):
        folder = tmp_path / f"{i:016x}"
        folder.mkdir()
        os.utime(folder, (i, i))
    (tmp_path / "mine").mkdir()
    cache.prune(tmp_path / f"{0:016x}")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{i:016x}" for i in (0, 3, 4, 5, 6)] + ["mine"]


def test_the_key_follows_the_width(monkeypatch):
    before = cache.cache_key()
    monkeypatch.setenv("CAFFETOOLS_SIMD", "other")
    assert cache.cache_key() != before


@pytest.mark.parametrize("module", [caffetools, numba, llvmlite, np], ids=lambda module: module.__name__)
def test_the_key_follows_the_versions(monkeypatch, module):
    before = cache.cache_key()
    monkeypatch.setattr(module, "__version__", "another")
    assert cache.cache_key() != before


@pytest.mark.parametrize("source", ["engine/cpu/rng.py", *cache.CALLED])
def test_the_key_follows_the_sources_of_kernels_that_others_call(source, monkeypatch, tmp_path):
    package = tmp_path / "caffetools"
    shutil.copytree(Path(caffetools.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(cache, "__file__", str(package / "engine" / "cpu" / "cache.py"))
    before = cache.cache_key()
    with (package / source).open("a") as file:
        file.write("# changed\n")
    assert cache.cache_key() != before


def kernels_of(*packages):
    names = [module.name for module in pkgutil.walk_packages(caffetools.__path__, "caffetools.")]
    modules = [importlib.import_module(name) for name in names if f"{name}.".startswith(packages)]
    kernels = {value for module in modules for value in vars(module).values() if isinstance(value, CPUDispatcher)}
    assert len(kernels) > 50
    return kernels


def test_kernels_leave_the_order_of_arithmetic_to_nobody():
    """What a compiler may change, it changes in one process and not in the next."""
    for kernel in kernels_of("caffetools.engine.cpu.", *ROOMS):
        assert not kernel.targetoptions.get("fastmath"), f"{kernel} of {kernel.__module__}"


def test_kernels_call_what_the_key_covers():
    """And their own file, whose changes numba notices."""
    for kernel in kernels_of(*ROOMS):
        scope = inspect.getclosurevars(kernel.py_func)
        for other in (*scope.globals.values(), *scope.nonlocals.values()):
            if isinstance(other, CPUDispatcher):
                file = other.__module__.removeprefix("caffetools.").replace(".", "/") + ".py"
                known = other.__module__ == kernel.__module__ or file.startswith("engine/cpu/") or file in cache.CALLED
                assert known, f"{kernel} of {kernel.__module__} calls {other} of {other.__module__}"


def test_everything_goes_there_and_nothing_into_the_package(tmp_path):
    """Also what is made ready after the first compilation, when numba reads its settings anew."""
    package = tmp_path / "site" / "caffetools"
    shutil.copytree(Path(caffetools.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    before = sorted(package.rglob("*"))
    program = """
import numpy as np
from caffetools.engine.cpu import jit, rng
rng.random_bits(np.uint64(1), np.uint64(2))
from caffetools.engine.cpu.gemm import gemm
a = np.ones((3, 3), np.float32)
gemm(False, False, 1, a, a, 0, a)
"""
    environment = {**os.environ, "PYTHONPATH": str(package.parent), "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
                   "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip
    subprocess.run([sys.executable, "-c", program], env=environment, cwd=tmp_path, check=True, capture_output=True)
    assert sorted(package.rglob("*")) == before
    kept = {path.name.partition(".")[0] for path in (tmp_path / "cache").rglob("*.nbc")}
    assert {"rng", "gemm", "tiles"} <= kept
