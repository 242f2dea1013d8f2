"""DepthwiseConvolution on the GPU: a Convolution."""

from __future__ import annotations

from caffetools.layers.convolution_cu import backward, forward, reshape

__all__ = ["backward", "forward", "reshape"]
