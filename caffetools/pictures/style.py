"""One look for all pictures: colours, fonts, sizes, and how a picture becomes a file.

Every picture brings its own light background, so that it reads the same on light and dark pages. The series'
colours are those of Okabe and Ito, which stay apart for colour-blind readers, without their yellow, which is too
pale for thin lines.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffetools.formats.files import atomic_path
from caffetools.glog import fatal

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg")
PAGE, PANEL, TEXT, MUTED, GRID = "#ffffff", "#ffffff", "#24292f", "#57606a", "#d8dee4"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4d4d4d")
#: What lies between tiles: neither black nor white nor gray, so that all tiles have edges.
GROUND = "#cfdfec"
#: Colour maps: of counts on a light ground, and of weights and activations.
COUNTS, SIGNED = "Blues", "gray"
DPI = 150

_LOOK = {
    "figure.facecolor": PAGE,
    "figure.constrained_layout.use": True,
    "savefig.facecolor": PAGE,
    "savefig.dpi": DPI,
    "axes.facecolor": PANEL,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": TEXT,
    "axes.titlecolor": TEXT,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "text.color": TEXT,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "figure.titlesize": 12,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "image.interpolation": "nearest",
    "svg.hashsalt": "caffetools",  # the same picture gives the same bytes
}


def check_path(path: str | os.PathLike[str], flag: str = "--output") -> Path:
    """Refuse a picture's path before work goes into it: an unknown format, or a folder that is not there."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        fatal(f"{flag}={path}: the name of a picture ends in {' or '.join(FORMATS)}")
    if not path.parent.is_dir():
        fatal(f"{flag}={path}: there is no folder {path.parent}; make it first")
    return path


def need_matplotlib() -> None:
    """Refuse to go on without matplotlib, with the command that installs it."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        fatal("This picture needs matplotlib, which is not installed: pip install 'caffetools[plot]'")


@contextmanager
def look() -> Iterator[None]:
    """Draw with this look what is drawn inside."""
    need_matplotlib()
    import matplotlib

    with matplotlib.rc_context(_LOOK):
        yield


def figure(width: float, height: float, **options: Any) -> Figure:
    """Return an empty figure of so many inches, without pyplot's windows and state. Call inside `look`."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), **options)


def save(picture: Figure, path: str | os.PathLike[str], dpi: float = DPI) -> None:
    """Write a figure as its name's ending says, whole or not at all. Call inside `look`."""
    kind = Path(path).suffix[1:].lower()
    metadata = {"Date": None} if kind == "svg" else None
    with atomic_path(path) as temporary:
        picture.savefig(temporary, format=kind, dpi=dpi, metadata=metadata)


def colour_map(name: str) -> Colormap:
    """Return one of matplotlib's colour maps."""
    import matplotlib

    return matplotlib.colormaps[name]


def rgb(colour: str) -> tuple[float, float, float]:
    """Return red, green and blue of a colour such as "#cfdfec", in [0, 1]."""
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))


def thousands(value: float, _: object = None) -> str:
    """Return a count as an axis shows it: 10000 as 10,000."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,g}"
