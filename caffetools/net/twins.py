"""Nets on a GPU: which functions run a layer there.

The twin of `layers/relu.py` is the module `layers/relu_cu.py` with functions `forward(layer, bottom, top)` and
`backward(layer, top, propagate_down, bottom)`, and, where they are needed, `setup(layer, bottom, top)` and
`reshape(layer, bottom, top)`, which are called after the layer's own. `layer.gpu` is a namespace for what a twin keeps.
A layer without a twin runs on the host; the states of its blobs bring the numbers there and back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace

from caffetools.blob import Blob
from caffetools.engine.out_of_memory import OutOfMemory
from caffetools.glog import info
from caffetools.layer import Layer
from caffetools.net import device_memory

_said: set[str] = set()


def twin_of(layer: Layer) -> ModuleType | None:
    """Return the module that runs a layer on a GPU, or None."""
    name = f"{type(layer).__module__}_cu"
    return import_module(name) if find_spec(name) is not None else None


def equip(net) -> None:
    """Let the passes of a net call the layers' twins, and read its losses without waiting for the device."""
    from caffetools.engine.gpu.lag import LossReader

    net.device_scratch = 0
    net._loss_of = LossReader(net.context.engine, net.context.dtype).read
    for i, layer in enumerate(net.layers):
        twin = twin_of(layer)
        if twin is None:
            _say_once(layer, net.bottoms[i])
            net._forward[i] = partial(_forward_on_host, layer, [net.context.blob() for _ in net.tops[i]])
            continue
        before = net.context.engine.held.bytes
        try:
            run = functions(layer, twin, net.bottoms[i], net.tops[i])
        except OutOfMemory as err:
            raise device_memory.explained(net, i, "set-up", err) from None
        net._reshape[i], net._forward[i], net._backward[i] = run
        net.device_scratch += net.context.engine.held.bytes - before


def functions(layer: Layer, twin: ModuleType, bottom: Sequence[Blob], top: Sequence[Blob]) -> tuple[Callable, ...]:
    """Set up the twin of a layer that is set up itself; return what stands for its reshape, forward and backward."""
    layer.gpu = SimpleNamespace()
    if hasattr(twin, "setup"):
        twin.setup(layer, bottom, top)
    reshape = layer.reshape
    if hasattr(twin, "reshape"):
        twin.reshape(layer, bottom, top)
        reshape = partial(_reshape, layer, twin)
    backward = partial(twin.backward, layer) if hasattr(twin, "backward") else layer.backward
    return reshape, partial(twin.forward, layer), backward


def update(net) -> None:
    """Subtract the diffs from the parameters on the device."""
    from caffetools.engine.gpu import vector
    from caffetools.engine.gpu.launch import launch

    data = net.flat_data.write_device()
    launch(vector.subtract, data.size, data, net.flat_diff.read_device(), data)


def _reshape(layer, twin, bottom, top):
    layer.reshape(bottom, top)
    twin.reshape(layer, bottom, top)


def _forward_on_host(layer, spare, bottom, top):
    """Run a layer; spare: a blob for each top."""
    layer.forward(bottom, top)
    for blob, own in zip(top, spare, strict=True):
        if not hasattr(blob.data_storage, "read_device"):
            # It has shown memory of its own, as data layers do on the CPU, from which no copy goes to the device.
            own.reshape(blob.shape)
            own.data[...] = blob.data
            blob.share_data(own)


def _say_once(layer, bottom):
    # Layers that bring data in work on the host anyway.
    if bottom and layer.type not in _said:
        _said.add(layer.type)
        info(f"{layer.type} layers run on the host: they have no GPU kernels")
