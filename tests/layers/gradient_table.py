"""Every layer type with a gradient, and the conditions under which it is compared with numeric differences.

TYPES says how a type is tried; NOT_APPLICABLE gives the reason where a condition has no meaning for one, and
WITHOUT_GRADIENT for types that have none. `test_gradient_conditions.py` sees that nothing is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tests.layers.gradient import away_from, distinct, uniform

Shape = tuple[int, ...]
Bottoms = Callable[[Shape], list[np.ndarray]]

# Odd sizes; one-pixel planes with channels that are no multiple of a vector's width; a batch of one.
PLANES = ((2, 3, 5, 7), (3, 17, 1, 1), (1, 5, 4, 3))
ROWS = ((5, 7), (1, 17), (3, 1))

ANY, REFUSED = "any", "refused"


def values(low=-2.0, high=2.0, kinks=()) -> Bottoms:
    """One bottom, away from where the function has kinks."""
    return lambda shape: [away_from(kinks, *shape, low=low, high=high)]


def several(count) -> Bottoms:
    return lambda shape: [uniform(*shape, seed=i) for i in range(count)]


def apart(count=1) -> Bottoms:
    """Bottoms of positive values of which no two are near each other, for maxima."""
    return lambda shape: [distinct(*shape, seed=i) + 12 + 0.02 * i for i in range(count)]


def integers(below, *shape) -> np.ndarray:
    return np.random.default_rng(6).integers(0, below, shape)


def with_labels(make: Bottoms, axis=1) -> Bottoms:
    """Scores, and a class for each position beside `axis`."""

    def bottoms(shape):
        return [*make(shape), integers(shape[axis], *shape[:axis], *shape[axis + 1 :])]

    return bottoms


@dataclass(frozen=True)
class Case:
    """How a type is tried.

    bottoms: makes them for a shape. variants: settings, the first of which are those of most tests; each is tried
    with the first of `shapes`. later: a shape that follows the first, None where it cannot change. check: the bottoms
    with a gradient. in_place: ANY variant may, some variants, or REFUSED. more: bottoms and the number of tops where
    there are more than usual. learns: whether parameters have gradients.
    """

    bottoms: Bottoms = several(1)
    variants: Sequence[str] = ("",)
    shapes: Sequence[Shape] = PLANES
    later: Shape | None = (3, 3, 4, 2)
    check: Sequence[int] = (0,)
    tops: int = 1
    in_place: str | Sequence[str] = REFUSED
    more: tuple[Bottoms, int] | None = None
    more_check: Sequence[int] = (0, 1)
    learns: bool = False
    tolerance: float = 1e-7


GAUSS = 'weight_filler { type: "gaussian" } bias_filler { type: "gaussian" }'
FILLER = 'filler { type: "gaussian" }'


def settings(message, *texts):
    return tuple(f"{message} {{ {text} }}" for text in texts)


def filters(*texts):
    return tuple(f"convolution_param {{ {text} {GAUSS} }}" for text in texts)


CONVOLUTION = Case(
    variants=filters(
        "num_output: 5 kernel_size: 3 pad: 1", "num_output: 5 kernel_size: 3 bias_term: false",
        "num_output: 6 kernel_size: 3 pad: 1 group: 3", "num_output: 3 kernel_size: 3 pad: 1 group: 3",
        "num_output: 4 kernel_h: 2 kernel_w: 3 stride_h: 1 stride_w: 2 pad_h: 1 pad_w: 0",
        "num_output: 4 kernel_size: 3 dilation: 2 pad: 2", "num_output: 17 kernel_size: 1",
        "num_output: 4 kernel_size: 2 stride: 2 axis: 0",
    ),
    more=(several(3), 3), more_check=(0, 1, 2), learns=True,
)  # fmt: skip
LOSS = Case(with_labels(values()), shapes=ROWS, later=(2, 9))
NORMS = settings(
    "loss_param",
    "",
    "ignore_label: 1",
    "normalization: FULL ignore_label: 1",
    "normalization: NONE",
    "normalize: false",
)


def sequence(shape, static=()):
    """x, cont with starts in the middle, and maybe a static input."""
    steps, streams = shape[:2]
    cont = (np.random.default_rng(5).random((steps, streams)) < 0.7).astype(float)
    return [uniform(*shape), cont, *(uniform(streams, size, seed=2) for size in static)]


RECURRENT = Case(
    sequence, settings("recurrent_param", f"num_output: 5 {GAUSS}", f"num_output: 1 {GAUSS}"),
    shapes=((3, 5, 7), (1, 1, 17), (4, 1, 1)), later=(3, 2, 7),
    more=(lambda shape: sequence(shape, static=(3,)), 1), more_check=(0, 2), learns=True,
)  # fmt: skip


def unit(shape):
    n, hidden = shape
    cont = (np.random.default_rng(5).random((1, n)) < 0.7).astype(float)
    return [uniform(1, n, hidden), uniform(1, n, 4 * hidden, seed=1), cont]


def scores_and_matrix(shape):
    classes = shape[1]
    return [*with_labels(values())(shape), uniform(classes, classes, low=0, high=2, seed=4)]


def selected(count):
    """Some bottoms, and which of their rows are let through."""
    return lambda shape: [*several(count)(shape), (np.arange(shape[0]) % 3 != 1).astype(float)]


def cut(shape):
    return [uniform(*shape), uniform(*shape[:2], *(max(1, size - 2) for size in shape[2:]))]


TYPES: dict[str, Case] = {
    "AbsVal": Case(values(kinks=[0])),
    "BNLL": Case(values(), in_place=ANY),
    "BatchNorm": Case(
        values(0, 3),
        settings("batch_norm_param", "", "eps: 0.5", "use_global_stats: true eps: 0.1"),
        in_place=ANY, tolerance=1e-6,
    ),
    "BatchReindex": Case(
        lambda shape: [uniform(*shape), integers(shape[0], shape[0] + 2)], shapes=((4, 3, 5), (1, 17), (3, 1, 1, 1)),
        later=(3, 2, 2),
    ),
    "Bias": Case(
        variants=settings(
            "bias_param", FILLER, f"{FILLER} axis: 0 num_axes: 2", f"{FILLER} axis: -2 num_axes: -1",
            f"{FILLER} num_axes: 0",
        ),
        in_place=ANY, more=(lambda shape: [uniform(*shape), uniform(shape[1], seed=2)], 1), learns=True,
    ),
    "Clip": Case(
        values(kinks=[-0.5, 0.8]), settings("clip_param", "min: -0.5 max: 0.8"), in_place=ANY
    ),
    "Concat": Case(
        several(2), settings("concat_param", "", "axis: 0", "axis: -1", "concat_dim: 2"), check=(0, 1),
        more=(several(3), 1), more_check=(0, 1, 2),
    ),
    "ContrastiveLoss": Case(
        lambda shape: [uniform(*shape), uniform(*shape, seed=1), integers(2, shape[0])],
        settings("contrastive_loss_param", "legacy_version: true", "legacy_version: true margin: 2", "margin: 2"),
        shapes=ROWS, later=(2, 9), check=(0, 1),
        tolerance=1e-3,  # without legacy_version: the original adds 1e-4 to the distance
    ),
    "Convolution": CONVOLUTION,
    "Crop": Case(
        cut, settings("crop_param", "", "offset: 1", "axis: 3", "axis: 1 offset: 0 offset: 2 offset: 1"), check=(0, 1)
    ),
    "Deconvolution": CONVOLUTION,
    "Dropout": Case(variants=settings("dropout_param", "", "dropout_ratio: 0.1"), in_place=ANY),
    "ELU": Case(values(kinks=[0]), settings("elu_param", "", "alpha: 0.3", "alpha: -0.5"), in_place=ANY),
    "Eltwise": Case(
        apart(2),
        settings(
            "eltwise_param", "", "coeff: 2 coeff: -0.5", "operation: MAX", "operation: PROD",
            "operation: PROD stable_prod_grad: false",
        ),
        check=(0, 1), more=(apart(3), 1), more_check=(0, 1, 2),
        in_place=settings("eltwise_param", "", "coeff: 2 coeff: -0.5", "operation: MAX"), tolerance=1e-6,
    ),
    "Embed": Case(
        lambda shape: [integers(4, *shape)],
        settings("embed_param", *(f"num_output: 5 input_dim: 4 bias_term: {b} {GAUSS}" for b in ("true", "false"))),
        shapes=((5,), (1,), (3, 1, 1)), later=(2, 3), check=(), learns=True,
    ),
    "EuclideanLoss": Case(several(2), shapes=ROWS, later=(2, 9), check=(0, 1)),
    "Exp": Case(variants=settings("exp_param", "", "base: 2 scale: 0.5 shift: 0.3", "base: 0.5"), in_place=ANY),
    "Filter": Case(selected(1), more=(selected(2), 2)),
    "Flatten": Case(variants=settings("flatten_param", "", "axis: 0", "axis: 1 end_axis: 2")),
    "HingeLoss": Case(
        with_labels(values(kinks=[-1, 1])), settings("hinge_loss_param", "", "norm: L2"), shapes=ROWS, later=(2, 9)
    ),
    "Im2col": Case(
        variants=settings(
            "convolution_param", "kernel_size: 3 pad: 1", "kernel_h: 1 kernel_w: 4 pad_w: 3 stride: 2",
            "kernel_size: 2 dilation: 2", "kernel_size: 2 axis: 0",
        )
    ),
    "InfogainLoss": Case(
        scores_and_matrix, ("", *NORMS[1:4], "infogain_loss_param { axis: -1 }"), shapes=ROWS, later=(2, 9)
    ),
    "InnerProduct": Case(
        variants=settings(
            "inner_product_param", f"num_output: 3 {GAUSS}", f"num_output: 17 bias_term: false {GAUSS}",
            f"num_output: 3 transpose: true {GAUSS}", f"num_output: 3 transpose: true bias_term: false {GAUSS}",
            f"num_output: 5 axis: 2 {GAUSS}", f"num_output: 5 axis: -1 {GAUSS}",
        ),
        later=(4, 3, 5, 7), learns=True,
    ),
    "LRN": Case(
        values(-3, 3),
        settings(
            "lrn_param", "", "local_size: 3 alpha: 0.5 k: 2", "beta: 0.5", "norm_region: WITHIN_CHANNEL",
            "norm_region: WITHIN_CHANNEL local_size: 3 alpha: 2 beta: 1.3",
        ),
    ),
    "LSTM": RECURRENT,
    "LSTMUnit": Case(unit, shapes=ROWS, later=(2, 9), tops=2, check=(0, 1)),
    "Log": Case(
        values(0.5, 3), settings("log_param", "", "base: 10 scale: 2 shift: 0.5"), in_place=ANY
    ),
    "MVN": Case(
        values(-1, 4),
        settings("mvn_param", "", "across_channels: true", "normalize_variance: false eps: 0.5"),
        shapes=(*PLANES[::2], (3, 17, 1, 2)), in_place=ANY, tolerance=1e-6,
    ),
    "MultinomialLogisticLoss": Case(with_labels(values(0.1, 1)), shapes=ROWS, later=(2, 9)),
    "PReLU": Case(
        values(kinks=[0]),
        settings("prelu_param", FILLER, f"channel_shared: true {FILLER}", "filler { value: -0.5 }"),
        in_place=ANY, learns=True,
    ),
    "Parameter": Case(
        lambda shape: [],
        settings("parameter_param", "shape { dim: 3 dim: 5 }", "shape { dim: 1 }", "shape { }"),
        shapes=((),), later=None, check=(), learns=True,
    ),
    "Pooling": Case(
        apart(),
        settings(
            "pooling_param",
            *(f"pool: {pool} kernel_size: 3 stride: 2 pad: 1" for pool in ("MAX", "AVE")),
            *(f"pool: {pool} kernel_size: 2 stride: 2" for pool in ("MAX", "AVE", "STOCHASTIC")),
            *(f"pool: {pool} global_pooling: true" for pool in ("MAX", "AVE", "STOCHASTIC")),
            *(f"pool: {pool} kernel_h: 2 kernel_w: 3 stride: 2 round_mode: FLOOR" for pool in ("MAX", "AVE")),
        ),
    ),
    "Power": Case(
        values(0.5, 3),
        settings(
            "power_param", "power: 2 scale: 0.5 shift: 1", "power: -1.25", "power: 1 scale: -3", "power: 0", "power: 3"
        ),
        in_place=ANY,
    ),
    "Python": Case(
        variants=settings(
            "python_param", "module: 'tests.layers.python_layers' layer: 'Affine'",
            "module: 'tests.layers.python_layers' layer: 'Times'",
        ),
        later=(3, 3, 4, 7), learns=True,
    ),
    "RNN": RECURRENT,
    "ReLU": Case(
        values(kinks=[0]), settings("relu_param", "", "negative_slope: 0.1", "negative_slope: -0.5"), in_place=ANY
    ),
    "Reduction": Case(
        values(kinks=[0]),
        settings(
            "reduction_param", *(f"operation: {op} axis: 1 coeff: 3" for op in ("ASUM", "SUM", "SUMSQ", "MEAN")),
            "axis: 0", "axis: -1 operation: MEAN",
        ),
    ),
    "Reshape": Case(
        variants=settings(
            "reshape_param", "shape { dim: 0 dim: -1 }", "shape { dim: -1 }", "axis: 1 num_axes: 2 shape { dim: -1 }"
        )
    ),
    "SPP": Case(
        apart(),
        settings(
            "spp_param", "pyramid_height: 1", "pyramid_height: 2", "pyramid_height: 2 pool: AVE",
            "pyramid_height: 1 pool: STOCHASTIC",
        ),
    ),
    "Scale": Case(
        variants=settings(
            "scale_param", f"{FILLER} bias_term: true bias_{FILLER}", FILLER, f"{FILLER} axis: 0 num_axes: 2",
            f"{FILLER} axis: -2 num_axes: -1 bias_term: true", f"{FILLER} num_axes: 0",
        ),
        in_place=ANY, more=(lambda shape: [uniform(*shape), uniform(shape[1], seed=2)], 1), learns=True,
    ),
    "Sigmoid": Case(values(-3, 3), in_place=ANY),
    "SigmoidCrossEntropyLoss": Case(
        lambda shape: [uniform(*shape, low=-3, high=3), integers(3, *shape) / 2],
        ("", *NORMS[1:], "loss_param { normalization: VALID }"), shapes=ROWS, later=(2, 9),
    ),
    "Silence": Case(tops=0, more=(several(2), 0)),
    "Slice": Case(
        variants=settings("slice_param", "slice_point: 1", "axis: 0 slice_point: 1", "axis: -1 slice_point: 2"),
        shapes=((2, 3, 5), (1, 17, 1, 1), (3, 2, 1, 1)), later=(3, 4, 2), tops=2,
    ),
    "Softmax": Case(variants=settings("softmax_param", "", "axis: 0", "axis: -1"), in_place=ANY),
    "SoftmaxWithLoss": Case(
        with_labels(values()), NORMS, shapes=((2, 3, 5, 7), (3, 17, 1, 1), (1, 5), (4, 1)), later=(3, 4, 2, 3)
    ),
    "Split": Case(tops=3),
    "Swish": Case(values(-3, 3), settings("swish_param", "", "beta: 1.7"), in_place=ANY),
    "TanH": Case(in_place=ANY),
    "Tile": Case(variants=settings("tile_param", "tiles: 3", "tiles: 2 axis: 0", "tiles: 2 axis: -1")),
}  # fmt: skip

WITHOUT_GRADIENT = {
    "Accuracy": "it counts",
    "ArgMax": "its top holds indices",
    "Data": "it has no bottom",
    "DummyData": "it has no bottom",
    "HDF5Data": "it has no bottom",
    "HDF5Output": "it has no top",
    "ImageData": "it has no bottom",
    "Input": "it has no bottom",
    "MemoryData": "it has no bottom",
    "Threshold": "it is constant wherever it has a derivative",
    "WindowData": "it has no bottom",
}

#: condition -> type -> why the condition means nothing for it.
NOT_APPLICABLE: dict[str, dict[str, str]] = {
    "in place": {
        "Parameter": "it has no bottom to overwrite",
        "Python": "that is for the user's class to say",
        "Silence": "it has no top",
        "Split": "nets make it themselves, with tops of their own",
    },
    "several bottoms": {"Python": "that is for the user's class to say"},
    "loss weights": {"Silence": "it has no top"},
    "propagate_down": {
        "Flatten": "its gradient is the top's, shared and not computed",
        "Reshape": "its gradient is the top's, shared and not computed",
    },
    "reshaping": {"Parameter": "its shape is that of the prototxt"},
}
