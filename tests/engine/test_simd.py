"""Vector widths other than the host's, and the strips that rows are cut into."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.engine.cpu import depthwise, finish, gemm, inner_product, simd, tiles, turn, winograd
from caffetools.engine.cpu.panels import Panels
from tests.engine import test_conv, test_gemm
from tests.layers import test_recurrent


@pytest.fixture(params=list(simd.WIDTHS))
def width(request, monkeypatch):
    """Pretend that the host has this vector width; the loops around the kernels are the same."""

    def forget():
        addresses = [tiles.micro_kernel, turn.turner, turn.mover, turn.dealer]
        addresses += [finish.finisher, winograd.transformer, depthwise.window_kernel]
        plans = gemm._way, inner_product._is_plain, inner_product._way
        for cached in (simd.width_name, *plans, *addresses):
            cached.cache_clear()

    monkeypatch.setenv("CAFFETOOLS_SIMD", request.param)
    forget()
    yield request.param
    monkeypatch.undo()
    forget()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("m", "n", "k", "trans_a", "trans_b"),
    [(50, 70, 300, False, True), (9, 13, 30, True, True), (3, 70, 19, False, False)],
)
def test_gemm_at_every_vector_width(width, m, n, k, trans_a, trans_b, dtype):
    test_gemm.test_product_of_every_shape_and_transposition(m, n, k, trans_a, trans_b, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("batch", "outputs", "inputs"), [(33, 50, 90), (1, 9, 300), (3, 9, 100)])
def test_inner_product_at_every_vector_width(width, batch, outputs, inputs, dtype):
    test_gemm.test_inner_product(batch, outputs, inputs, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("kind", test_recurrent.KINDS)
def test_recurrent_layers_at_every_vector_width(width, kind):
    test_recurrent.test_equals_one_step_after_the_other(kind, (2, 3, (5,), 70, None))


@pytest.mark.parametrize(
    "case", ["lenet_conv2", "small_planes", "stride_and_dilation", "filter_as_large_as_image"]
)
def test_convolution_at_every_vector_width(width, case):
    test_conv.test_against_reference(case, np.float32)


@pytest.mark.parametrize("rows", [1, 2, 7, 12, 13, 14, 20, 32, 50, 64, 97, 500, 513])
@pytest.mark.parametrize("most", [6, 12, 13])
def test_strips_cover_all_rows_with_at_most_two_heights(rows, most):
    panels = Panels.cut_at_most(rows, most)
    heights = [panels.tall] * panels.tall_count + [panels.tall - 1] * (panels.count - panels.tall_count)
    assert sum(heights) == rows
    assert max(heights) <= most
    assert min(heights) > 0


def test_unknown_width_is_refused(monkeypatch):
    monkeypatch.setenv("CAFFETOOLS_SIMD", "mmx")
    simd.width_name.cache_clear()
    with pytest.raises(ValueError, match="use one of avx512, avx2, neon, sse"):
        simd.width_name()
    monkeypatch.undo()
    simd.width_name.cache_clear()


def test_lanes_follow_the_element_type():
    assert simd.lanes_of(np.dtype(np.float32)) == 2 * simd.lanes_of(np.dtype(np.float64))
