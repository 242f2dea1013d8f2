"""A net from a few lines of prototxt."""

from __future__ import annotations

import pytest

from caffetools.engine.cpu.rng import RandomSource
from caffetools.formats import prototxt
from caffetools.layer import TRAIN, Context
from caffetools.net import load_net
from caffetools.proto import caffe_pb2


@pytest.fixture
def make_net():
    """Return a function that builds a net from prototxt text, with seed 1."""

    def make(text, phase=TRAIN, level=0, stages=None):
        param = prototxt.parse(text, caffe_pb2.NetParameter)
        return load_net(param, phase, Context(random=RandomSource(1)), level, stages)

    return make
