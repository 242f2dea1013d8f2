"""Pictures of floats in another size, as the original's Python module gives them.

Another formula than that of the data layers (`caffetools.samples.resize`). For one or three channels, with the range
of the values moved to [0, 1] before and back after:

    y = A x B',    row i of A:  weights of the two pixels next to p = (i + 1/2) H / H' - 1/2

where a picture that becomes smaller is smoothed first, with a Gaussian of sigma = (H / H' - 1) / 2. Outside
of the picture everything is 0, which is its darkest value. For other numbers of channels nothing is smoothed
or moved, and the corners lie on the corners: p = i (H - 1) / (H' - 1).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_NEAREST, _LINEAR = 0, 1
_TRUNCATE = 4  # the Gaussian ends at so many sigmas


def resize_image(im: np.ndarray, new_dims: Sequence[int], interp_order: int = 1) -> np.ndarray:
    """Return a picture (H, W, channels) in another size, as float32.

    new_dims: height and width. interp_order: 0 takes the nearest pixel, 1 is linear; splines (orders 2 to 5)
    need SciPy. Errors: ValueError for another number of axes, an empty size or an unknown order, ImportError
    without SciPy.
    """
    im = np.asarray(im)
    height, width = (int(size) for size in new_dims)
    if im.ndim != 3 or 0 in im.shape or min(height, width) < 1:
        raise ValueError(
            f"A picture has height x width x channels and is resized to a height and a width; {im.shape} "
            f"cannot be resized to {tuple(new_dims)}"
        )
    if interp_order not in range(6):
        raise ValueError(f"interp_order is 0 (nearest), 1 (linear) or up to 5 (splines), not {interp_order}")
    resize = _smoothed if im.shape[2] in (1, 3) else _zoomed
    return resize(im.astype(np.float64), height, width, interp_order).astype(np.float32)


def _smoothed(x, height, width, order):
    low, high = x.min(), x.max()
    if not high > low:
        return np.full((height, width, x.shape[2]), low)
    x = (x - low) / (high - low)
    if order > _LINEAR:
        y = _spline(_apply(x, *(_blur(*sizes) for sizes in _sizes(x, height, width))), height, width, order)
    else:
        y = _apply(x, *(_blurred_weights(*sizes, order) for sizes in _sizes(x, height, width)))
    return y * (high - low) + low


def _zoomed(x, height, width, order):
    if order > _LINEAR:
        scale = (height / x.shape[0], width / x.shape[1], 1)
        return _scipy_zoom()(x, scale, order=order)
    matrices = []
    for old, new in _sizes(x, height, width):
        position = np.arange(new) * ((old - 1) / max(new - 1, 1))
        neighbours = _neighbours(position, order)
        matrices.append(sum(share[:, None] * (at[:, None] == np.arange(old)) for at, share in neighbours))
    return _apply(x, *matrices)


def _sizes(x, height, width):
    return (x.shape[0], height), (x.shape[1], width)


def _apply(x, rows, columns):
    """Return rows . x . columns' in each channel."""
    return np.tensordot(rows, np.tensordot(columns, x, (1, 1)), (1, 1))


def _neighbours(position, order):
    """Return the pixels that a position is interpolated from, and their shares."""
    if order == _NEAREST:
        return [(np.floor(position + 0.5), np.ones_like(position))]
    first = np.floor(position)
    distance = position - first
    return [(first, 1 - distance), (first + 1, distance)]


def _blurred_weights(old, new, order):
    """Return the matrix (new, old) that smooths and interpolates along an axis."""
    gaussian = _gaussian(old, new)
    matrix = np.zeros((new, old))
    for at, share in _neighbours((np.arange(new) + 0.5) * (old / new) - 0.5, order):
        inside = (at >= 0) & (at < old)
        matrix += (share * inside)[:, None] * gaussian(at[:, None] - np.arange(old))
    return matrix


def _blur(old, new):
    """Return the matrix (old, old) that smooths along an axis which becomes `new` long."""
    return _gaussian(old, new)(np.subtract.outer(np.arange(old), np.arange(old)))


def _gaussian(old, new):
    """Return the Gaussian as a function of the distance in pixels."""
    sigma = max(0, (old / new - 1) / 2)
    radius = int(_TRUNCATE * sigma + 0.5)
    if not radius:
        return lambda distance: np.asarray(distance == 0, np.float64)
    total = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2).sum()
    return lambda distance: np.where(
        np.abs(distance) <= radius, np.exp(-0.5 * (distance / sigma) ** 2) / total, 0
    )


def _spline(x, height, width, order):
    """Interpolate with a spline, which may leave the range [0, 1]: it is cut back to it."""
    scale = (height / x.shape[0], width / x.shape[1], 1)
    y = _scipy_zoom()(x, scale, order=order, mode="grid-constant", grid_mode=True)
    return np.clip(y, 0, 1)


def _scipy_zoom():
    try:
        from scipy.ndimage import zoom
    except ImportError:
        raise ImportError(
            "resize_image needs SciPy for interp_order 2 to 5: install scipy, or use order 0 or 1"
        ) from None
    return zoom
