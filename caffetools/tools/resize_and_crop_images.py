"""`resize_and_crop_images`: a folder of pictures as squares: the short side resized, the centre cut out.

Folders below it are kept. Pictures are worked on in threads, and each is written whole or not at all.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator

import numpy as np

from caffetools.formats import image, picture_encoder
from caffetools.formats.files import reason
from caffetools.glog import FatalError, check, error, fatal, info
from caffetools.samples.decode import resized
from caffetools.tools.allocator import keep_freed_memory
from caffetools.tools.classification import EXTENSIONS
from caffetools.tools.ordered_map import ordered_map

_REPORT_EVERY = 1000  # pictures


def opencv(data: bytes, side: int) -> np.ndarray:
    """Resize as OpenCV does, four pixels for each new one, then crop; return blue, green, red."""
    loaded = image.load(data, True)
    new_height = max(side, side * loaded.height // loaded.width)
    new_width = max(side, side * loaded.width // loaded.height)
    picture = resized(loaded, True, new_height, new_width)
    top, left = (new_height - side) // 2, (new_width - side) // 2
    return picture[:, top : top + side, left : left + side]


def pil(data: bytes, side: int) -> np.ndarray:
    """Crop, then resize with smoothing (Lanczos); return blue, green, red."""
    from PIL import Image

    picture = image.load(data, True).convert("RGB")
    short = min(picture.size)
    left, top = (picture.width - short) // 2, (picture.height - short) // 2
    square = picture.crop((left, top, left + short, top + short))
    return image.to_chw(square.resize((side, side), Image.Resampling.LANCZOS), True)


LIBRARIES: dict[str, Callable[[bytes, int], np.ndarray]] = {"opencv": opencv, "pil": pil}


def resize_and_crop(
    source: str, target: str, side: int = 256, library: str = "opencv", names: str = ""
) -> int:
    """Make squares of the pictures of a folder; return the exit status: 1 if some could not be made.

    source, target: folders. side: of the squares, in pixels. library: "opencv" or "pil", whose way of resizing is
    followed. names: a file that lists pictures, by their paths below `source` (what follows a blank does not
    count); without it all are taken.
    """
    keep_freed_memory()
    warnings.filterwarnings("ignore", module="PIL")  # remarks on odd files would get between the log's lines
    check(side > 0, "output_side_length > 0", f"--output_side_length={side} leaves no pixel")
    if library not in LIBRARIES:
        fatal(f"Unknown image_lib: {library} (known: {', '.join(LIBRARIES)})")
    if not os.path.isdir(source):
        fatal(f"There is no folder {source}: --input_folder says where the pictures are")
    if not target:
        fatal("--output_folder must say where the squares go")
    if os.path.realpath(source) == os.path.realpath(target):
        fatal(f"--output_folder={target} is the input folder: its pictures would be lost")
    files = _listed(names, source) if names else sorted(_pictures(source))
    if not files:
        fatal(f"There are no pictures in {names or source} (files that end in {', '.join(EXTENSIONS)})")
    info(f"A total of {len(files)} images.")

    def make(file: str) -> str:
        return _make(os.path.join(source, file), os.path.join(target, file), side, LIBRARIES[library])

    failed = 0
    for number, (file, problem) in enumerate(zip(files, ordered_map(make, files), strict=True), 1):
        if problem:
            error(f"Could not resize {os.path.join(source, file)} ({problem})")
            failed += 1
        if number % _REPORT_EVERY == 0:
            info(f"Processed {number} files.")
    if len(files) % _REPORT_EVERY:
        info(f"Processed {len(files)} files.")
    if failed:
        error(f"{failed} of {len(files)} pictures could not be resized")
    return int(failed > 0)


def _make(source: str, target: str, side: int, square: Callable[[bytes, int], np.ndarray]) -> str:
    """Make one square; return why that was not possible, or ""."""
    try:
        with open(source, "rb") as file:
            data = file.read()
        extension = os.path.splitext(target)[1].lstrip(".").lower()
        encoded = picture_encoder.encode(np.ascontiguousarray(square(data, side)), extension)
        os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
        temporary = f"{target}.part"
        try:
            with open(temporary, "wb") as file:
                file.write(encoded)
            os.replace(temporary, target)
        except OSError:
            if os.path.exists(temporary):
                os.unlink(temporary)
            raise
    except FatalError as err:
        return str(err)
    except OSError as err:
        return reason(err)
    return ""


def _pictures(folder: str) -> Iterator[str]:
    """Paths of pictures below a folder."""
    for place, _, names in os.walk(folder):
        for name in names:
            if name.lower().endswith(EXTENSIONS):
                yield os.path.relpath(os.path.join(place, name), folder)


def _listed(names: str, folder: str) -> list[str]:
    try:
        with open(names, encoding="utf-8", errors="surrogateescape") as file:
            words = [line.split()[0] for line in file if line.strip()]
    except OSError as err:
        fatal(f"Failed to open the list of pictures: {names} ({reason(err)})")
    return [word.removeprefix(folder).lstrip("/") for word in words]
