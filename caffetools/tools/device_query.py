"""`caffe device_query`: describe the GPUs of this machine."""

from __future__ import annotations

from caffetools.engine import devices
from caffetools.glog import fatal, info


def device_query(gpu: str = "") -> None:
    """Log the devices that `gpu` names (a comma list or "all"); without it only the heading, as in the original."""
    info(f"Querying GPUs {gpu}")
    if gpu:
        fatal(f"--gpu={gpu} cannot be queried: {devices.why_no_gpu()}.")
