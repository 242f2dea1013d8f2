"""All upgrades of a net, oldest form first: each pass makes what the next expects."""

from __future__ import annotations

from caffetools.proto import caffe_pb2
from caffetools.upgrade.batch_norm import BATCH_NORM_PASS
from caffetools.upgrade.data import TRANSFORM_PASS
from caffetools.upgrade.inputs import INPUT_PASS
from caffetools.upgrade.passes import run_passes
from caffetools.upgrade.unread import without_unread
from caffetools.upgrade.v0 import V0_PASS
from caffetools.upgrade.v1 import V1_PASS, needs_v1

NET_PASSES = (V0_PASS, TRANSFORM_PASS, V1_PASS, INPUT_PASS, BATCH_NORM_PASS)


def upgrade_net(param: caffe_pb2.NetParameter, path: str) -> caffe_pb2.NetParameter:
    """Return `param`, read from `path`, in today's form; `param` itself if it is in that form already.

    A net that was in another form loses settings that its layers do not read; the upgrade tools, which run the
    passes alone, keep them.
    """
    upgraded = run_passes(NET_PASSES, param, path).message
    return without_unread(upgraded) if needs_v1(param) else upgraded
