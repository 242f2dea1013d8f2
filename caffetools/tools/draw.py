"""`caffe draw`: the graph of a net as a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from caffetools import graph as passes
from caffetools import upgrade
from caffetools.formats.files import atomic_path
from caffetools.glog import FatalError, fatal, plain
from caffetools.layer import TEST, TRAIN, Context
from caffetools.net.wiring import wire
from caffetools.pictures import graph_dot, graph_matplotlib, graph_svg, style
from caffetools.pictures.graph_layout import DIRECTIONS, layout
from caffetools.proto import caffe_pb2
from caffetools.tools import net_inputs
from caffetools.tools.net_graph import Shapes, net_graph

PHASES = {"ALL": None, "TRAIN": TRAIN, "TEST": TEST}
#: Who places the boxes: Graphviz where it is installed, Graphviz or nobody, this program.
ENGINES = ("auto", "graphviz", "own")


def draw(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    rankdir: str = "TB",
    phase: str = "ALL",
    display_lrm: bool = False,
    inputs: str = "",
    engine: str = "auto",
    level: int = 0,
    stage: str = "",
) -> Path:
    """Draw the net of a prototxt and return the picture's path.

    output: a path that ends in .svg or .png. rankdir: where the graph flows, TB, LR, BT or RL. phase: TRAIN, TEST, or
    ALL for both in one graph. display_lrm: whether learnt layers tell their learning rate's multipliers. inputs:
    shapes of inputs whose data is not at hand, such as "data:64,3,227,227"; without them, and without the data,
    the graph has no shapes. engine: auto, graphviz or own. level, stage (a comma list): the rest of the state of one
    phase; ALL shows the layers of all levels and stages.

    Errors: FatalError for a net that is none, and for a PNG file with neither Graphviz nor matplotlib at hand.
    """
    path = style.check_path(output, "OUT")
    _check_choice("rankdir", rankdir, DIRECTIONS)
    _check_choice("phase", phase, tuple(PHASES))
    _check_choice("engine", engine, ENGINES)
    if engine == "graphviz" and not graph_dot.program():
        fatal("--engine=graphviz: there is no program dot; install Graphviz, or leave --engine out")
    param = upgrade.read_net_text(os.fspath(model))
    param.state.level = level
    param.state.stage.extend(filter(None, stage.split(",")))
    graph = net_graph(param, PHASES[phase], known_shapes(param, PHASES[phase], inputs), display_lrm)
    kind = path.suffix[1:].lower()
    if engine != "own" and graph_dot.program():
        _write(path, graph_dot.render(graph, rankdir, kind))
    elif kind == "svg":
        _write(path, graph_svg.text(layout(graph, rankdir), graph.name or path.stem).encode())
    else:
        graph_matplotlib.save(layout(graph, rankdir), path)
    return path


def known_shapes(param: caffe_pb2.NetParameter, phase: int | None, inputs: str = "") -> Shapes:
    """Return the shapes of a net's blobs in a phase, or in both, as far as they can be known without its data."""
    given = net_inputs.parse_shapes(inputs)
    shapes: Shapes = {}
    for one in (TRAIN, TEST) if phase is None else (phase,):
        net = caffe_pb2.NetParameter()
        net.CopyFrom(param)
        net.state.phase = one
        filtered = passes.filter_net(net)
        try:
            known = net_inputs.with_inputs(filtered, given)
            wiring = wire(passes.insert_splits(known, net), Context(one, fill=False))
        except FatalError as err:
            if inputs:
                raise
            plain(f"Without shapes in the phase {caffe_pb2.Phase.Name(one)}: {err}")
            continue
        shapes |= {
            (one, name): blob.shape for name, blob in zip(wiring.blob_names, wiring.blobs, strict=True)
        }
        for layer in wiring.layers:
            layer.close()
    return shapes


def _check_choice(flag: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        fatal(f"--{flag}={value}: it is one of {', '.join(choices)}")


def _write(path: Path, content: bytes) -> None:
    with atomic_path(path) as temporary:
        Path(temporary).write_bytes(content)
