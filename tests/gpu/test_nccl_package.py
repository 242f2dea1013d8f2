"""The real nccl4py takes what the stand-in takes; that needs no device."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

import numba
import numpy as np
import pytest

from caffetools.engine.group import Alone, LostPeer
from tests.gpu import fake_nccl

STAND_IN = fake_nccl.modules()


@pytest.fixture(scope="module")
def core():
    pytest.importorskip("nccl")
    if numba.config.ENABLE_CUDASIM:
        pytest.skip("the simulator takes the place of the package cuda, which nccl needs")
    from nccl import core

    return core


@pytest.fixture(scope="module")
def bindings(core):
    from nccl.bindings import nccl

    return nccl


@pytest.mark.parametrize("name", ["all_reduce", "broadcast"])
def test_arguments_of_the_bindings(name, bindings):
    text = getattr(bindings, name).__doc__.partition("(")[2].partition(")")[0]
    theirs = [argument.split()[-1] for argument in text.split(",")]
    assert theirs == list(inspect.signature(getattr(STAND_IN["nccl.bindings.nccl"], name)).parameters)


@pytest.mark.parametrize(
    "name", ["get_unique_id", "get_error_string", "Communicator.init", "Communicator.get_async_error",
             "Communicator.abort", "Communicator.destroy", "UniqueId.from_bytes"],
)  # fmt: skip
def test_arguments_of_the_core(name, core):
    mine, theirs = STAND_IN["nccl.core"], core
    for part in name.split("."):
        mine, theirs = getattr(mine, part), getattr(theirs, part)
    assert list(inspect.signature(theirs).parameters) == list(inspect.signature(mine).parameters)


def test_constants(core, bindings):
    for name in ("FLOAT32", "FLOAT64", "AVG"):
        assert int(getattr(core, name)) == getattr(fake_nccl, name)
    for member in fake_nccl.Result:
        assert int(bindings.Result[member.name]) == member
    assert issubclass(bindings.NCCLError, Exception)


def test_the_id_goes_through_bytes(core):
    content = bytes(core.get_unique_id())
    assert len(content) == 128
    assert bytes(core.UniqueId.from_bytes(content)) == content


def test_the_communicators_address_gives_a_handle(core, bindings):
    assert isinstance(inspect.getattr_static(core.Communicator, "ptr"), property)
    assert bindings.Comm(0x1234).handle == 0x1234
    with pytest.raises(bindings.NCCLError):
        bindings.all_reduce(0, 0, 1, int(core.FLOAT32), int(core.AVG), bindings.Comm(0), 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_library_takes_our_calls_as_far_as_it_can_without_a_device(core, bindings, dtype, monkeypatch):
    from caffetools.engine.gpu import nccl

    class NoCommunicator:
        """What the library itself refuses: its bindings have taken all arguments then."""

        ptr = 0

        @staticmethod
        def init(nranks, rank, unique_id, config=None):
            assert (nranks, rank, isinstance(unique_id, core.UniqueId)) == (2, 0, True)
            return NoCommunicator()

    stream = SimpleNamespace(handle=0)
    monkeypatch.setattr(core, "Communicator", NoCommunicator)
    monkeypatch.setattr(nccl, "cuda", SimpleNamespace(stream=lambda: stream))
    monkeypatch.setattr(nccl, "address", lambda array: array.ctypes.data)
    communicator = nccl.Communicator(SimpleNamespace(index=0), Alone(0, 2))
    array = np.zeros(3, dtype)
    for call in (communicator.mean, lambda array: communicator.copy_from_rank_0(array, stream)):
        with pytest.raises(LostPeer, match="NCCL: InvalidArgument"):
            call(array)
