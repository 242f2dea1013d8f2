"""draw_net: the graph of a net as a picture."""

from __future__ import annotations

from importlib.util import find_spec

from caffetools import upgrade
from caffetools.formats.files import atomic_path
from caffetools.glog import fatal
from caffetools.proto.caffe_pb2 import TEST, TRAIN
from caffetools.pycaffe import draw
from caffetools.tools import draw as own

PHASES = {"ALL": None, "TRAIN": TRAIN, "TEST": TEST}


def draw_net(
    input_net_proto_file: str,
    output_image_file: str,
    rankdir: str = "LR",
    phase: str = "ALL",
    display_lrm: bool = False,
) -> None:
    """Draw a net as the original does, through pydot and Graphviz; without pydot as `caffe draw` does.

    rankdir: the direction of the graph, LR, TB, BT or RL. phase: TRAIN, TEST or ALL. display_lrm: whether to tell
    the multipliers of learning rates. The picture's format is what its name ends with.
    """
    if phase not in PHASES:
        fatal(f"--phase={phase}: it is one of {', '.join(PHASES)}")
    print(f"Drawing net to {output_image_file}")
    if find_spec("pydot") is None:
        own.draw(input_net_proto_file, output_image_file, rankdir, phase, display_lrm)
        return
    net = upgrade.read_net_text(input_net_proto_file)
    ext = output_image_file.rpartition(".")[2] if "." in output_image_file else "png"
    picture = draw.draw_net(net, rankdir, ext, PHASES[phase], display_lrm)
    with atomic_path(output_image_file) as temporary, open(temporary, "wb") as file:
        file.write(picture)
