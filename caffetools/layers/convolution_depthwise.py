"""ConvolutionDepthwise, of ShuffleNet's fork: a Convolution with a group for each channel, which need not be said."""

from __future__ import annotations

from caffetools.glog import check, check_eq
from caffetools.layers.convolution import ConvolutionLayer


class ConvolutionDepthwiseLayer(ConvolutionLayer):
    reads = ("convolution_param",)

    def setup(self, bottom, top):
        param = self.param.convolution_param
        channels = bottom[0].shape[bottom[0].canonical_axis(param.axis)]
        words = f"each channel has one filter (layer '{self.name}')"
        check_eq(param.num_output, channels, "num_output == channels", words)
        check(param.group in (1, channels), "group == channels", words)
        param.group = channels
        super().setup(bottom, top)
