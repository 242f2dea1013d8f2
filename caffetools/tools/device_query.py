"""`caffe device_query`: describe the GPUs of this machine."""

from __future__ import annotations

from caffetools.engine import devices
from caffetools.glog import fatal, info
from caffetools.tools.engines import parse

#: The width of the column of labels, which readers of the original's lines rely on.
LABEL = 31


def device_query(gpu: str = "") -> None:
    """Log the devices that `gpu` names (a comma list or "all"); without it only the heading, as in the original."""
    info(f"Querying GPUs {gpu}")
    if not gpu:
        return
    why = devices.why_no_gpu()
    if why:
        fatal(f"--gpu={gpu} cannot be queried: {why}.")
    from caffetools.engine.gpu import properties

    count = devices.gpu_count()
    for index in parse(gpu):
        if not 0 <= index < count:
            fatal(f"--gpu={gpu}: there is no GPU {index}; this machine has {count}, counted from 0")
        for label, value in [*properties.properties(index), *properties.versions(index)]:
            info(f"{label + ':':{LABEL}}{value}")
