"""Statistics of BatchNorm layers are kept from the solver: their three `param` get lr_mult and decay_mult 0.

They are blobs of the layer but not to be learned. Once each definition had to say so, and some did not.
"""

from __future__ import annotations

from collections.abc import Iterator

from caffetools.proto import caffe_pb2
from caffetools.upgrade.passes import Pass

#: Mean, variance and the factor that both are to be divided by.
STATISTICS = 3


def needs_batch_norm(net: caffe_pb2.NetParameter) -> bool:
    """Whether a BatchNorm layer has three `param`, whatever they say."""
    return any(_old_layers(net))


def upgrade_batch_norm(net: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """Return the net with all multipliers of BatchNorm statistics 0."""
    upgraded = caffe_pb2.NetParameter()
    upgraded.MergeFrom(net)
    for layer in _old_layers(upgraded):
        for spec in layer.param:
            spec.lr_mult = 0
            spec.decay_mult = 0
    return upgraded


def _old_layers(net: caffe_pb2.NetParameter) -> Iterator[caffe_pb2.LayerParameter]:
    return (layer for layer in net.layer if layer.type == "BatchNorm" and len(layer.param) == STATISTICS)


BATCH_NORM_PASS = Pass(
    needed=needs_batch_norm,
    run=upgrade_batch_norm,
    attempt="Attempting to upgrade batch norm layers using deprecated params",
    success="Successfully upgraded batch norm layers using deprecated params.",
)
