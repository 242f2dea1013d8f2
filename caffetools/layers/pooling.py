"""Pooling of planes: the maximum, the average or a random choice of every window.

    output = (input + 2 pad - kernel) / stride + 1, rounded up (round_mode CEIL, the default) or down (FLOOR)

along each axis; where there is padding, a last window that would start behind the input is dropped.

MAX: y is the largest value, the first of equals, and dx gathers dy there; top 1, if asked for, is its index
    in the plane.
AVE: y is the sum divided by the size of the window, as far as that lies within input and padding: padding
    counts.
STOCHASTIC (Zeiler and Fergus 2013, for activations >= 0): y is one of the values, drawn with a probability
    that is proportional to it (TRAIN), or sum x^2 / sum x (TEST).

Input and output have the axes (N, C, H, W). In the kernels a plane is one (n, c).
"""

from __future__ import annotations

import numba
import numpy as np

from caffetools.blob import Blob
from caffetools.engine.cpu import sums
from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.engine.cpu.rng import random_uniform
from caffetools.glog import fatal
from caffetools.layer import TRAIN, Layer
from caffetools.parts.pooling_window import read_pooling_window
from caffetools.parts.spatial import check_planes
from caffetools.proto import caffe_pb2

# MAX starts from this, and gives it where a window holds nothing but the padding.
LOWEST = np.float32(-np.finfo(np.float32).max)
# MAX works in scratch memory of about BAND elements; CHUNKS pieces of work are spread over the threads.
BAND = 4096
CHUNKS = 64
MAX, AVE, STOCHASTIC = (getattr(caffe_pb2.PoolingParameter, name) for name in ("MAX", "AVE", "STOCHASTIC"))


