"""The messages of Caffe's files: ``from caffetools.proto import caffe_pb2``.

``caffe.proto`` is the contract, ``caffe_pb2`` is generated from it by ``scripts/generate_proto.sh``.
"""

from __future__ import annotations

from caffetools.proto import caffe_pb2

__all__ = ["caffe_pb2"]
