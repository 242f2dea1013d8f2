"""What is said about devices, drivers and libraries that do not suit, and what goes on without them."""

from __future__ import annotations

import sys
from importlib import metadata

import numba
import pytest

import caffetools.engine.gpu
from caffetools.engine.gpu import kernel_cache, requirements
from caffetools.glog import FatalError
from tests.gpu import fake_nvmath
from tests.gpu.fake_cudnn import Fake

H100 = (0, "NVIDIA H100", (9, 0))


@pytest.fixture
def packages(monkeypatch):
    def install(version):
        def answer(package):
            if version is None:
                raise metadata.PackageNotFoundError(package)
            return version

        monkeypatch.setattr(requirements.metadata, "version", answer)

    return install


@pytest.mark.parametrize(
    ("version", "driver"), [("13.5.0", (13, 0)), ("12.9.1", (13, 0)), ("12.9.1", (12, 0)), (None, (9, 0))]
)
def test_what_suits(version, driver, packages):
    packages(version)
    requirements.check(*H100, driver)


def test_an_old_driver(packages):
    packages("13.5.0")
    words = r"GPU 0 \(NVIDIA H100\) .*driver supports CUDA 12\.4, .*for CUDA 13: install a driver 580 or newer"
    with pytest.raises(FatalError, match=words):
        requirements.check(*H100, (12, 4))


def test_an_old_device(packages):
    packages("13.5.0")
    with pytest.raises(FatalError, match=r"compute capability is 7\.0, and 7\.5 \(Turing, 2018\) is the least"):
        requirements.check(1, "Tesla V100", (7, 0), (13, 0))


def test_a_cudnn_that_does_not_start(engine, monkeypatch):
    from caffetools.engine.gpu import cudnn

    module = Fake()

    def broken():
        raise RuntimeError("CUDNN_STATUS_NOT_INITIALIZED\nand more")

    module.create_handle = broken
    monkeypatch.setitem(sys.modules, "cudnn", module)
    cudnn.handle.cache_clear()
    words = "its package does not work here (RuntimeError: CUDNN_STATUS_NOT_INITIALIZED)"
    assert cudnn.why_unusable() == words
    module.create_handle = lambda: "handle"
    assert cudnn.why_unusable() == ""
    cudnn.handle.cache_clear()


def test_a_cublas_that_does_not_start(engine, monkeypatch):
    from caffetools.engine.gpu import gemm

    monkeypatch.setattr(gemm, "find_spec", lambda name: None)
    assert "nvmath-python is missing" in gemm._cublas()[1]
    modules = fake_nvmath.modules()
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "caffetools.engine.gpu.cublas", raising=False)
    monkeypatch.delattr(caffetools.engine.gpu, "cublas", raising=False)
    monkeypatch.setattr(gemm, "find_spec", lambda name: name)

    def broken():
        raise OSError("libcublas.so.13 not found")

    monkeypatch.setattr(modules["nvmath.bindings.cublas"], "create", broken)
    assert gemm._cublas() == (None, "its package does not work here (OSError: libcublas.so.13 not found)")


def test_kernels_of_the_device_are_kept_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(kernel_cache, "FOLDER", tmp_path)
    before = numba.config.CACHE_DIR
    with kernel_cache.kept_apart() as kept:
        assert kept and str(tmp_path / f"gpu-{kernel_cache.sources()}") == numba.config.CACHE_DIR
    assert before == numba.config.CACHE_DIR
    monkeypatch.setattr(kernel_cache, "FOLDER", None)
    with kernel_cache.kept_apart() as kept:
        assert not kept and before == numba.config.CACHE_DIR


def test_it_is_said_once_that_kernels_are_compiled(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(kernel_cache, "FOLDER", tmp_path)
    kernel_cache.announce()
    assert f"only once: they are kept in {kernel_cache.folder()}" in capfd.readouterr().err
    kernel_cache.folder().mkdir()
    kernel_cache.announce()
    assert capfd.readouterr().err == ""
    monkeypatch.setattr(kernel_cache, "FOLDER", None)
    kernel_cache.announce()
    assert "in every run: no folder for them" in capfd.readouterr().err
