"""ONNX for convolutions, inner products and tables."""

from __future__ import annotations

from math import prod

from caffetools.exchange.graph import Side, Step


def _slide(step: Step, op: str, value: str, index: int) -> str:
    """Append a Conv or ConvTranspose. ONNX wants (items, channels, at least one spatial axis)."""
    layer = step.layer
    window, axis = layer.window, layer.axis
    kernel, stride, pad, dilation = (tuple(sizes) or fallback for sizes, fallback in (
        (window.kernel, (1,)), (window.stride, (1,)), (window.pad, (0,)), (window.dilation, (1,)),
    ))  # fmt: skip
    plain = axis == 1 and len(layer.window.kernel) > 0
    if not plain:

        def items(side: Side) -> tuple[int, ...]:
            shape = side.bottom[index].shape
            return (prod(shape[:axis]), *shape[axis : axis + 1], *(shape[axis + 1 :] or (1,)))

        value = step.reshape(value, items)
    shape = (*layer.blobs[0].shape[:2], *kernel)
    inputs = [value, step.weight(0, shape), *([step.weight(1)] if len(layer.blobs) > 1 else [])]
    result = step.node(
        op, *inputs,
        kernel_shape=kernel, strides=stride, pads=pad * 2, dilations=dilation, group=layer.group,
    )  # fmt: skip
    return result if plain else step.like_top(result, index)


def convolution(step: Step) -> list[str]:
    return [_slide(step, "Conv", value, i) for i, value in enumerate(step.inputs)]


def deconvolution(step: Step) -> list[str]:
    return [_slide(step, "ConvTranspose", value, i) for i, value in enumerate(step.inputs)]


def inner_product(step: Step) -> list[str]:
    layer, bottom = step.layer, step.side.bottom[0]
    axis = bottom.canonical_axis(layer.param.inner_product_param.axis)
    x = step.reshape(step.x, lambda side: (prod(side.bottom[0].shape[:axis]), layer.inputs))
    bias = [step.weight(1)] if len(layer.blobs) > 1 else []
    y = step.node("Gemm", x, step.weight(0), *bias, transB=int(not layer.transpose))
    return [y if axis == 1 else step.like_top(y)]


def embed(step: Step) -> list[str]:
    y = step.node("Gather", step.weight(0), step.to_index(step.x), axis=0)
    return [step.node("Add", y, step.weight(1)) if step.layer.bias_term else y]


EXPORTERS = {
    "Convolution": convolution,
    "Deconvolution": deconvolution,
    "Embed": embed,
    "InnerProduct": inner_product,
}
