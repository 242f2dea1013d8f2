"""What Scale and Bias have in common: an array that spans some axes of a blob and repeats over the others."""

from __future__ import annotations

from dataclasses import dataclass

from caffetools.blob import Blob
from caffetools.glog import check, check_eq
from caffetools.layer import Layer


@dataclass(frozen=True)
class Spans:
    """A blob seen from an array that spans its middle axes: (outer, size, inner)."""

    outer: int
    size: int
    inner: int


def parameter_shape(layer: Layer, bottom: Blob, axis: int, num_axes: int, what: str) -> tuple[int, ...]:
    """Return the shape of a learnt array: `num_axes` axes of the bottom from `axis` on, -1 for all of them.

    what: "scale" or "bias", for messages.
    """
    axis = bottom.canonical_axis(axis)
    words = f"num_axes must be non-negative, or -1 to extend to the end of bottom[0] (layer '{layer.name}')"
    check(num_axes >= -1, f"num_axes >= -1 ({num_axes} vs. -1)", words)
    if num_axes == -1:
        return bottom.shape[axis:]
    _check_fits(layer, bottom, axis, num_axes, what)
    return bottom.shape[axis : axis + num_axes]


def spans(layer: Layer, bottom: Blob, array: Blob, axis: int, what: str) -> Spans:
    """Return how `array` lies in the bottom when its first axis is the bottom's axis `axis`."""
    # A scalar may stand anywhere; at the first axis all of the bottom is one piece.
    axis = bottom.canonical_axis(axis) if array.shape else 0
    _check_fits(layer, bottom, axis, len(array.shape), what)
    for i, size in enumerate(array.shape):
        check_eq(
            bottom.shape[axis + i],
            size,
            f"bottom[0]->shape(axis_ + i) == {what}->shape(i)",
            f"dimension mismatch between bottom[0]->shape({axis + i}) and {what}->shape({i}) "
            f"(layer '{layer.name}')",
        )
    return Spans(bottom.count_from(0, axis), array.count, bottom.count_from(axis + len(array.shape)))


def _check_fits(layer, bottom, axis, axes, what):
    check(
        len(bottom.shape) >= axis + axes,
        f"bottom[0]->num_axes() >= axis_ + num_axes ({len(bottom.shape)} vs. {axis + axes})",
        f"{what} blob's shape extends past bottom[0]'s shape when applied starting with bottom[0] axis = "
        f"{axis} (layer '{layer.name}')",
    )
