"""NCCL: what the package is asked for, with a stand-in for it."""

from __future__ import annotations

import sys

import numba
import numpy as np
import pytest

from caffetools.engine.group import Alone, LostPeer
from caffetools.glog import FatalError
from tests.gpu import fake_nccl

pytestmark = pytest.mark.skipif(
    not numba.config.ENABLE_CUDASIM, reason="the stand-in computes in the memory of the host"
)
MODULE = "caffetools.engine.gpu.nccl"


@pytest.fixture
def bindings(monkeypatch):
    """The stand-in of `nccl.bindings.nccl`, in place."""
    modules = fake_nccl.modules()
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    yield modules["nccl.bindings.nccl"]
    sys.modules.pop(MODULE, None)


def connect(engine):
    from caffetools.engine.gpu.nccl import Communicator

    return Communicator(engine, Alone(0, 2))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_operations(dtype, engine, bindings):
    from caffetools.engine.gpu.memory import to_device

    array = to_device(engine, np.array([1, 2, 4], dtype))
    communicator = connect(engine)
    communicator.mean(array)
    assert array.copy_to_host().tolist() == [1.5, 2.5, 4.5]
    communicator.copy_from_rank_0(array, engine.stream)
    communicator.check()
    communicator.close()
    kind = {np.float32: fake_nccl.FLOAT32, np.float64: fake_nccl.FLOAT64}[dtype]
    assert bindings.calls == [
        ("init", 2, 0, b"u" * 128),
        ("all_reduce", 3, kind),
        ("broadcast", 3, kind),
        ("destroy",),
    ]


def test_errors(engine, bindings):
    from caffetools.engine.gpu.memory import to_device

    array = to_device(engine, np.float32([1]))
    communicator = connect(engine)
    bindings.state = fake_nccl.Result.InProgress
    communicator.check()
    bindings.state = fake_nccl.Result.RemoteError
    with pytest.raises(LostPeer, match=r"NCCL: error 6 \(NCCL_DEBUG=WARN tells more\)"):
        communicator.check()
    # So that the work of the device ends, which those who go on to close their files wait for.
    assert bindings.calls[-1] == ("abort",)
    bindings.broken = "SystemError (2)"
    with pytest.raises(LostPeer, match=r"NCCL: SystemError \(2\)"):
        communicator.mean(array)
    with pytest.raises(FatalError, match=r"NCCL cannot connect GPU 0 with the others: SystemError \(2\)"):
        connect(engine)


def test_without_the_package(engine, monkeypatch):
    from caffetools.engine import devices
    from caffetools.engine.gpu import communicator

    monkeypatch.setattr(numba.config, "ENABLE_CUDASIM", False)
    monkeypatch.setattr(devices, "find_spec", lambda name: None)
    with pytest.raises(FatalError, match=r"Several GPUs cannot be used: the package nccl4py is missing \(pip"):
        communicator.connect(engine, Alone(0, 2))
