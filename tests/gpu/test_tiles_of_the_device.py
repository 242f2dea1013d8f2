"""The kernels of convolution with the blocks that devices run: 256 threads, tiles of up to 128 x 64.

The other tests run smaller ones, because a thread is one of Python in the simulator.
"""

from __future__ import annotations

import importlib.util
import sys

import numba
import numpy as np
import pytest

from tests.layers.gradient import uniform
from tests.layers.test_convolution import convolve

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not numba.config.ENABLE_CUDASIM, reason="on a device the other tests run these tiles"),
]


@pytest.fixture(scope="module")
def modules(engine):
    """conv_tiles and conv_weights, loaded once more as for a device."""
    from caffetools.engine.gpu import conv_geometry, conv_tiles, conv_weights, events  # noqa: F401

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events, "simulated", lambda: False)
        loaded = []
        for name in ("conv_tiles", "conv_weights"):
            spec = importlib.util.find_spec(f"caffetools.engine.gpu.{name}")
            module = importlib.util.module_from_spec(spec)
            patch.setitem(sys.modules, spec.name, module)
            spec.loader.exec_module(module)
            loaded.append(module)
        assert loaded[0].THREADS == 256
        yield loaded


#: A stride of 2 has four classes of pixels in the data gradient; nothing divides by a tile.
X, W, Y = (2, 5, 9, 8), (37, 5, 3, 2), (2, 37, 5, 5)
SHAPES = (2, 2), (1, 1), (1, 1)
TILES = [(8, 4), (4, 4), (2, 8), (2, 4), (2, 2)]


def geometry():
    from caffetools.engine.gpu.conv_geometry import Geometry

    return Geometry.of(X, W, *SHAPES, 1)


def on_device(engine, *arrays):
    from caffetools.engine.gpu.memory import to_device

    return [to_device(engine, array.astype(np.float32)) for array in arrays]


@pytest.mark.parametrize("each", TILES, ids=str)
def test_products(each, modules, engine):
    tiles, _ = modules
    x, w, bias, dy = uniform(*X), uniform(*W, seed=4), uniform(37, seed=5), uniform(*Y, seed=6)
    source, weights, shift, gradient, y, dx = on_device(
        engine, x, w, bias, dy, np.zeros(Y), np.full(X, np.nan)
    )
    tiles.GatheredProduct.forward(geometry(), each).run(weights, source, shift, y)
    expected = convolve(x, w, bias, *SHAPES, 1)
    assert expected.shape == Y
    np.testing.assert_allclose(y.copy_to_host().reshape(Y), expected, rtol=1e-4, atol=1e-5)
    tiles.GatheredProduct.backward(geometry(), each).run(weights, gradient, None, dx)
    # <conv x, dy> = <x, dx> for every x: the gradient is the transposed matrix.
    for seed in (8, 9):
        probe = uniform(*X, seed=seed)
        projected = (convolve(probe, w, None, *SHAPES, 1) * dy).sum()
        np.testing.assert_allclose((probe * dx.copy_to_host().reshape(X)).sum(), projected, rtol=1e-4)


@pytest.mark.parametrize("each", [(4, 4), (2, 4), (2, 2)], ids=str)
def test_weight_gradients(each, modules, engine):
    _, weights = modules
    x, dy = uniform(*X), uniform(*Y, seed=6)
    source, gradient, dw = on_device(engine, x, dy, np.ones(W))
    # Parts of 17, 17 and 16 pixels, while 16 are in shared memory.
    weights.WeightGradient(geometry(), np.float32, each, 3).add(source, gradient, dw)
    added = dw.copy_to_host().reshape(W).astype(np.float64) - 1
    # <conv(x; w), dy> = <w, dw> for every w.
    for seed in (11, 12):
        w = uniform(*W, seed=seed)
        projected = (convolve(x, w, None, *SHAPES, 1) * dy).sum()
        np.testing.assert_allclose((w * added).sum(), projected, rtol=1e-4, atol=1e-4)
