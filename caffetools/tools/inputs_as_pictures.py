"""What a net sees, turned back into the picture that a person knows."""

from __future__ import annotations

import numpy as np

from caffetools.net import Net
from caffetools.proto import caffe_pb2
from caffetools.samples.transform import read_mean

#: Values up to this are taken for a picture in [0, 1]; a mean of the whole set leads a little beyond the bytes.
BYTES_FROM, BEYOND = 2, 30


class InputPictures:
    """The pictures in the first blob of a net's data that can be one: four axes, one channel or three."""

    def __init__(self, net: Net):
        self.blob, self.param = None, caffe_pb2.TransformationParameter()
        for layer, tops in zip(net.layers, net.tops, strict=True):
            for blob in () if layer.param.bottom else tops:
                if self.blob is None and len(blob.shape) == 4 and blob.shape[1] in (1, 3):
                    self.blob, self.param = blob, layer.param.transform_param

    def pixels(self, sample: int) -> np.ndarray | None:
        """Return a sample of the batch as uint8 (height, width, 3), red, green, blue, or gray (height, width).

        None where the net's data is no picture.
        """
        if self.blob is None:
            return None
        values = restore(self.blob.data[sample], self.param)
        return values[0] if len(values) == 1 else values[::-1].transpose(1, 2, 0)


def restore(values: np.ndarray, param: caffe_pb2.TransformationParameter) -> np.ndarray:
    """Undo the scale and the mean of a `transform_param`; return uint8 of the same shape (channels, height, width).

    Where what comes out cannot be the bytes of a picture, its range is stretched to theirs.
    """
    values = values.astype(np.float64)
    if param.scale:
        values = values / param.scale
    if param.HasField("mean_file"):
        # Where the crop was cut out of the mean is not known, but its colours are.
        values = values + read_mean(param.mean_file, np.dtype(np.float64)).mean(axis=(1, 2), keepdims=True)
    elif param.mean_value:
        values = values + np.array(param.mean_value).reshape(-1, 1, 1)
    low, high = np.nanmin(values, initial=np.inf), np.nanmax(values, initial=-np.inf)
    bytes_already = low > -BEYOND and BYTES_FROM < high < 255 + BEYOND
    if not bytes_already:
        values = (values - low) * (255 / (high - low) if high > low else 0)
    return np.clip(np.rint(np.nan_to_num(values)), 0, 255).astype(np.uint8)
