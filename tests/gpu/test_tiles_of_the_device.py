"""The kernels of convolution with the blocks that devices run: 256 threads, tiles of up to 128 x 64.

The other tests run smaller ones, because a thread is one of Python in the simulator.
"""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest

from tests.layers.gradient import uniform
from tests.layers.test_convolution import convolve


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


@pytest.mark.slow
@pytest.mark.parametrize("each", TILES, ids=str)
def test_products(each, modules, engine):
    tiles, _ = modules
    x, w, bias, dy = uniform(*X), uniform(*W, seed=4), uniform(37, seed=5), uniform(*Y, seed=6)
    source, weights, shift, gradient, y, dx = on_device(
        engine, x, w, bias, dy, np.zeros(Y), np.full(X, np.nan)
    )
    product = tiles.GatheredProduct.forward(geometry())
    product.kernel, product.blocks = tiles.KERNELS[each], 2
    _set_tiles(product, tiles, each, 37, 2 * 25)
    product.run(weights, source, shift, y)
    expected = convolve(x, w, bias, *SHAPES, 1)
    assert expected.shape == Y
    np.testing.assert_allclose(y.copy_to_host().reshape(Y), expected, rtol=1e-4, atol=1e-5)
    product = tiles.GatheredProduct.backward(geometry())
    product.kernel, product.blocks = tiles.KERNELS[each], 2
    _set_tiles(product, tiles, each, 5, 2 * 20)
    product.run(weights, gradient, None, dx)
    # <conv x, dy> = <x, dx> for every x: the gradient is the transposed matrix.
    probe = uniform(*X, seed=9)
    np.testing.assert_allclose(
        (probe * dx.copy_to_host().reshape(X)).sum(),
        (convolve(probe, w, None, *SHAPES, 1) * dy).sum(),
        rtol=1e-4,
    )
    assert np.isfinite(dx.copy_to_host()).all()


def _set_tiles(product, tiles, each, rows, columns):
    """Let a product be cut as this tile needs it; the one that it chose for itself may be another."""
    numbers = product._shape.copy_to_host()
    numbers[-2:] = [-(-size // (tiles.SIDE * own)) for size, own in zip((rows, columns), each, strict=True)]
    product._shape.copy_to_device(numbers)


@pytest.mark.slow
@pytest.mark.parametrize("each", [(4, 4), (2, 4), (2, 2)], ids=str)
def test_weight_gradients(each, modules, engine):
    tiles, weights = modules
    x, dy = uniform(*X), uniform(*Y, seed=6)
    source, gradient, dw = on_device(engine, x, dy, np.ones(W))
    product = weights.WeightGradient(geometry(), np.float32)
    product.kernel = weights.KERNELS[each]
    numbers = product._shape.copy_to_host()
    # Three parts of 17 pixels, so that one is cut off.
    numbers[4], numbers[-1], product.parts = 17, 3, 3
    numbers[-3:-1] = [-(-size // (tiles.SIDE * own)) for size, own in zip((37, 30), each, strict=True)]
    product._shape.copy_to_device(numbers)
    engine.workspace.reserve(3 * product.weights, np.float32)
    product.blocks = 2
    product.add(source, gradient, dw)
    # <conv(x; w), dy> = <w, dw> for every w.
    for seed in (11, 12):
        w = uniform(*W, seed=seed)
        added = dw.copy_to_host().reshape(W).astype(np.float64) - 1
        np.testing.assert_allclose(
            (w * added).sum(), (convolve(x, w, None, *SHAPES, 1) * dy).sum(), rtol=1e-4, atol=1e-4
        )
