"""The window of a pooling layer: its size, how it moves, and how many of them there are on a plane."""

from __future__ import annotations

from dataclasses import dataclass

from caffetools.glog import check, check_gt, check_lt, fatal
from caffetools.layer import Layer
from caffetools.proto import caffe_pb2

Pooling = caffe_pb2.PoolingParameter


@dataclass(frozen=True)
class PoolingWindow:
    """Numbers for (height, width).

    kernel: None stands for the whole plane. ceil: a last window that is not full counts as well.
    """

    kernel: tuple[int, int] | None
    stride: tuple[int, int]
    pad: tuple[int, int]
    ceil: bool

    def kernel_on(self, height: int, width: int) -> tuple[int, int]:
        return (height, width) if self.kernel is None else self.kernel

    def output_size(self, layer: Layer, height: int, width: int) -> tuple[int, int]:
        """Return rows and columns of the output. Errors: FatalError where not one window fits."""
        kernel = self.kernel_on(height, width)
        result = []
        for size, k, s, p in zip((height, width), kernel, self.stride, self.pad, strict=True):
            span = size + 2 * p - k
            count = (-(-span // s) if self.ceil else span // s) + 1
            # With padding on any axis, the last window has to begin before the padding behind the plane.
            if any(self.pad) and (count - 1) * s >= size + p:
                count -= 1
            result.append(count)
        if min(result) < 1:
            fatal(
                f"A pooling window of {kernel[0]} x {kernel[1]} does not fit into a plane of {height} x "
                f"{width} (layer '{layer.name}')"
            )
        return tuple(result)


def read_pooling_window(layer: Layer) -> PoolingWindow:
    """Read the pooling_param of a layer; what does not go together is refused in the original's words."""
    param, where = layer.param.pooling_param, f"(layer '{layer.name}')"
    kernel = None if _is_global(param, where) else _kernel(param, where)
    pad = _pair(param, "pad", f"pad is pad OR pad_h and pad_w are required. {where}")
    stride = _pair(param, "stride", f"Stride is stride OR stride_h and stride_w are required. {where}")
    check(min(stride) > 0, "stride_h_ > 0 && stride_w_ > 0", f"Stride dimensions cannot be zero. {where}")
    if kernel is None:
        check(
            pad == (0, 0) and stride == (1, 1),
            "pad_h_ == 0 && pad_w_ == 0 && stride_h_ == 1 && stride_w_ == 1",
            f"With Global_pooling: true; only pad = 0 and stride = 1 {where}",
        )
    elif any(pad):
        words = f"Padding implemented only for average and max pooling. {where}"
        check(param.pool != Pooling.STOCHASTIC, "pool == AVE || pool == MAX", words)
        check_lt(pad[0], kernel[0], "pad_h_ < kernel_h_", where)
        check_lt(pad[1], kernel[1], "pad_w_ < kernel_w_", where)
    words = f"round_mode and ceil_mode, forks' name, say different things {where}"
    is_ceil = param.round_mode == Pooling.CEIL
    both = param.HasField("round_mode") and param.HasField("ceil_mode")
    check(not both or is_ceil == param.ceil_mode, "(round_mode == CEIL) == ceil_mode", words)
    return PoolingWindow(kernel, stride, pad, is_ceil and param.ceil_mode)


def _is_global(param, where):
    sizes = ("kernel_size", "kernel_h", "kernel_w")
    check(
        not param.global_pooling or not any(param.HasField(name) for name in sizes),
        "!(pool_param.has_kernel_size() || pool_param.has_kernel_h() || pool_param.has_kernel_w())",
        f"With Global_pooling: true Filter size cannot specified {where}",
    )
    return param.global_pooling


def _kernel(param, where):
    both = param.HasField("kernel_h") and param.HasField("kernel_w")
    one = param.HasField("kernel_size")
    check(
        one != both and (both or not (param.HasField("kernel_h") or param.HasField("kernel_w"))),
        "!pool_param.has_kernel_size() != !(pool_param.has_kernel_h() && pool_param.has_kernel_w())",
        "Filter size is kernel_size OR kernel_h and kernel_w; not both. "
        f"For non-square filters both kernel_h and kernel_w are required. {where}",
    )
    kernel = (param.kernel_h, param.kernel_w) if both else (param.kernel_size,) * 2
    for size, name in zip(kernel, ("kernel_h_", "kernel_w_"), strict=True):
        check_gt(size, 0, f"{name} > 0", f"Filter dimensions cannot be zero. {where}")
    return kernel


def _pair(param, name, message):
    """Read `pad` or `stride`: one number for both axes, or one for each."""
    h, w = (param.HasField(f"{name}_{axis}") for axis in "hw")
    ok = (h and w and not param.HasField(name)) or not (h or w)
    check(
        ok,
        f"!has_{name}() && has_{name}_h() && has_{name}_w() || !has_{name}_h() && !has_{name}_w()",
        message,
    )
    return (getattr(param, f"{name}_h"), getattr(param, f"{name}_w")) if h else (getattr(param, name),) * 2
