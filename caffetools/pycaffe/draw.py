"""`caffe.draw`: the graph of a net, as the original drew it, through pydot and Graphviz.

    caffe.draw.draw_net_to_file(net_param, "net.png")

Layers are boxes with type and settings, blobs are octagons, edges tell numbers of outputs. `caffe draw` on the command
line gives a picture with shapes, and needs neither.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from caffetools.glog import fatal
from caffetools.proto import caffe_pb2

if TYPE_CHECKING:
    import pydot

LayerParameter, NetParameter = caffe_pb2.LayerParameter, caffe_pb2.NetParameter

LAYER_STYLE_DEFAULT = {"shape": "record", "fillcolor": "#6495ED", "style": "filled"}
NEURON_LAYER_STYLE = {"shape": "record", "fillcolor": "#90EE90", "style": "filled"}
BLOB_STYLE = {"shape": "octagon", "fillcolor": "#E0E0E0", "style": "filled"}

_COLORS = {
    "Convolution": "#FF5050",
    "Deconvolution": "#FF5050",
    "Pooling": "#FF9900",
    "InnerProduct": "#CC33FF",
}


def get_pooling_types_dict() -> dict[int, str]:
    """Return the names of the ways to pool by their numbers."""
    return {number: name for name, number in caffe_pb2.PoolingParameter.PoolMethod.items()}


def get_edge_label(layer: LayerParameter) -> str:
    """Return what an edge from a layer tells: the batch size of data, the number of outputs, or a blank."""
    if layer.type == "Data":
        return f"Batch {layer.data_param.batch_size}"
    if layer.type in ("Convolution", "Deconvolution"):
        return str(layer.convolution_param.num_output)
    if layer.type == "InnerProduct":
        return str(layer.inner_product_param.num_output)
    return " "


def get_layer_lr_mult(layer: LayerParameter) -> float:
    """Return the first learning-rate multiplier of a layer that has weights, 1 where none is said, and 0 for others."""
    if layer.type not in ("Convolution", "Deconvolution", "InnerProduct"):
        return 0
    return layer.param[0].lr_mult if layer.param else 1.0


def get_layer_label(layer: LayerParameter, rankdir: str, display_lrm: bool = False) -> str:
    """Return the text of a layer: its name, its type, kernel, stride and pad.

    rankdir: the direction of the graph; the lines are side by side where it goes from top to bottom. display_lrm:
    whether to tell the multiplier of the learning rate.
    """
    separator = " " if rankdir in ("TB", "BT") else r"\n"
    lines = [_escaped(layer.name), f"({_escaped(layer.type)})"]
    if layer.type in ("Convolution", "Deconvolution"):
        lines += _window(layer.convolution_param)
    elif layer.type == "Pooling":
        method = get_pooling_types_dict()[layer.pooling_param.pool]
        lines[1] = f"({method} {layer.type})"
        lines += _window(layer.pooling_param)
    multiplier = get_layer_lr_mult(layer)
    if display_lrm and multiplier:
        lines.append(f"lr mult: {multiplier:g}")
    return separator.join(lines)


def choose_color_by_layertype(layertype: str) -> str:
    """Return the fill of a layer's box."""
    return _COLORS.get(layertype, LAYER_STYLE_DEFAULT["fillcolor"])


