"""The engine's scratch memory."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from caffetools.engine.aligned import aligned_empty
from caffetools.engine.cpu import workspace
from caffetools.engine.cpu.gemm import gemm
from caffetools.engine.cpu.inner_product import inner_product
from tests.engine import test_conv

SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(workspace, "_buffers", {})


def test_buffers_are_kept_and_grow():
    small = workspace.scratch("a", 10, SINGLE)
    assert workspace.scratch("a", 5, SINGLE) is small
    assert workspace.scratch("b", 10, SINGLE) is not small
    assert workspace.scratch("a", 10, DOUBLE).dtype == np.float64
    large = workspace.scratch("a", 11, SINGLE)
    assert large.size >= 11
    assert workspace.scratch("a", 10, SINGLE) is large
    assert workspace.scratch_bytes() == 4 * (11 + 10) + 8 * 10


def test_buffers_begin_at_a_page():
    for count in (1, 3, 1000):
        assert workspace.scratch(f"page {count}", count, SINGLE).ctypes.data % workspace.PAGE == 0


@pytest.mark.parametrize("count", [1, 1024, 1025])
def test_threads_get_parts_far_apart(count):
    buffer, step = workspace.thread_scratch("a", count, SINGLE)
    gap = (step - count) * buffer.itemsize
    assert gap >= workspace.GUARD_PAGES * workspace.PAGE
    assert buffer.size >= (numba.config.NUMBA_NUM_THREADS - 1) * step + count


@pytest.mark.parametrize("threads", [1, numba.config.NUMBA_NUM_THREADS])
def test_nothing_is_written_beyond_a_buffer(threads, monkeypatch):
    beyond, size = [], 5000

    def guarded(count, dtype, align):
        whole = aligned_empty(count + size, dtype, align)
        whole[count:] = 7
        beyond.append(whole[count:])
        return whole[:count]

    monkeypatch.setattr(workspace, "aligned_empty", guarded)
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        for items, outputs, inputs in [(330, 50, 300), (320, 100, 256), (100, 64, 1024), (33, 600, 700), (3, 90, 2000)]:
            workspace.release()
            x, w, y = (np.ones(shape, np.float32) for shape in ((items, inputs), (outputs, inputs), (items, outputs)))
            inner_product(x, w, w[:, 0].copy(), y, 0.5)
            for trans_b, other in ((True, w), (False, w.T.copy())):
                workspace.release()
                gemm(False, trans_b, 1, x, other, 0, y)
            gemm(True, False, 1, y, x, 0, w)
        for case in ("lenet_conv2", "small_planes", "depthwise", "stride_and_dilation", "winograd"):
            workspace.release()
            plan, x, w, bias, dy, _ = test_conv.make(case, np.float32)
            test_conv.run_all(plan, x, w, bias, dy)
    finally:
        numba.set_num_threads(before)
    assert len(beyond) > 10
    for end in beyond:
        np.testing.assert_array_equal(end, 7)


@pytest.mark.parametrize(
    "case", ["lenet_conv2", "small_planes", "depthwise", "stride_and_dilation", "winograd"]
)
def test_nothing_is_allocated_after_the_first_iteration(case):
    plan, x, w, bias, dy, _ = test_conv.make(case, np.float32)
    a, c = np.ones((20, 300), np.float32), np.ones((20, 20), np.float32)

    def iteration():
        test_conv.run_all(plan, x, w, bias, dy)
        gemm(False, True, 1, a, a, 0, c)
        inner_product(a, a, None, c)
        return {name: buffer.ctypes.data for name, buffer in workspace._buffers.items()}

    assert iteration() == iteration()
