"""Layers on the GPU beside the same layers on the CPU, on odd shapes, in place, with several bottoms; and gradients."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.glog import FatalError
from caffetools.layer import TEST, TRAIN
from tests.layers.gradient import SingleLayer, check_gradient, uniform

FILLER = 'filler { type: "uniform" min: 0.5 max: 1.5 }'
X = (2, 3, 5, 4)


def labels(*shape, classes=3):
    return np.random.default_rng(1).integers(0, classes, shape).astype(np.float32)


# type and settings, bottoms, options
CASES = [
    ("BatchNorm", "", [X], {}),
    ("BatchNorm", "", [X], {"in_place": True}),
    ("BatchNorm", "", [(5, 3)], {}),
    ("BatchNorm", "batch_norm_param { use_global_stats: true }", [X], {}),
    ("BatchNorm", "", [X], {"phase": TEST}),
    ("Bias", f"bias_param {{ {FILLER} }}", [X], {"in_place": True}),
    ("Bias", "bias_param { axis: 2 }", [X, (5,)], {}),
    ("Concat", "", [(2, 1, 3), (2, 2, 3), (2, 3, 3)], {}),
    ("Concat", "concat_param { axis: 0 }", [(1, 3), (2, 3)], {}),
    ("Crop", "crop_param { axis: 1 offset: 1 offset: 0 offset: 2 }", [X, (2, 2, 4, 2)], {}),
    ("Eltwise", "eltwise_param { coeff: 2 coeff: -1 coeff: 0.5 }", [X, X, X], {}),
    ("Eltwise", "", [X, X], {"in_place": True}),
    ("Eltwise", "eltwise_param { operation: PROD }", [X, X, X], {}),
    ("Eltwise", "eltwise_param { operation: PROD stable_prod_grad: false }", [X, X], {}),
    ("Eltwise", "eltwise_param { operation: MAX }", [X, X, X], {}),
    ("EuclideanLoss", "", [(3, 5), (3, 5)], {}),
    ("LRN", "lrn_param { local_size: 3 alpha: 0.5 beta: 0.6 k: 2 }", [(2, 5, 3, 2)], {}),
    ("LRN", "lrn_param { local_size: 5 alpha: 0.9 }", [(1, 2, 1, 1)], {}),
    ("LRN", "lrn_param { local_size: 3 alpha: 0.9 norm_region: WITHIN_CHANNEL }", [X], {}),
    ("MVN", "", [X], {}),
    ("MVN", "mvn_param { across_channels: true normalize_variance: false }", [X], {"in_place": True}),
    ("Pooling", "pooling_param { kernel_size: 3 stride: 2 }", [X], {}),
    ("Pooling", "pooling_param { kernel_h: 2 kernel_w: 3 stride: 2 pad: 1 }", [X], {}),
    ("Pooling", "pooling_param { kernel_size: 2 stride: 3 round_mode: FLOOR }", [X], {}),
    ("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }", [X], {}),
    ("Pooling", "pooling_param { pool: AVE global_pooling: true }", [X], {}),
    ("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 2 stride: 2 }", ["positive"], {}),
    ("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 3 stride: 2 }", ["positive"], {"phase": TEST}),
    ("Pooling", "pooling_param { kernel_size: 1 }", [(1, 1, 1, 1)], {}),
    *[("Reduction", f"reduction_param {{ operation: {kind} axis: 2 coeff: 1.5 }}", [X], {})
      for kind in ("SUM", "ASUM", "SUMSQ", "MEAN")],
    ("Scale", f"scale_param {{ {FILLER} bias_term: true }}", [X], {"in_place": True}),
    ("Scale", f"scale_param {{ {FILLER} axis: 2 num_axes: 1 }}", [X], {}),
    ("Scale", "scale_param { axis: 0 bias_term: true }", [X, (2, 3)], {}),
    ("SigmoidCrossEntropyLoss", "", [(3, 4), "targets"], {}),
    ("Slice", "slice_param { slice_point: 1 }", [X], {"tops": 2}),
    ("Tile", "tile_param { tiles: 3 axis: 2 }", [X], {}),
    ("SPP", "spp_param { pyramid_height: 2 }", [(2, 3, 5, 5)], {}),
    ("SPP", "spp_param { pyramid_height: 3 pool: AVE }", [(1, 2, 7, 6)], {}),
]  # fmt: skip

ARRAYS = {"positive": lambda: uniform(*X, low=0.1, high=1), "targets": lambda: uniform(3, 4, low=0, high=1, seed=9)}


def arrays(bottoms):
    return [
        ARRAYS[shape]() if isinstance(shape, str) else uniform(*shape, seed=3 + i) for i, shape in enumerate(bottoms)
    ]


each = pytest.mark.parametrize(
    ("kind", "settings", "bottoms", "options"), CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)]
)


@each
def test_gives_what_the_cpu_gives(kind, settings, bottoms, options, engine):
    values = arrays(bottoms)
    rigs = [
        SingleLayer(f'type: "{kind}" {settings}', *values, engine=where, **options) for where in (None, engine)
    ]
    for cpu_blob, blob in zip(*(rig.layer.blobs for rig in rigs), strict=True):
        blob.data[...] = cpu_blob.data
    wanted = [kind != "SigmoidCrossEntropyLoss" or i == 0 for i in range(len(values))]
    for _ in range(2):
        results = []
        for rig in rigs:
            tops = rig.forward()
            diffs = [uniform(*top.shape, seed=7 + i) for i, top in enumerate(tops)]
            if options.get("phase", TRAIN) == TRAIN:
                tops += rig.backward(*diffs, propagate_down=wanted)
                tops += [blob.diff.copy() for blob in rig.layer.blobs]
            results.append(tops + [blob.data.copy() for blob in rig.layer.blobs])
        for expected, actual in zip(*results, strict=True):
            np.testing.assert_allclose(actual, expected, rtol=2e-4, atol=2e-5)


SMOOTH = [case for case in CASES if case[3].get("phase", TRAIN) == TRAIN and "targets" not in case[2]]


@pytest.mark.parametrize(
    ("kind", "settings", "bottoms", "options"), SMOOTH, ids=[f"{i}-{case[0]}" for i, case in enumerate(SMOOTH)]
)
def test_gradient(kind, settings, bottoms, options, engine):
    check = [0] if kind in ("Crop",) else None
    check_gradient(
        f'type: "{kind}" {settings}', *arrays(bottoms), check=check, engine=engine, samples=5,
        check_params=kind != "BatchNorm", tolerance=1e-6, **options,
    )  # fmt: skip


LOSSES = [
    ("SoftmaxWithLoss", "", (4, 3), (4,)),
    ("HingeLoss", "", (4, 3), (4,)),
    ("HingeLoss", "hinge_loss_param { norm: L2 }", (4, 3), (4,)),
    ("MultinomialLogisticLoss", "", (4, 3), (4,)),
    ("Accuracy", "", (4, 3), (4,)),
    ("Accuracy", "accuracy_param { top_k: 2 ignore_label: 1 }", (2, 3, 4), (2, 4)),
]
each_loss = pytest.mark.parametrize(("kind", "settings", "scores", "shape"), LOSSES, ids=lambda v: str(v)[:24])


@each_loss
def test_losses_give_what_the_cpu_gives(kind, settings, scores, shape, engine):
    x, target = uniform(*scores, low=0.1, high=1), labels(*shape)
    rigs = [SingleLayer(f'type: "{kind}" {settings}', x, target, engine=where) for where in (None, engine)]
    (expected,), (actual,) = (rig.forward() for rig in rigs)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    if kind != "Accuracy":
        expected, actual = (rig.backward(0.5, propagate_down=[True, False])[0] for rig in rigs)
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


@each_loss
@pytest.mark.parametrize("wrong", [3, -1, np.nan])
def test_a_label_that_is_no_class_is_named(kind, settings, scores, shape, wrong, engine):
    target = labels(*shape)
    target.flat[2] = wrong
    rig = SingleLayer(f'type: "{kind}" {settings}', uniform(*scores, low=0.1, high=1), target, engine=engine)
    words = r"at index 2 of the batch is not one of the classes 0 to 2 \(layer 'under_test'\)"
    with pytest.raises(FatalError, match=words):
        for _ in range(8):  # the report comes with a lag
            rig.forward()
            engine.settle()


def test_an_index_without_a_row_is_named(engine):
    text = 'type: "Embed" embed_param { input_dim: 3 num_output: 2 }'
    rig = SingleLayer(text, np.array([0, 3, 1]), engine=engine)
    with pytest.raises(FatalError, match="value 3 at index 1"):
        for _ in range(8):
            rig.forward()
            engine.settle()
