"""How the coordinates of two blobs of a net belong together, and how to crop one to the other.

    n.score = crop(n.upscore, n.data)

A layer with one scale and shift for each spatial axis maps coordinates x of its bottom to those of its top:

    x_top = a x_bottom + b        Convolution, Pooling, Im2col   a = 1 / stride, b = (pad - (k - 1) / 2) / stride
                                  Deconvolution                  a = stride,     b = (k - 1) / 2 - pad
                                  Crop                           a = 1,          b = -offset
                                  element by element             a = 1,          b = 0

where k is the size of the dilated kernel. A map is a triple (axis, a, b): the axis before the first spatial one,
None where all are, and arrays of the scales and shifts of the axes after it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from caffetools.pycaffe.net_spec import Function, Top, layers

CoordMap = tuple[int | None, Any, Any]

#: Types whose tops have the coordinates of their bottoms.
PASS_THROUGH_LAYERS = (
    "AbsVal", "BatchNorm", "Bias", "BNLL", "Clip", "Dropout", "Eltwise", "ELU", "Exp", "Log", "LRN", "MVN",
    "Power", "PReLU", "ReLU", "Scale", "Sigmoid", "Split", "Swish", "TanH", "Threshold",
)  # fmt: skip

_IDENTITY: CoordMap = (None, 1, 0)


class UndefinedMapException(Exception):
    """A layer has no map: its type is not spatial."""


class AxisMismatchException(Exception):
    """Two maps do not begin at the same axis."""


def conv_params(fn: Function) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Return the axis of the channels, the strides, the sizes of the dilated kernel, and the paddings.

    Errors: AssertionError for parameters of single axes, such as kernel_h; UndefinedMapException for a kernel
    that is as large as its bottom (global_pooling).
    """
    params = fn.params
    for message in ("convolution_param", "pooling_param"):
        params = params.get(message, params)
    legacy = {f"{name}_{axis}" for name in ("kernel", "stride", "pad") for axis in "hw"} & set(params)
    if legacy:
        raise AssertionError(
            f"cropping does not support legacy _h/_w params ({', '.join(sorted(legacy))}); use lists"
        )
    if "kernel_size" not in params:
        raise UndefinedMapException(f"a {fn.type_name} layer without a kernel_size has no map of coordinates")
    kernel, stride, pad, dilation = (
        np.array(params.get(name, default), ndmin=1)
        for name, default in (("kernel_size", None), ("stride", 1), ("pad", 0), ("dilation", 1))
    )
    return params.get("axis", 1), stride, (kernel - 1) * dilation + 1, pad


def crop_params(fn: Function) -> tuple[int, np.ndarray]:
    """Return the first axis that a Crop layer cuts, and the offsets."""
    params = fn.params.get("crop_param", fn.params)
    return params.get("axis", 2), np.array(params.get("offset", 0), ndmin=1)


def _conv_map(fn):
    axis, stride, size, pad = conv_params(fn)
    return axis, 1 / stride, (pad - (size - 1) / 2) / stride


def _deconv_map(fn):
    axis, stride, size, pad = conv_params(fn)
    return axis, stride, (size - 1) / 2 - pad


def _crop_map(fn):
    axis, offset = crop_params(fn)
    return axis - 1, 1, -offset


_MAPS: dict[str, Callable[[Function], CoordMap]] = {
    "Convolution": _conv_map,
    "Pooling": _conv_map,
    "Im2col": _conv_map,
    "Deconvolution": _deconv_map,
    "Crop": _crop_map,
    **dict.fromkeys(PASS_THROUGH_LAYERS, lambda fn: _IDENTITY),
}


def coord_map(fn: Function) -> CoordMap:
    """Return the map of a layer. Errors: UndefinedMapException where it has none."""
    if fn.type_name not in _MAPS:
        raise UndefinedMapException(f"{fn.type_name} layers have no map of coordinates")
    return _MAPS[fn.type_name](fn)


def compose(base_map: CoordMap, next_map: CoordMap) -> CoordMap:
    """Return the map x -> base(next(x)). Errors: AxisMismatchException."""
    base_axis, base_scale, base_shift = base_map
    next_axis, next_scale, next_shift = next_map
    if None not in (base_axis, next_axis) and base_axis != next_axis:
        raise AxisMismatchException(f"Maps of axes {base_axis} and {next_axis} cannot be composed")
    axis = next_axis if base_axis is None else base_axis
    return axis, base_scale * next_scale, base_scale * next_shift + base_shift


def inverse(coord_map: CoordMap) -> CoordMap:
    """Return the map back."""
    axis, scale, shift = coord_map
    return axis, 1 / scale, -shift / scale


def coord_map_from_to(top_from: Top, top_to: Top) -> CoordMap:
    """Return the map from the coordinates of one blob to those of another.

    Errors: RuntimeError where no chain of spatial layers connects them.
    """
    from_maps: dict[Top, CoordMap] = {top_from: _IDENTITY}
    _walk_back(from_maps)
    to_maps: dict[Top, CoordMap] = {top_to: _IDENTITY}
    common = _walk_back(to_maps, until=from_maps)
    if common is None:
        raise RuntimeError("Could not compute map between tops; are they connected by spatial layers?")
    return compose(to_maps[common], inverse(from_maps[common]))


def crop(top_from: Top, top_to: Top) -> Top:
    """Return a Crop layer's top: the part of `top_from` that has the coordinates of `top_to`.

    Errors: RuntimeError as above, AssertionError where the scales differ or the part is not inside.
    """
    axis, scale, shift = coord_map_from_to(top_from, top_to)
    shift = np.atleast_1d(shift)
    rounded = np.round(shift)
    if not np.all(scale == 1):
        raise AssertionError(f"scale mismatch on crop (a = {scale})")
    if not np.all(shift <= 0):
        raise AssertionError(f"cannot crop negative offset (b = {shift})")
    if not np.array_equal(rounded, shift):
        raise AssertionError(f"cannot crop noninteger offset (b = {shift})")
    first = 2 if axis is None else axis + 1
    offset = [int(-value) for value in rounded]
    return layers.Crop(top_from, top_to, crop_param={"axis": first, "offset": offset})


def _walk_back(maps: dict[Top, CoordMap], until: dict[Top, CoordMap] | None = None) -> Top | None:
    """Add the maps of all blobs that lead to the one in `maps`, or stop at the first that is in `until`."""
    frontier = deque(maps)
    while frontier:
        top = frontier.popleft()
        if until is not None and top in until:
            return top
        try:
            layer_map = coord_map(top.fn)
        except UndefinedMapException:
            continue
        # What a Crop layer is cropped to gives a size, no values.
        bottoms = top.fn.inputs[:1] if top.fn.type_name == "Crop" else top.fn.inputs
        for bottom in bottoms:
            if bottom not in maps:
                maps[bottom] = compose(maps[top], layer_map)
                frontier.append(bottom)
    return None
