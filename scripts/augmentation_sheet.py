"""Draw a contact sheet of what `transform_param.augmentation` makes of pictures.

    python scripts/augmentation_sheet.py PICTURE [PICTURE ...] [--out sheet.png] [--size 128] [--columns 8]
        [--seed 1] [--augmentation "max_rotation: 20 hue: 0.1" ...]

A row shows one setting: the samples of one batch of training, as the data layer gives them. Without
--augmentation there is a row for each kind. Several pictures take turns.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from google.protobuf import text_format
from PIL import Image, ImageDraw

from caffetools.formats import image
from caffetools.glog import FatalError
from caffetools.layer import TRAIN
from caffetools.proto import caffe_pb2
from caffetools.samples.transform import Transformer

GAP = 4  # pixels between tiles, and around them
TITLE = 16  # height of the line above each row
KINDS = (
    "resize_short: {size}",
    "random_resized_crop {{ }}",
    "random_resized_crop {{ min_area: 0.5 min_aspect: 0.4 max_aspect: 0.5 }}",
    "resize_short: {size} max_rotation: 30",
    "resize_short: {size} brightness: 0.6",
    "resize_short: {size} contrast: 0.8",
    "resize_short: {size} saturation: 1",
    "resize_short: {size} hue: 0.5",
    "resize_short: {size} cutout {{ size: {half} }}",
    "resize_short: {size} cutout {{ size: {eighth} holes: 12 }}",
    "resize_short: {size} mixup {{ alpha: 1 }}",
    "random_resized_crop {{ }} max_rotation: 10 brightness: 0.3 contrast: 0.3 saturation: 0.3 hue: 0.05 "
    "cutout {{ size: {half} }}",
)


def samples(pictures: list[np.ndarray], augmentation: str, size: int, count: int, seed: int) -> np.ndarray:
    """Return a batch of `count` samples: float32 (count, channels, size, size), the pictures in turns."""
    text = f"crop_size: {size} augmentation {{ {augmentation} }}"
    param = text_format.Parse(text, caffe_pb2.TransformationParameter())
    transformer = Transformer(param, TRAIN, np.float32, np.uint64(seed), "img")
    taken = [pictures[i % len(pictures)] for i in range(count)]
    shapes = [picture.shape for picture in taken]
    out = np.empty((count, *transformer.output_shape(shapes[0])), np.float32)
    for shape in shapes:
        transformer.check_fits(shape, out.shape[1:])
    transformer.transform(shapes, taken, np.dtype(np.uint8), np.arange(count, dtype=np.uint64), out)
    if transformer.mixup:
        transformer.mixup.apply(out, np.zeros(count, np.int64), seed, 0)
    return out


def draw_sheet(
    pictures: list[np.ndarray], rows: list[str], size: int, columns: int, seed: int
) -> Image.Image:
    """Return the sheet. pictures: uint8 (3, height, width), blue, green, red; rows: their augmentations."""
    width = GAP + columns * (size + GAP)
    sheet = Image.new("RGB", (width, GAP + len(rows) * (TITLE + size + GAP)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, augmentation in enumerate(rows):
        top = GAP + row * (TITLE + size + GAP)
        pen.text((GAP, top), augmentation, "black")
        batch = samples(pictures, augmentation, size, columns, seed)
        tiles = np.rint(batch).astype(np.uint8)[:, ::-1].transpose(0, 2, 3, 1)
        for column, tile in enumerate(tiles):
            left = GAP + column * (size + GAP)
            sheet.paste(Image.fromarray(np.ascontiguousarray(tile)), (left, top + TITLE))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("pictures", nargs="+", metavar="PICTURE")
    parser.add_argument("--out", default="augmentation.png")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--augmentation", action="append")
    args = parser.parse_args()
    sizes = {"size": args.size, "half": args.size // 2, "eighth": args.size // 8}
    rows = args.augmentation or [kind.format(**sizes) for kind in KINDS]
    try:
        pictures = [image.decode(Path(path).read_bytes(), color=True) for path in args.pictures]
        draw_sheet(pictures, rows, args.size, args.columns, args.seed).save(args.out)
    except (FatalError, OSError, text_format.ParseError) as err:
        parser.error(str(err))


if __name__ == "__main__":
    main()
