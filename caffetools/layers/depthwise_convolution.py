"""DepthwiseConvolution, of MobileNet's fork: a Convolution whose group is the number of channels."""

from __future__ import annotations

from caffetools.layers.convolution import ConvolutionLayer


class DepthwiseConvolutionLayer(ConvolutionLayer):
    reads = ("convolution_param",)