def get_pydot_graph(
    caffe_net: NetParameter,
    rankdir: str,
    label_edges: bool = True,
    phase: int | None = None,
    display_lrm: bool = False,
) -> pydot.Dot:
    """Return the graph of a net.

    rankdir: its direction, LR, TB, BT or RL. phase: TRAIN or TEST, to leave out the layers of the other; None for all.
    Layers that work in place are put on their blob. Errors: ImportError without pydot.
    """
    pydot = _pydot()
    dot = pydot.Dot(_quoted(caffe_net.name or "Net"), graph_type="digraph", rankdir=rankdir)
    for layer in caffe_net.layer:
        if phase is not None and not _in_phase(layer, phase):
            continue
        node = f"{layer.name}_{layer.type}"
        in_place = len(layer.bottom) == len(layer.top) == 1 and layer.bottom[0] == layer.top[0]
        style = (
            NEURON_LAYER_STYLE
            if in_place
            else LAYER_STYLE_DEFAULT | {"fillcolor": choose_color_by_layertype(layer.type)}
        )
        label = _quoted(get_layer_label(layer, rankdir, display_lrm), escape=False)
        dot.add_node(pydot.Node(_quoted(node), label=label, **_quoted_values(style)))
        ends = [(f"{blob}_blob", node, " ") for blob in layer.bottom]
        ends += [(node, f"{blob}_blob", get_edge_label(layer) if label_edges else " ") for blob in layer.top]
        for blob in [*layer.bottom, *layer.top]:
            dot.add_node(
                pydot.Node(_quoted(f"{blob}_blob"), label=_quoted(blob), **_quoted_values(BLOB_STYLE))
            )
        for source, target, text in ends:
            dot.add_edge(pydot.Edge(_quoted(source), _quoted(target), label=_quoted(text)))
    return dot


def draw_net(
    caffe_net: NetParameter,
    rankdir: str,
    ext: str = "png",
    phase: int | None = None,
    display_lrm: bool = False,
) -> bytes:
    """Return a picture of a net, in any format that Graphviz writes.

    Errors: ImportError without pydot, FatalError without Graphviz or for a format that it does not write.
    """
    dot = get_pydot_graph(caffe_net, rankdir, phase=phase, display_lrm=display_lrm)
    if ext in ("raw", "dot"):
        return dot.to_string().encode()
    try:
        return dot.create(format=ext)
    except FileNotFoundError:
        fatal(
            "Graphviz draws nets, and its program dot was not found: install Graphviz (apt install graphviz)"
        )
    except AssertionError as err:
        fatal(f"Graphviz did not write the format {ext}: {err}")


def draw_net_to_file(
    caffe_net: NetParameter,
    filename: str | os.PathLike,
    rankdir: str = "LR",
    phase: int | None = None,
    display_lrm: bool = False,
) -> None:
    """Write a picture of a net to a file, in the format that its name ends with."""
    ext = os.path.splitext(filename)[1][1:] or "png"
    picture = draw_net(caffe_net, rankdir, ext, phase, display_lrm)
    with open(filename, "wb") as file:
        file.write(picture)


def _pydot():
    try:
        import pydot
    except ImportError:
        raise ImportError(
            "caffe.draw needs pydot and Graphviz: pip install pydot, apt install graphviz (`caffe draw` needs neither)"
        ) from None
    return pydot


def _in_phase(layer, phase):
    """Return whether a net has a layer in a phase, with some level and some stages."""
    if layer.include:
        return any(not rule.HasField("phase") or rule.phase == phase for rule in layer.include)
    return not any(rule.HasField("phase") and rule.phase == phase for rule in layer.exclude)


def _window(param):
    return [
        f"kernel size: {_size(param, 'kernel')}",
        f"stride: {_size(param, 'stride')}",
        f"pad: {_size(param, 'pad')}",
    ]


def _size(param, name):
    """Return a size of a window, as `3` or, where it is not the same along all axes, `3x5`."""
    along = [getattr(param, f"{name}_{axis}") for axis in "hw" if param.HasField(f"{name}_{axis}")]
    field = "kernel_size" if name == "kernel" else name
    value = getattr(param, field)
    sizes = along or list(value if hasattr(value, "__len__") else [value]) or [0 if name == "pad" else 1]
    return str(sizes[0]) if len(set(sizes)) == 1 else "x".join(map(str, sizes))


def _escaped(text):
    """Return a text without what has a meaning in the labels of records."""
    for character in "\\{}|<>":
        text = text.replace(character, "\\" + character)
    return text


def _quoted(text, escape=True):
    if escape:
        text = text.replace("\\", "\\\\")
    return '"' + text.replace('"', '\\"') + '"'


def _quoted_values(style):
    return {key: _quoted(value) for key, value in style.items()}
