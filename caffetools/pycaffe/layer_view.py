"""Layers of a net as scripts see them."""

from __future__ import annotations

from caffetools import layer as engine
from caffetools.layers.python import UserLayer
from caffetools.parts.views import BlobVec


class LayerView:
    """A layer of the engine. type: as prototxts spell it. blobs: its parameters."""

    def __init__(self, layer: engine.Layer):
        self.type = layer.type
        self.blobs = BlobVec(layer.blobs, layer.context.blob)

    def __repr__(self) -> str:
        return f"<Layer of type {self.type}>"


def view(layer: engine.Layer):
    """Return what a script gets for a layer: for one written in Python the object of the user's class."""
    return layer.user if isinstance(layer, UserLayer) else LayerView(layer)
