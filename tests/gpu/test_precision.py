"""Products in half precision: operands rounded to 16 bits, sums in float32."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.proto import caffe_pb2
from caffetools.tools import engines
from tests.layers.gradient import SingleLayer, uniform

#: Significant bits, and the exponent of the smallest numbers that have all of them.
FORMATS = {"FLOAT16": (11, -14), "BFLOAT16": (8, -126)}
NUMBERS = np.array(
    [
        0,
        -0.0,
        1,
        1 + 2**-11,
        1 + 3 * 2**-11,
        1 + 2**-8,
        1 + 3 * 2**-8,
        -1 / 3,
        1e-6,
        7e-5,
        3e4,
        np.inf,
        -np.inf,
        np.nan,
    ]
    + [1 + 2**-8 + 2**-23, 2**-130, 255.75]
)


def nearest(values, name):
    """Return the nearest numbers of a format, ties to even, by arithmetic in float64."""
    digits, least = FORMATS[name]
    _, exponent = np.frexp(values)
    step = np.exp2(np.maximum(exponent, least + 1) - digits)
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(values), np.round(values / step) * step, values)


@pytest.fixture(params=FORMATS)
def half(request, engine):
    """The name of a format in which the engine computes meanwhile."""
    engine.precision = request.param
    yield request.param
    engine.precision = "FLOAT32"


def test_rounding(half, engine):
    from caffetools.engine.gpu import precision
    from caffetools.engine.gpu.memory import device_array, to_device

    x = np.concatenate([NUMBERS, uniform(40, low=-9, high=9)]).astype(np.float32)
    expected = nearest(x.astype(np.float64), half)[1:]
    source = to_device(engine, x)
    (rounded,) = precision.rounded(engine, (source, 1, x.size - 1))
    np.testing.assert_array_equal(rounded.copy_to_host()[: x.size - 1], expected.astype(np.float32))
    (bits,) = precision.halved(engine, (source, 0, x.size))
    assert bits.dtype.itemsize == 2
    wide = device_array(engine, x.size - 1, np.float32)
    precision.widen(engine, bits, 1, wide)
    np.testing.assert_array_equal(wide.copy_to_host(), expected.astype(np.float32))


@pytest.mark.parametrize("way", ["gemm", "tiled"])
def test_products(way, half, engine, monkeypatch):
    from caffetools.engine.gpu import gemm, precision
    from caffetools.engine.gpu.memory import to_device

    if way == "tiled":
        monkeypatch.setattr(gemm, "_product", lambda: (gemm.tiled, precision.rounded))
    a, b = uniform(2, 5, 6), uniform(6, 4, seed=4)
    c = np.full((2, 5, 4), 0.25, np.float32)
    arrays = to_device(engine, np.append(0, a).astype(np.float32)), to_device(engine, b.astype(np.float32))
    target = to_device(engine, c)
    gemm.gemm(False, False, 5, 4, 6, 2, *arrays, 1, target, starts=(1, 0, 0), batch=2, steps=(30, 0, 20))
    expected = 2 * (nearest(a.astype(np.float32), half) @ nearest(b.astype(np.float32), half)) + c
    np.testing.assert_allclose(target.copy_to_host().reshape(c.shape), expected, rtol=1e-5, atol=1e-6)
    assert abs(expected - (2 * a @ b + c)).max() > 1e-4  # which float32 would not do


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ("num_output: 4 kernel_size: 3 stride: 2 pad: 1", (2, 3, 6, 5)),
        ("num_output: 4 kernel_size: 3 group: 4", (1, 4, 5, 4)),
        ("num_output: 2 kernel_size: 2", (2, 2, 3, 3, 4)),
    ],
)
def test_convolution(kind, settings, shape, half, engine):
    """As float32 with operands that were rounded before."""
    settings += " engine: CAFFE"  # cuDNN may round its results
    text = f'type: "{kind}" convolution_param {{ {settings} weight_filler {{ type: "gaussian" }} }}'
    results = []
    for where, change in ((engine, np.asarray), (None, lambda values: nearest(values, half))):
        rig = SingleLayer(text, change(uniform(*shape).astype(np.float32)), engine=where)
        weights = rig.layer.blobs[0]
        weights.data[...] = change(weights.data.copy())
        (y,) = rig.forward()
        (dx,) = rig.backward(change(uniform(*y.shape, seed=5).astype(np.float32)))
        results.append((y, dx, weights.diff.copy()))
    for mine, other in zip(*results, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)


def test_float64_stays_as_it_is(half, engine):
    text = 'type: "InnerProduct" inner_product_param { num_output: 3 weight_filler { type: "gaussian" } }'
    rig = SingleLayer(text, uniform(4, 5), dtype=np.float64, engine=engine)
    (y,) = rig.forward()
    w, b = (blob.cpu_data for blob in rig.layer.blobs)
    np.testing.assert_allclose(y, uniform(4, 5) @ w.T + b, rtol=1e-12)


@pytest.mark.parametrize("param", [None, caffe_pb2.SolverParameter()], ids=["test", "train"])
def test_tf32_is_allowed_by_its_flag_only(param, engine):
    for allowed in (True, False):
        assert engines.choose("0", param, tf32=allowed).tf32 == allowed
