"""Every kernel compiles for real devices, with the types that nets start it with."""

from __future__ import annotations

import re
from importlib import import_module
from types import SimpleNamespace

import numba
import pytest

from tests.gpu.signatures import known

SIGNATURES = sorted(known())
#: Turing, the oldest that CUDA 13 knows, and Hopper.
TARGETS = [(7, 5), (9, 0)]
#: Bytes of memory that the threads of a block share, without asking for more.
MOST_SHARED = 48 << 10


def test_there_are_signatures():
    assert len(SIGNATURES) > 20


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: "sm_{}{}".format(*target))
@pytest.mark.parametrize(("module", "kernel", "types"), SIGNATURES, ids=lambda text: text.rpartition(".")[2])
def test_kernel_compiles(module, kernel, types, target, monkeypatch):
    pytest.importorskip("numba_cuda")
    if numba.config.ENABLE_CUDASIM:
        pytest.skip("the simulator compiles nothing")
    from numba import cuda
    from numba.cuda import dispatcher

    # Functions that a kernel calls are compiled for the present device, which there is none of.
    device = SimpleNamespace(compute_capability=target)
    monkeypatch.setattr(dispatcher, "get_current_device", lambda: device)
    function = getattr(import_module(module), kernel).function
    ptx, _ = cuda.compile_ptx(function, f"void({types})", cc=target)
    assert ".visible .entry" in ptx and ".target sm_{}{}".format(*target) in ptx
    shared = re.findall(r"^\s*\.(?:visible )?\.?shared [^;]*\[(\d+)\];", ptx, re.MULTILINE)
    assert sum(map(int, shared)) <= MOST_SHARED
