"""Draw loss and test accuracy of a training log: `python scripts/plot_training_curve.py LOG PICTURE.svg`.

Needs matplotlib (`pip install caffetools[plot]`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

from caffetools.tools.parse_log import parse_log  # noqa: E402

# Colours that stay apart for colour-blind readers, on white and on dark pages (the figure brings its own background).
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#8c8c8c"


def draw(log_file: str, picture: str, title: str) -> None:
    """Write a picture with the losses (left axis, logarithmic) and the test accuracy (right axis)."""
    log = parse_log(log_file)
    figure, losses = plt.subplots(figsize=(8, 4.2), layout="constrained")
    losses.plot(*zip(*log.loss, strict=True), color=GREY, linewidth=0.8, label="training loss")
    losses.plot(*zip(*log.test["loss"], strict=True), color=BLUE, marker="o", markersize=3, label="test loss")
    losses.set(xlabel="iteration", ylabel="loss", yscale="log", title=title)
    losses.grid(alpha=0.25)
    accuracy = losses.twinx()
    points = log.test["accuracy"]
    accuracy.plot(*zip(*points, strict=True), color=ORANGE, marker="s", markersize=3, label="test accuracy")
    accuracy.set(ylabel="test accuracy", ylim=(0.9, 1.005))
    iteration, value = points[-1]
    accuracy.annotate(
        f"{value:.4f}", (iteration, value), xytext=(0, 9), textcoords="offset points", ha="right", color=ORANGE
    )
    lines = losses.get_lines() + accuracy.get_lines()
    figure.legend(lines, [line.get_label() for line in lines], loc="outside lower center", ncols=len(lines), frameon=False)
    figure.savefig(picture, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log")
    parser.add_argument("picture")
    parser.add_argument("--title", default="")
    args = parser.parse_args()
    draw(args.log, args.picture, args.title or Path(args.log).stem)


if __name__ == "__main__":
    main()
