"""Single layers under test: build one from a prototxt snippet, run it, and check its gradient numerically.

The check is in float64: the objective is a random projection of the tops, `sum(weights * top)`, so that the
analytic gradient comes from one backward pass with `top.diff = weights`, and the numeric one from central
differences.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from google.protobuf import text_format

from caffetools.engine.cpu.rng import RandomSource
from caffetools.layer import TRAIN, Context
from caffetools.layers import layer_class
from caffetools.net import twins
from caffetools.proto import caffe_pb2


class SingleLayer:
    """One layer with its blobs, as a net would drive it.

    text: the inside of a `layer { ... }`. bottoms: the arrays that every forward pass starts from.
    in_place: top 0 is bottom 0. dtype: float32, or float64 for gradients. engine: a GPU's, for the layer's twin there.
    """

    def __init__(
        self, text, *bottoms, tops=1, in_place=False, phase=TRAIN, dtype=np.float32, seed=1, engine=None
    ):
        param = text_format.Parse(text, caffe_pb2.LayerParameter())
        param.name = param.name or "under_test"
        context = Context(phase=phase, dtype=np.dtype(dtype), random=RandomSource(seed), engine=engine)
        self.layer = layer_class(param.type)(param, context)
        self.values = [np.asarray(values, dtype) for values in bottoms]
        self.bottom = [context.blob(values.shape) for values in self.values]
        self.top = [self.bottom[0] if in_place and i == 0 else context.blob() for i in range(tops)]
        self._load()
        self.layer.check_blob_counts(self.bottom, self.top)
        self.layer.setup(self.bottom, self.top)
        self.layer.param_propagate_down = [True] * len(self.layer.blobs)
        self.layer.reshape(self.bottom, self.top)
        self._reshape, self._forward, self._backward = self.layer.reshape, self.layer.forward, self.layer.backward
        if engine is not None:
            self._reshape, self._forward, self._backward = twins.functions(
                self.layer, twins.twin_of(self.layer), self.bottom, self.top
            )

    def _load(self):
        for blob in self.layer.blobs:
            # Whoever holds the array may have written into it: asking for it makes the host's side the newest.
            _ = blob.data
        for blob, values in zip(self.bottom, self.values, strict=True):
            blob.data[...] = values

    def reshape(self, *bottoms):
        """Go on with bottoms of other shapes."""
        self.values = [
            np.asarray(values, blob.dtype) for values, blob in zip(bottoms, self.bottom, strict=True)
        ]
        for blob, values in zip(self.bottom, self.values, strict=True):
            blob.reshape(values.shape)
        self._reshape(self.bottom, self.top)

    def forward(self) -> list[np.ndarray]:
        """Run forward from `values` and return copies of the tops."""
        self._load()
        if self.layer.reshape_every_forward:
            self._reshape(self.bottom, self.top)
        self._forward(self.bottom, self.top)
        return [blob.data.copy() for blob in self.top]

    def backward(self, *diffs, propagate_down: Sequence[bool] | None = None) -> list[np.ndarray]:
        """Run backward from the tops' `diffs` and return copies of the bottoms' diffs.

        The bottoms' diffs are NaN before: a layer must overwrite them.
        """
        for blob in self.bottom:
            blob.diff[...] = np.nan
        for blob, diff in zip(self.top, diffs, strict=True):
            blob.diff[...] = diff
        self._backward(self.top, propagate_down or [True] * len(self.bottom), self.bottom)
        return [blob.diff.copy() for blob in self.bottom]


def check_gradient(
    text: str,
    *bottoms: np.ndarray,
    check: Sequence[int] | None = None,
    params: Sequence[np.ndarray] | None = None,
    check_params: bool = True,
    every_top: bool = False,
    step: float = 1e-5,
    tolerance: float = 1e-7,
    samples: int = 120,
    seed: int = 7,
    earlier: Sequence[np.ndarray] | None = None,
    **options,
) -> None:
    """Assert that backward is the derivative of forward, for bottoms and parameters.

    check: the bottoms to check (default: all). params: values of the parameters instead of the fillers'.
    check_params: whether the parameters have gradients. every_top: check the gradient of every element of
    top 0 alone, not of one random projection. tolerance: of the difference, relative to the larger of 1 and
    the gradient's magnitude. samples: coordinates looked at in each blob, all of them where it has fewer.
    earlier: bottoms of other shapes that pass through forward and backward before. options: those of SingleLayer.
    """
    random = np.random.default_rng(seed)
    check = range(len(bottoms)) if check is None else check
    rig = SingleLayer(text, *(bottoms if earlier is None else earlier), dtype=np.float64, **options)
    if earlier is not None:
        wanted = [i in check for i in range(len(bottoms))]
        rig.backward(*(np.ones_like(top) for top in rig.forward()), propagate_down=wanted)
        rig.reshape(*bottoms)
    for blob, values in zip(rig.layer.blobs, params or [], strict=False):
        blob.data[...] = values
    # A random layer has to draw the same numbers in every pass.
    state = rig.layer.get_state()

    def forward():
        if state is not None:
            rig.layer.set_state(state)
        return rig.forward()

    for weights in _projections(forward(), random, every_top):
        targets = _analytic(rig, forward, weights, check, check_params, random)
        for what, values, gradient in targets:
            for index in random.permutation(values.size)[:samples]:
                numeric = _central_difference(forward, values.reshape(-1), index, weights, step)
                exact = gradient.reshape(-1)[index]
                assert abs(numeric - exact) <= tolerance * max(1.0, abs(exact)), (
                    f"{what}, element {np.unravel_index(index, values.shape)}: "
                    f"backward gives {exact!r}, differences give {numeric!r}"
                )


def _projections(tops, random, every_top):
    if not every_top:
        return [[random.uniform(0.5, 1.5, top.shape) * random.choice([-1, 1], top.shape) for top in tops]]
    units = np.eye(tops[0].size).reshape(-1, *tops[0].shape)
    return [[unit] + [np.zeros_like(top) for top in tops[1:]] for unit in units]


def _analytic(rig, forward, weights, check, check_params, random):
    """Return (name, values to move, gradient) of all that is checked."""
    offsets = [random.standard_normal(blob.shape) for blob in rig.layer.blobs]
    for blob, offset in zip(rig.layer.blobs, offsets, strict=True):
        blob.diff[...] = offset
    forward()
    diffs = rig.backward(*weights, propagate_down=[i in check for i in range(len(rig.bottom))])
    targets = [(f"bottom {i}", rig.values[i], diffs[i]) for i in check]
    if check_params:
        # A parameter's gradient is added to what its diff holds.
        for i, (blob, offset) in enumerate(zip(rig.layer.blobs, offsets, strict=True)):
            targets.append((f"parameter {i}", blob.data, blob.diff - offset))
    return targets


def _central_difference(forward, values, index, weights, step):
    original = values[index]
    values[index] = original + step
    after = forward()
    values[index] = original - step
    before = forward()
    values[index] = original
    # Differences first: the tops may be large beside what the step changes in them.
    return sum((w * (a - b)).sum() for w, a, b in zip(weights, after, before, strict=True)) / (2 * step)


def uniform(*shape: int, low=-1.0, high=1.0, seed=3) -> np.ndarray:
    """Return random values in [low, high)."""
    return np.random.default_rng(seed).uniform(low, high, shape)


def away_from(points: Sequence[float], *shape: int, gap=0.05, low=-1.0, high=1.0, seed=3) -> np.ndarray:
    """Return random values that keep a distance from the points where a function has a kink."""
    values = uniform(*shape, low=low, high=high, seed=seed)
    for point in points:
        near = np.abs(values - point) < gap
        values[near] = point + np.where(values[near] < point, -gap, gap)
    return values


def distinct(*shape: int, gap=0.05, seed=3) -> np.ndarray:
    """Return values around zero in random order, any two of them at least `gap` apart (for maxima)."""
    count = int(np.prod(shape))
    return (np.random.default_rng(seed).permutation(count).reshape(shape) - count / 2) * gap
