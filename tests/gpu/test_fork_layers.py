"""Filter and the layers of forks on the GPU: what the CPU gives, their gradients, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.glog import FatalError
from caffetools.layer import TEST, TRAIN
from tests.layers.fork_tables import with_places
from tests.layers.gradient import SingleLayer, away_from, check_gradient, uniform

X = (2, 6, 3, 4)
BN = "slope_filler { type: 'gaussian' } bias_filler { type: 'gaussian' }"
SEGNET = "scale_filler { type: 'gaussian' }"
OWN_SCALES = "channel_shared: false scale_filler { type: 'gaussian' }"
SELECTOR = np.array([1.0, 0, 2, 1])


def some(count, *shape):
    return [uniform(*shape, seed=3 + i) for i in range(count)]


# text, bottoms, those with a gradient, options
CASES = [
    ('type: "Filter"', [*some(2, 4, 3), SELECTOR], [0, 1], {"tops": 2}),
    ('type: "Filter"', [uniform(4), np.zeros(4)], [0], {}),
    *[(f'type: "Permute" permute_param {{ {order} }}', some(1, *X), [0], {})
      for order in ("order: [0, 2, 3, 1]", "order: [3, 0]", "")],
    ('type: "ShuffleChannel" shuffle_channel_param { group: 3 }', some(1, *X), [0], {}),
    ('type: "ReLU6"', [away_from([0, 6], *X, low=-3, high=9)], [0], {}),
    ('type: "ReLU6"', [away_from([0, 6], *X, low=-3, high=9)], [0], {"in_place": True}),
    ('type: "Axpy"', [uniform(2, 6), *some(2, *X)], [0, 1, 2], {}),
    *[(f'type: "BN" bn_param {{ {text} }}', some(1, *X), [0], {**options, "in_place": in_place})
      for in_place in (False, True)
      for text, options in ((BN, {}), (BN, {"phase": TEST}), (BN + " frozen: true", {}), (SEGNET, {}),
                            (SEGNET + " bn_mode: INFERENCE", {}))],
    *[(f'type: "Normalize" norm_param {{ {text} }}', some(1, *X), [0], {})
      for text in ("", "across_spatial: false", OWN_SCALES, f"across_spatial: false {OWN_SCALES}")],
    *[(f'type: "SmoothL1Loss" smooth_l1_loss_param {{ sigma: {sigma} }}', some(count, 3, 5), [0, 1], {})
      for sigma in (0.7, 3) for count in (2, 3, 4)],
    ('type: "Upsample" upsample_param { scale: 3 }', some(1, 2, 3, 2, 3), [0], {}),
    ('type: "Upsample" upsample_param { scale_h: 2 scale_w: 3 }', some(1, 1, 2, 3, 2), [0], {}),
    ('type: "Upsample" upsample_param { scale: 2 }', with_places((2, 3, 2, 3)), [0], {}),
    *[(f'type: "Interp" interp_param {{ {text} }}', some(1, 2, 2, 4, 5), [0], {})
      for text in ("height: 7 width: 9", "zoom_factor: 3", "shrink_factor: 2", "pad_beg: -1 height: 5 width: 2",
                   "height: 1 width: 1")],
]  # fmt: skip
IDS = [f"{i}-{case[0].split(chr(34))[1]}" for i, case in enumerate(CASES)]


@pytest.mark.parametrize(("text", "bottoms", "wanted", "options"), CASES, ids=IDS)
def test_gives_what_the_cpu_gives(text, bottoms, wanted, options, engine):
    rigs = [SingleLayer(text, *bottoms, engine=where, **options) for where in (None, engine)]
    for ours, theirs in zip(*(rig.layer.blobs for rig in rigs), strict=True):
        theirs.data[...] = ours.data
    propagate_down = [i in wanted for i in range(len(bottoms))]
    for _ in range(2):
        results = []
        for rig in rigs:
            tops = rig.forward()
            diffs = [uniform(*top.shape, seed=7 + i) for i, top in enumerate(tops)]
            below = rig.backward(*diffs, propagate_down=propagate_down)
            diffs = [blob.diff.copy() for blob in rig.layer.blobs]
            results.append([*tops, *(below[i] for i in wanted), *diffs, *(b.data.copy() for b in rig.layer.blobs)])
        for expected, actual in zip(*results, strict=True):
            np.testing.assert_allclose(actual, expected, rtol=2e-4, atol=2e-5)


SMOOTH = [(case, name) for case, name in zip(CASES, IDS, strict=True)
          if case[3].get("phase", TRAIN) == TRAIN and "Filter" not in name and "frozen" not in case[0]]  # fmt: skip


@pytest.mark.parametrize("case", [case for case, _ in SMOOTH], ids=[name for _, name in SMOOTH])
def test_gradient(case, engine):
    text, bottoms, wanted, options = case
    learns = not any(kind in text for kind in ("BN",))
    check_gradient(
        text, *bottoms, check=wanted, engine=engine, samples=4, tolerance=1e-6, check_params=learns, **options
    )


def test_the_rows_that_a_filter_chooses_change(engine):
    x, selector = uniform(4, 3), SELECTOR.copy()
    rig = SingleLayer('type: "Filter"', x, selector, engine=engine)
    for chosen in ([0, 1], [0, 1, 2, 3], [], [3]):
        rig.values[1] = np.isin(np.arange(4), chosen).astype(float)
        (y,) = rig.forward()
        np.testing.assert_array_equal(y, np.float32(x)[chosen])


def test_places_that_meet_keep_the_last(engine):
    x, places = uniform(1, 1, 2, 3), np.array([4, 0, 4, 4, 11, 0.0]).reshape(1, 1, 2, 3)
    text = 'type: "Upsample" upsample_param { scale: 2 }'
    (here,), (there,) = (SingleLayer(text, x, places, engine=where).forward() for where in (engine, None))
    np.testing.assert_array_equal(here, there)


@pytest.mark.parametrize("wrong", [24, -1, np.nan])
def test_a_place_that_is_none_is_named(wrong, engine):
    x, places = with_places((2, 3, 2, 3))
    places.flat[2] = wrong
    rig = SingleLayer('type: "Upsample" upsample_param { scale: 2 }', x, places, engine=engine)
    with pytest.raises(FatalError, match=f"index {wrong:g} out of range .element 2 of the indices; .* 24 elements"):
        for _ in range(8):  # the report comes with a lag
            rig.forward()
            engine.settle()
