"""The table of commands. To add one: a file in this folder whose `command` is a Tool, and a line here.

A program of its own also needs its two console_scripts in setup.cfg and its two links in bin/.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import NoReturn

from caffetools.cli.command import Tool

#: Programs of their own, which also run as ``caffe NAME``.
TOOLS: dict[str, str] = {
    "convert_mnist_data": "caffetools.cli.convert_mnist_data",
    "convert_imageset": "caffetools.cli.convert_imageset",
    "compute_image_mean": "caffetools.cli.compute_image_mean",
    "parse_log": "caffetools.cli.parse_log",
    "classification": "caffetools.cli.classification",
    "extract_features": "caffetools.cli.extract_features",
    "convert_cifar_data": "caffetools.cli.convert_cifar_data",
    "convert_mnist_siamese_data": "caffetools.cli.convert_mnist_siamese_data",
    "extract_seconds": "caffetools.cli.extract_seconds",
    "plot_training_log": "caffetools.cli.plot_training_log",
    "resize_and_crop_images": "caffetools.cli.resize_and_crop_images",
    "download_model_binary": "caffetools.cli.download_model_binary",
    "download_model_from_gist": "caffetools.cli.download_model_from_gist",
    "upgrade_net_proto_text": "caffetools.cli.upgrade_net_proto_text",
    "upgrade_net_proto_binary": "caffetools.cli.upgrade_net_proto_binary",
    "upgrade_solver_proto_text": "caffetools.cli.upgrade_solver_proto_text",
    "classify": "caffetools.cli.classify",
    "detect": "caffetools.cli.detect",
    "draw_net": "caffetools.cli.draw_net",
    "train_net": "caffetools.cli.train_net",
}
#: Commands that only ``caffe`` has, beside the original's own four.
ACTIONS: dict[str, str] = {
    "warm": "caffetools.cli.warm",
    "summary": "caffetools.cli.summary",
    "plot": "caffetools.cli.plot",
    "draw": "caffetools.cli.draw",
    "visualize": "caffetools.cli.visualize",
    "data": "caffetools.cli.data",
    "export": "caffetools.cli.export",
    "import": "caffetools.cli.import_weights",
    "completion": "caffetools.cli.completion",
}


def load(name: str) -> Tool | None:
    """The command of this name, if there is one."""
    module = {**TOOLS, **ACTIONS, "caffe": "caffetools.cli.caffe"}.get(name)
    return import_module(module).command if module else None


def main() -> NoReturn:
    """Run the program that this process was started as: NAME or NAME.bin, in any folder."""
    name = os.path.basename(sys.argv[0])
    command = load(name[: -len(".bin")] if name.endswith(".bin") else name)
    if command is None:
        sys.exit(f"{name}: no such program; the names are caffe, {', '.join(TOOLS)}")
    command.main()
