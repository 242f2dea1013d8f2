"""The window of layers that slide over spatial axes: kernel, stride, padding and dilation of each axis."""

from __future__ import annotations

from dataclasses import dataclass

from caffetools.blob import Blob
from caffetools.glog import check, check_eq, check_gt, fatal
from caffetools.layer import Layer


@dataclass(frozen=True)
class Window:
    """Sizes for each spatial axis, in the order of the axes."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def extent(self) -> tuple[int, ...]:
        """How many input elements a dilated kernel spans."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    def windows_in(self, layer: Layer, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Return the sizes of a convolution's output. Errors: FatalError for a kernel larger than the input."""
        result = []
        for axis, (size, extent, s, p) in enumerate(
            zip(sizes, self.extent, self.stride, self.pad, strict=True)
        ):
            if size + 2 * p < extent:
                fatal(
                    f"A kernel that spans {extent} does not fit into {size} + 2 * {p} elements of spatial "
                    f"axis {axis} (layer '{layer.name}')"
                )
            result.append((size + 2 * p - extent) // s + 1)
        return tuple(result)

    def spanned_by(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Return the sizes of a transposed convolution's output: the input that this many windows need."""
        terms = zip(sizes, self.extent, self.stride, self.pad, strict=True)
        return tuple(s * (size - 1) + extent - 2 * p for size, extent, s, p in terms)


def check_planes(layer: Layer, blob: Blob) -> None:
    """Refuse a blob that does not have four axes."""
    words = f"Input must have 4 axes, corresponding to (num, channels, height, width) (layer '{layer.name}')"
    check_eq(4, len(blob.shape), "4 == bottom[0]->num_axes()", words)


def read_window(layer: Layer, axes: int) -> Window:
    """Read the window of a layer with a convolution_param over `axes` spatial axes.

    Each list is given once, or once for each axis; with two axes `kernel_h` and `kernel_w` and the like may
    take its place.
    """
    kernel = _sizes(layer, axes, "kernel_size", "kernel", None)
    stride = _sizes(layer, axes, "stride", "stride", 1)
    pad = _sizes(layer, axes, "pad", "pad", 0)
    dilation = _sizes(layer, axes, _name_of_dilation(layer), "hole", 1)
    for sizes, name in ((kernel, "Filter"), (stride, "Stride"), (dilation, "Dilation")):
        for size in sizes:
            check_gt(
                size,
                0,
                f"{name.lower()}_data[i] > 0",
                f"{name} dimensions must be nonzero. (layer '{layer.name}')",
            )
    return Window(kernel, stride, pad, dilation)


def _sizes(layer, axes, name, pair, default):
    """Return the sizes that the list `name`, or the fields `pair`_h and `pair`_w, give to the axes."""
    param, where = layer.param.convolution_param, f"(layer '{layer.name}')"
    given = list(getattr(param, name))
    if param.HasField(f"{pair}_h") or param.HasField(f"{pair}_w"):
        check_eq(
            axes,
            2,
            "num_spatial_axes_ == 2",
            f"{pair}_h & {pair}_w can only be used for 2D convolution. {where}",
        )
        check_eq(
            0,
            len(given),
            f"0 == conv_param.{name}_size()",
            f"Either {name} or {pair}_h/w should be specified; not both. {where}",
        )
        if default != 0:  # pad_h and pad_w are 0 where they are not given
            _check_pair(param, pair, where)
        return getattr(param, f"{pair}_h"), getattr(param, f"{pair}_w")
    words = name.removesuffix("_size")
    check(
        len(given) in (1, axes) or (default is not None and not given),
        f"num_{words}_dims == {'' if default is None else '0 || '}1 || num_spatial_axes_",
        f"{name} must be specified once, or once per spatial dimension ({name} specified {len(given)} times; "
        f"{axes} spatial dims). {where}",
    )
    if not given:
        return (default,) * axes
    return tuple(given) if len(given) == axes else (given[0],) * axes


def _name_of_dilation(layer):
    """Return "hole", as DeepLab calls it, where that is given."""
    param, words = layer.param.convolution_param, f"they are one: hole is DeepLab's name (layer '{layer.name}')"
    check(not param.hole or not param.dilation, "dilation_size() == 0 || hole_size() == 0", words)
    return "hole" if param.hole else "dilation"


def _check_pair(param, pair, where):
    """Refuse one of two fields without the other."""
    missing = [f"{pair}_{axis}" for axis in "hw" if not param.HasField(f"{pair}_{axis}")]
    noun = {"kernel": "Filter", "stride": "Stride", "hole": "Dilation"}[pair]
    words = f"{noun} dimensions must be nonzero. Give {pair}_h and {pair}_w: {''.join(missing)} is missing {where}"
    check(not missing, f"has_{pair}_h() && has_{pair}_w()", words)
