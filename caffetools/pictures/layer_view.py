"""A layer's weights and activations in one picture: tiles to the left, histograms to the right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from caffetools.pictures import style, tiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: A matrix is drawn with at most so many rows and columns, every k-th of them where it has more.
MOST_ROWS = 1500
#: So many values are drawn as bars, more as a line.
MOST_BARS = 64
BINS = 60
#: Histograms of more values count on a logarithmic axis.
MANY = 1000


@dataclass
class LayerView:
    """What there is to show of a layer.

    weights: its first parameter, None if it has none. bias: its second, if that is a vector of one for each filter.
    picture: what the net was given, uint8 (channels, height, width), blue, green, red, or gray. activations: the
    layer's first top for this picture, without the batch axis. by_norm: whether filters are drawn by their norm.
    """

    name: str
    weights: np.ndarray | None = None
    bias: np.ndarray | None = None
    picture: np.ndarray | None = None
    activations: np.ndarray | None = None
    by_norm: bool = False


Drawer = Callable[["Axes"], None]


def draw(view: LayerView) -> Figure:
    """Draw a layer. Call inside `style.look`."""
    rows: list[tuple[float, Drawer, list[Drawer]]] = []
    if view.weights is not None:
        rows.append(_weights_row(view))
    if view.activations is not None:
        rows.append(_activations_row(view))
    figure = style.figure(10, 0.6 + sum(height for height, _, _ in rows))
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)
    grid = figure.add_gridspec(
        len(rows), 2, width_ratios=(2, 1), height_ratios=[height for height, _, _ in rows]
    )
    for index, (_, main, sides) in enumerate(rows):
        main(figure.add_subplot(grid[index, 0]))
        column = grid[index, 1].subgridspec(len(sides), 1)
        for place, side in enumerate(sides):
            side(figure.add_subplot(column[place, 0]))
    return figure


def _weights_row(view: LayerView) -> tuple[float, Drawer, list[Drawer]]:
    weights = view.weights
    height, main = _of_weights(view.name, weights, view.by_norm)
    sides = [lambda axes: _histogram(axes, "Weights", weights, style.SERIES[0])]
    if view.bias is not None and view.bias.size > 1:
        sides.append(lambda axes: _histogram(axes, "Biases", view.bias, style.SERIES[2]))
    return max(height, 2.3 * len(sides)), main, sides


def _activations_row(view: LayerView) -> tuple[float, Drawer, list[Drawer]]:
    values = view.activations
    height, main = _of_activations(view.name, values)
    sides = [
        lambda axes: _picture(axes, view.picture),
        lambda axes: _histogram(axes, "Activations", values, style.SERIES[1]),
    ]
    return max(height, 4.6), main, sides


def _of_weights(name: str, weights: np.ndarray, by_norm: bool) -> tuple[float, Drawer]:
    """Return the height in inches and the drawer of a layer's first parameter."""
    if weights.ndim == 1:
        return 2.5, lambda axes: _vector(axes, f"{name}: {weights.size} numbers", weights)
    if weights.ndim == 4 and weights.shape[2:] == (1, 1):
        weights = weights[:, :, 0, 0]
    if weights.ndim == 2:
        return _matrix(name, weights)
    if weights.ndim > 4:  # filters of more than two axes: their planes, one after the other
        weights = weights.reshape(weights.shape[0], -1, *weights.shape[-2:])
    if weights.ndim == 3:
        weights = weights[:, np.newaxis]
    count, channels, rows, columns = weights.shape
    title = f"{name}: {count} filters of {rows}×{columns}"
    if by_norm or count * channels > tiles.MOST_TILES:
        values = tiles.norms(weights)
        return _mosaic(
            tiles.grid(values), f"{title}, L2 norms over {channels} input channels", tiles.limit(values)
        )
    if channels == 3:
        return _mosaic(tiles.grid(tiles.colour_filters(weights)), f"{title}×3, in colour", None)
    if channels == 1:
        return _mosaic(tiles.grid(weights[:, 0]), title, tiles.limit(weights), symmetric=True)
    values, row = tiles.by_channel(weights)
    axis = "input channels to the right" if channels > count else "filters to the right"
    title = f"{title}, {channels} input channels; {axis}"
    return _mosaic(tiles.grid(values, row), title, tiles.limit(weights), symmetric=True)


