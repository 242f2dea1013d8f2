"""Concat: the bottoms one after another along `axis` (default 1); all their other axes agree.

dx of every bottom is its part of dy. Where the axes before `axis` have one element in all, a bottom is one piece of
the top: a net may let it lie there, and there is nothing to copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numba
import numpy as np

from caffetools.blob import Blob
from caffetools.engine.cpu.jit import parallel_kernel
from caffetools.glog import check, check_eq, check_lt
from caffetools.layer import Layer, Part
from caffetools.parts.places import lies_at


def axis_of(layer: Layer, bottom: Blob, param, old_name: str) -> int:
    """Return the axis that a concat_param or slice_param names, by `axis` or by its older field."""
    words = f"Either axis or {old_name} should be specified; not both. (layer '{layer.name}')"
    check(not (param.HasField("axis") and param.HasField(old_name)), f"!({old_name} && axis)", words)
    if not param.HasField(old_name):
        return bottom.canonical_axis(param.axis)
    axis = getattr(param, old_name)
    words = f"{old_name} out of range. (layer '{layer.name}')"
    check_lt(axis, len(bottom.shape), f"{old_name} < num_axes", words)
    return axis


class ConcatLayer(Layer):
    min_bottoms = 1
    exact_tops = 1
    backward_reads = ()

    def setup(self, bottom, top):
        self.refuse_in_place(bottom, top)

    def reshape(self, bottom, top):
        self.axis = axis = axis_of(self, bottom[0], self.param.concat_param, "concat_dim")
        shape = list(bottom[0].shape)
        for blob in bottom[1:]:
            words = f"All inputs must have the same #axes. (layer '{self.name}')"
            check_eq(len(shape), len(blob.shape), "num_axes == bottom[i]->num_axes()", words)
            words = (
                "All inputs must have the same shape, except at concat_axis. "
                f"(layer '{self.name}': axis {axis}, {bottom[0].shape_string} and {blob.shape_string})"
            )
            same = all(a == b for i, (a, b) in enumerate(zip(shape, blob.shape, strict=True)) if i != axis)
            check(same, "top_shape[j] == bottom[i]->shape(j)", words)
        shape[axis] = sum(blob.shape[axis] for blob in bottom)
        top[0].reshape(shape)
        self.matrix = top[0].count_from(0, axis), top[0].count_from(axis)
        self.widths = [blob.count_from(axis) for blob in bottom]

        self.firsts = first_columns(self.widths)

    def data_parts(self, bottom, top):
        if self.matrix[0] != 1:
            return []
        return [Part(blob, top[0], first) for blob, first in zip(bottom, self.firsts, strict=True)]

    def diff_parts(self, bottom, top):
        if self.matrix[0] != 1:
            return []
        return [Part(top[0], blob, first) for blob, first in zip(bottom, self.firsts, strict=True)]

    def forward(self, bottom, top):
        y = top[0].flat_data.reshape(self.matrix)
        for blob, first in zip(bottom, self.firsts, strict=True):
            insert_columns(blob.flat_data, y, first)

    def backward(self, top, propagate_down, bottom):
        dy = top[0].flat_diff.reshape(self.matrix)
        for blob, first, wanted in zip(bottom, self.firsts, propagate_down, strict=True):
            if wanted:
                extract_columns(dy, first, blob.flat_diff)


def first_columns(widths: Sequence[int]) -> list[int]:
    """Return where each of some pieces begins that lie side by side."""
    return [0, *accumulate(widths[:-1])]


def insert_columns(source: np.ndarray, matrix: np.ndarray, first: int) -> None:
    """Write a flat array over the columns of a matrix from `first` on, unless it lies there."""
    rows = len(matrix)
    if rows != 1 or not lies_at(source, matrix, first):
        width = source.size // max(1, rows)
        copy_columns(source.reshape(rows, width), 0, matrix, first, width)


def extract_columns(matrix: np.ndarray, first: int, target: np.ndarray) -> None:
    """Write the columns of a matrix from `first` on to a flat array, unless it lies there."""
    rows = len(matrix)
    if rows != 1 or not lies_at(target, matrix, first):
        width = target.size // max(1, rows)
        copy_columns(matrix, first, target.reshape(rows, width), 0, width)


@parallel_kernel
def copy_columns(source, source_first, target, target_first, width):
    """Copy `width` columns of a matrix into another of as many rows."""
    for row in numba.prange(source.shape[0]):
        line, out = source[row, source_first:], target[row, target_first:]
        for i in range(width):
            out[i] = line[i]