class PoolingLayer(Layer):
    exact_bottoms = 1
    min_tops = 1
    backward_reads = ()

    @property
    def max_tops(self):
        """MAX gives the indices of its maxima as a second top."""
        return 2 if self.param.pooling_param.pool == MAX else 1

    def setup(self, bottom, top):
        self.refuse_in_place(bottom, top)
        self.method = self.param.pooling_param.pool
        self.window = read_pooling_window(self)
        self.index_blob = Blob((0,), np.int32)
        train = self.phase == TRAIN
        self._pool, self._unpool = {
            MAX: (self._largest, self._scatter),
            AVE: (self._average, self._spread),
            STOCHASTIC: (self._drawn, self._scatter) if train else (self._expected, self._refuse),
        }[self.method]
        if self.method == STOCHASTIC:
            self.key = self.context.random.key()
            self.next_start = 0

    def reshape(self, bottom, top):
        check_planes(self, bottom[0])
        n, c, height, width = bottom[0].shape
        rows, columns = self.window.output_size(self, height, width)
        for blob in top:
            blob.reshape((n, c, rows, columns))
        self.plane_shape, self.top_plane_shape = (n * c, height, width), (n * c, rows, columns)
        self.flat_planes = (n * c, height * width)
        kernel, stride = self.window.kernel_on(height, width), self.window.stride
        # What the kernels take: kernel, stride and padding, each (height, width).
        self.sizes = (*kernel, *stride, *self.window.pad)
        if self.method != AVE:
            self.index_blob.reshape(self.top_plane_shape)
        self.tiled = self.sizes == (2, 2, 2, 2, 0, 0) and 2 * rows <= height and 2 * columns <= width
        if self.method == MAX and not self.tiled:
            wide = (columns - 1) * stride[1] + kernel[1]
            self.steps = doubling_steps(*kernel, wide, width)
            self.band = min(rows, max(1, BAND // (stride[0] * wide)))

    @property
    def index(self) -> np.ndarray:
        """The elements of their planes that were chosen, (planes, rows, columns) of the top."""
        return self.index_blob.data

    def kept(self):
        return [] if self.method == AVE else [self.index_blob]

    def forward(self, bottom, top):
        self._pool(
            bottom[0].flat_data.reshape(self.plane_shape), top[0].flat_data.reshape(self.top_plane_shape)
        )
        if len(top) > 1:
            np.copyto(top[1].data, self.index.reshape(top[1].shape))

    def _largest(self, x, y):
        if self.tiled:
            max_pool_2x2(x, y, self.index)
        else:
            max_pool(x, self.sizes, self.steps, self.band, y, self.index)

    def _average(self, x, y):
        average_pool(x, self.sizes, y)

    def _drawn(self, x, y):
        stochastic_pool(x, self.sizes, self.key, np.uint64(self.next_start), y, self.index)
        self.next_start += y.size

    def _expected(self, x, y):
        expected_pool(x, self.sizes, y)

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            self._unpool(top[0].flat_diff.reshape(self.top_plane_shape), bottom[0].flat_diff)

    def _scatter(self, dy, dx):
        scatter(dy, self.index, dx.reshape(self.flat_planes))

    def _spread(self, dy, dx):
        average_pool_backward(dy, self.sizes, dx.reshape(self.plane_shape))

    def _refuse(self, dy, dx):
        fatal(f"STOCHASTIC pooling has a gradient in the TRAIN phase only (layer '{self.name}')")

    def get_state(self):
        return {"key": int(self.key), "next_start": self.next_start} if self.method == STOCHASTIC else None

    def set_state(self, state):
        self.key, self.next_start = np.uint64(state["key"]), state["next_start"]


def doubling_steps(kh: int, kw: int, wide: int, width: int) -> np.ndarray:
    """Return how `largest_of_windows` grows windows of one element to kh x kw, along the rows first.

    wide, width: the distance from row to row in the scratch memory and in the plane.
    """
    steps = []
    for size, in_scratch, in_plane in ((kw, 1, 1), (kh, wide, width)):
        grown = 1
        while grown < size:
            shift = min(grown, size - grown)
            steps.append((shift * in_scratch, shift * in_plane))
            grown += shift
    return np.array(steps, np.int64).reshape(-1, 2)


@parallel_kernel
def max_pool_2x2(x, y, index):
    """The commonest case, windows of 2 x 2 that tile the plane: many columns are worked on at once."""
    planes, rows, columns = y.shape
    width = np.int32(x.shape[2])
    one = np.int32(1)
    for item in numba.prange(planes * rows):
        plane, row = item // rows, item % rows
        upper, lower = x[plane, 2 * row], x[plane, 2 * row + 1]
        best, where = y[plane, row], index[plane, row]
        first = np.int32(2 * row) * width
        for column in range(columns):
            left = np.uintp(column) * np.uintp(2)
            right = left + np.uintp(1)
            v, i = larger(upper[left], np.int32(0), upper[right], one)
            w, j = larger(lower[left], width, lower[right], width + one)
            v, i = larger(v, i, w, j)
            best[column] = v
            where[column] = first + np.int32(left) + i


@kernel
def larger(v, i, w, j):
    """Return the larger value and its index: v of equals, and a NaN before all, so that it stays visible."""
    second = (w > v) | (w != w)
    return (w if second else v), (j if second else i)


@parallel_kernel
def max_pool(x, window, steps, band, y, index):
    """All other windows: bands of `band` output rows, each in scratch memory that lies in the cache."""
    kh, kw, sh, sw, ph, pw = window
    planes, rows, columns = y.shape
    wide = (columns - 1) * sw + kw
    bands = -(-rows // band)
    size = ((band - 1) * sh + kh) * wide
    for chunk in numba.prange(CHUNKS):
        values = np.empty((2, size), x.dtype)
        offsets = np.empty((2, size), np.int32)
        for item in range(planes * bands * chunk // CHUNKS, planes * bands * (chunk + 1) // CHUNKS):
            plane, first = item // bands, item % bands * band
            last = min(first + band, rows)
            tall = (last - first - 1) * sh + kh
            copy_padded(x[plane], first * sh - ph, pw, tall, wide, values[0])
            now = largest_of_windows(tall * wide, steps, values, offsets)
            for row in range(first, last):
                start = (row - first) * sh * wide
                corner = (row * sh - ph) * x.shape[2] - pw
                pick(values[now, start:], offsets[now, start:], sw, corner, y[plane, row], index[plane, row])


@kernel
def copy_padded(x, top, left, tall, wide, out):
    """Copy `tall` rows of a plane from row `top` on, `wide` columns from -left on; LOWEST is the padding."""
    height, width = x.shape
    begin = min(left, wide)
    end = max(begin, min(wide, width + left))
    for row in range(tall):
        line = out[row * wide : (row + 1) * wide]
        line[:] = LOWEST
        if 0 <= top + row < height:
            line[begin:end] = x[top + row, begin - left : end - left]


@kernel
def largest_of_windows(count, steps, values, offsets):
    """Let every element become the largest of the window that begins at it; return the half where it is.

    A window of 2n elements is the larger of two windows of n: `steps` holds (distance in the scratch memory,
    distance in the plane) of each pair, along the rows first, so that of equal values the first in the plane
    wins.
    """
    now = 0
    offsets[0, :count] = 0
    for step in range(steps.shape[0]):
        shift, distance = np.uintp(steps[step, 0]), np.int32(steps[step, 1])
        count -= steps[step, 0]
        v, o, v_out, o_out = values[now], offsets[now], values[1 - now], offsets[1 - now]
        for i in range(count):
            here, there = np.uintp(i), np.uintp(i) + shift
            v_out[here], o_out[here] = larger(v[here], o[here], v[there], o[there] + distance)
        now = 1 - now
    return now


@kernel
def pick(values, offsets, stride, corner, y, index):
    """Take the windows of one output row. Like the original, start from LOWEST, and from no index."""
    for column in range(y.size):
        left = np.uintp(column * stride)
        v = values[left]
        y[column] = LOWEST if v < LOWEST else v
        index[column] = -1 if v <= LOWEST else corner + column * stride + offsets[left]


@parallel_kernel
def scatter(dy, index, dx):
    """Add every dy to the element of its plane that was chosen in the forward pass."""
    planes, rows, columns = dy.shape
    for plane in numba.prange(planes):
        dx[plane] = 0
        for row in range(rows):
            for column in range(columns):
                i = index[plane, row, column]
                if i >= 0:
                    dx[plane, i] += dy[plane, row, column]


@parallel_kernel
def average_pool(x, window, y):
    kh, kw, sh, sw, ph, pw = window
    planes, height, width = x.shape
    rows, columns = y.shape[1:]
    values = x.reshape(-1)
    for item in numba.prange(planes * rows):
        plane, row = item // rows, item % rows
        top = row * sh - ph
        tall = min(top + kh, height + ph) - top
        upper, lower = plane * height + max(top, 0), plane * height + min(top + kh, height)
        if columns == 1 and kw - pw >= width:  # whole rows, as in global pooling, follow one another
            area = max(1, tall * (min(kw - pw, width + pw) + pw))
            y[plane, row, 0] = sums.total(values[upper * width : lower * width]) / x.dtype.type(area)
            continue
        for column in range(columns):
            left = column * sw - pw
            first, last = max(left, 0), min(left + kw, width)
            sum_of_window = x.dtype.type(0)
            for line in range(upper, lower):
                for i in range(np.uint64(line * width + first), np.uint64(line * width + last)):
                    sum_of_window += values[i]
            area = max(1, tall * (min(left + kw, width + pw) - left))
            y[plane, row, column] = sum_of_window / x.dtype.type(area)


@parallel_kernel
def average_pool_backward(dy, window, dx):
    kh, kw, sh, sw, ph, pw = window
    planes, height, width = dx.shape
    rows, columns = dy.shape[1:]
    for plane in numba.prange(planes):
        dx[plane] = 0
        for row in range(rows):
            top = row * sh - ph
            tall = min(top + kh, height + ph) - top
            for column in range(columns):
                left = column * sw - pw
                first, last = max(left, 0), min(left + kw, width)
                area = max(1, tall * (min(left + kw, width + pw) - left))
                share = dy[plane, row, column] / dx.dtype.type(area)
                for h in range(max(top, 0), min(top + kh, height)):
                    line = dx[plane, h, first:last]
                    for i in range(line.size):
                        line[i] += share


@parallel_kernel
def stochastic_pool(x, window, key, start, y, index):
    kh, kw, sh, sw = window[:4]
    planes, height, width = x.shape
    rows, columns = y.shape[1:]
    for item in numba.prange(planes * rows):
        plane, row = item // rows, item % rows
        for column in range(columns):
            bottom, right = min(row * sh + kh, height), min(column * sw + kw, width)
            total = x.dtype.type(0)
            for h in range(row * sh, bottom):
                for w in range(column * sw, right):
                    total += x[plane, h, w]
            # The first value at which the running sum reaches the drawn share; the last one if rounding keeps
            # it below.
            threshold = total * random_uniform(key, start + np.uint64(item * columns + column))
            running = x.dtype.type(0)
            chosen = -1
            for h in range(row * sh, bottom):
                for w in range(column * sw, right):
                    if chosen < 0 or running < threshold:
                        running += x[plane, h, w]
                        chosen = h * width + w
            index[plane, row, column] = chosen
            y[plane, row, column] = x[plane, chosen // width, chosen % width] if chosen >= 0 else total


@parallel_kernel
def expected_pool(x, window, y):
    kh, kw, sh, sw = window[:4]
    planes, height, width = x.shape
    rows, columns = y.shape[1:]
    for item in numba.prange(planes * rows):
        plane, row = item // rows, item % rows
        for column in range(columns):
            total = x.dtype.type(0)
            squares = x.dtype.type(0)
            for h in range(row * sh, min(row * sh + kh, height)):
                for w in range(column * sw, min(column * sw + kw, width)):
                    v = x[plane, h, w]
                    total += v
                    squares += v * v
            y[plane, row, column] = squares / total if total != 0 else total