def _of_activations(name: str, values: np.ndarray) -> tuple[float, Drawer]:
    shape = "×".join(map(str, values.shape))
    title = f"{name}: activations, {shape}"
    if values.ndim < 3 or values.shape[-2:] == (1, 1):
        return 2.5, lambda axes: _vector(axes, title, values.reshape(-1))
    planes = values.reshape(-1, *values.shape[-2:])
    return _mosaic(tiles.grid(planes), title, tiles.limit(planes), symmetric=bool((planes < 0).any()))


def _mosaic(
    picture: np.ndarray, title: str, limit: float | None, symmetric: bool = False
) -> tuple[float, Drawer]:
    """Return height and drawer of tiles: colours as they are (limit None), or gray with a bar that tells values."""
    height = min(max(6.2 * picture.shape[0] / picture.shape[1], 1.5), 9) + 0.4

    def drawer(axes: Axes) -> None:
        axes.set_title(title)
        axes.axis("off")
        axes.set_anchor("NW")
        if limit is None:
            axes.imshow(np.where(np.isnan(picture), style.rgb(style.GROUND), picture))
            return
        colours = style.colour_map(style.SIGNED).with_extremes(bad=style.GROUND)
        shown = axes.imshow(picture, cmap=colours, vmin=-limit if symmetric else 0, vmax=limit or 1)
        axes.figure.colorbar(shown, cax=axes.inset_axes((1.02, 0, 0.02, 1)))

    return height, drawer


def _matrix(name: str, weights: np.ndarray) -> tuple[float, Drawer]:
    rows, columns = weights.shape
    step = [max(1, -(-size // MOST_ROWS)) for size in weights.shape]
    part = weights[:: step[0], :: step[1]]
    limit = tiles.limit(weights) or 1

    def drawer(axes: Axes) -> None:
        axes.set_title(f"{name}: {rows} outputs × {columns} inputs")
        axes.grid(False)
        shown = axes.imshow(
            part, cmap=style.SIGNED, vmin=-limit, vmax=limit, aspect="auto", extent=(0, columns, rows, 0)
        )
        axes.set(xlabel="input", ylabel="output")
        axes.figure.colorbar(shown, cax=axes.inset_axes((1.02, 0, 0.02, 1)))

    return 4.0, drawer


def _vector(axes: Axes, title: str, values: np.ndarray) -> None:
    axes.set_title(title)
    axes.margins(x=0.02)
    if values.size <= MOST_BARS:
        axes.bar(np.arange(values.size), values, color=style.SERIES[0], width=0.7)
        axes.xaxis.get_major_locator().set_params(integer=True)
    else:
        axes.plot(values, color=style.SERIES[0], linewidth=0.8)
    axes.axhline(0, color=style.MUTED, linewidth=0.8)
    axes.set_xlabel("channel")


def _histogram(axes: Axes, title: str, values: np.ndarray, color: str) -> None:
    finite = values[np.isfinite(values)].astype(np.float64)
    zeros = np.count_nonzero(finite == 0) / max(finite.size, 1)
    mean, deviation = (finite.mean(), finite.std()) if finite.size else (np.nan, np.nan)
    axes.hist(finite, bins=min(BINS, max(10, finite.size // 4)), color=color)
    if finite.size > MANY:
        axes.set_yscale("log")
    else:
        axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_title(title)
    axes.set_ylabel("count")
    text = f"mean {mean:.3g}, std {deviation:.3g}"
    if zeros > 0.01:
        text += f", {zeros:.0%} zeros"
    if finite.size < values.size:
        text += f", {values.size - finite.size} not finite"
    axes.set_xlabel(text)


def _picture(axes: Axes, picture: np.ndarray) -> None:
    axes.set_title("Input")
    axes.axis("off")
    if len(picture) == 3:
        axes.imshow(picture[::-1].transpose(1, 2, 0))
    else:
        axes.imshow(picture[0], cmap="gray", vmin=0, vmax=255)
