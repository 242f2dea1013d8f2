"""The tests of the GPU engine run on a device, or in numba's simulator where NUMBA_ENABLE_CUDASIM=1 is set.

In the simulator the types with which kernels are started are compared with those that `tests/gpu/signatures` holds and
`test_ptx` compiles for real devices. RECORD_KERNELS=1 writes the new ones there.
"""

from __future__ import annotations

import os
import sys

import numba
import pytest

from caffetools.engine import devices
from tests.gpu import signatures

SIMULATED = bool(numba.config.ENABLE_CUDASIM)
#: Tests that need no engine, and would not work in the simulator.
ALWAYS = (
    "test_ptx.py",
    "test_cudnn_package.py",
    "test_nvmath_package.py",
    "test_numba_package.py",
    "test_nccl_package.py",
)


def pytest_collection_modifyitems(items):
    skip = pytest.mark.skip(reason="no GPU and no simulator (NUMBA_ENABLE_CUDASIM=1)")
    for item in items:
        if "tests/gpu/" in item.path.as_posix() and item.path.name not in ALWAYS and devices.why_no_gpu():
            item.add_marker(skip)


def pytest_sessionfinish(session):
    launch = sys.modules.get("caffetools.engine.gpu.launch")
    if not SIMULATED or launch is None:
        return
    new = signatures.new(launch.KERNELS)
    if new and os.environ.get("RECORD_KERNELS"):
        signatures.add(new)
    elif new:
        names = ", ".join(sorted({kernel for _, kernel, _ in new}))
        print(f"\nStarted with types that tests/gpu/signatures lacks: {names}. RECORD_KERNELS=1 writes them there.")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def engine():
    """The engine of the one device."""
    from caffetools.engine.gpu import device

    return device.use(0)
