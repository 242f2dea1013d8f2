"""Time convert_imageset against what the original does, in one thread of OpenCV: read, resize, store.

    python scripts/bench/bench_convert_imageset.py [--pictures 2000] [--rounds 3] [--folder /tmp]

Needs `pip install opencv-python-headless`. Pictures are JPEG files of 500 x 375 that are made first; they go into an
LMDB as 256 x 256. The two take turns, so that what else the machine does meets both. CPU time is that of all threads.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import lmdb
import numpy as np

from caffetools import glog
from caffetools.engine.cpu.threads import thread_count
from caffetools.proto import caffe_pb2
from caffetools.tools.convert_imageset import Options, convert

HEIGHT, WIDTH, SIDE = 375, 500, 256


def make_pictures(folder: Path, count: int) -> None:
    """Write pictures with structure of every size, and their list; about 65 kB each, as photographs have it."""
    rng = np.random.default_rng(0)
    with open(folder / "list.txt", "w", encoding="ascii") as file:
        for i in range(count):
            picture = rng.normal(128, 11, (HEIGHT, WIDTH, 3)).astype(np.float32)
            for size in (4, 8, 16, 64, 128, 256):
                noise = rng.normal(0, 0.3 * size**0.9, (HEIGHT // size + 2, WIDTH // size + 2, 3))
                picture += cv2.resize(
                    noise.astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC
                )
            pixels = picture.clip(0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / f"{i:06d}.jpg"), pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])
            file.write(f"{i:06d}.jpg {i % 1000}\n")


def one_thread_of_opencv(folder: Path) -> None:
    """What the original's convert_imageset does."""
    env = lmdb.open(str(folder / "db"), map_size=8 << 30)
    lines = [line.rsplit(" ", 1) for line in (folder / "list.txt").read_text().splitlines()]
    transaction = env.begin(write=True)
    for i, (name, label) in enumerate(lines):
        picture = cv2.resize(cv2.imread(str(folder / name), cv2.IMREAD_COLOR), (SIDE, SIDE))
        datum = caffe_pb2.Datum(channels=3, height=SIDE, width=SIDE, label=int(label), encoded=False)
        datum.data = picture.transpose(2, 0, 1).tobytes()
        transaction.put(f"{i:08d}_{name}".encode(), datum.SerializeToString())
        if (i + 1) % 1000 == 0:
            transaction.commit()
            transaction = env.begin(write=True)
    transaction.commit()
    env.close()


def opencv_without_storing(folder: Path) -> None:
    for line in (folder / "list.txt").read_text().splitlines():
        picture = cv2.imread(str(folder / line.rsplit(" ", 1)[0]), cv2.IMREAD_COLOR)
        cv2.resize(picture, (SIDE, SIDE)).transpose(2, 0, 1).tobytes()


def ours(folder: Path) -> None:
    options = Options(resize_width=SIDE, resize_height=SIDE)
    convert(f"{folder}/", str(folder / "list.txt"), str(folder / "db"), options)


def measure(action: Callable[[Path], None], folder: Path) -> tuple[float, float]:
    """Seconds by the clock and of the processors."""
    shutil.rmtree(folder / "db", ignore_errors=True)
    os.sync()
    wall, cpu = time.perf_counter(), time.process_time()
    action(folder)
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", help="where to write (default: the system's temporary folder)")
    args = parser.parse_args()
    glog.flags.minloglevel = glog.WARNING
    cv2.setNumThreads(1)
    actions = {
        "OpenCV, one thread": one_thread_of_opencv,
        "OpenCV, one thread, nothing stored": opencv_without_storing,
        f"convert_imageset, {thread_count()} threads": ours,
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in actions}
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        make_pictures(folder, args.pictures)
        ours(folder)  # which compiles the kernels
        for _ in range(args.rounds):
            for what, action in actions.items():
                times[what].append(measure(action, folder))
    print(f"{args.pictures} pictures, OpenCV {cv2.__version__}{'pictures/s':>34s}{'CPU ms each':>14s}")
    best = {what: min(wall for wall, _ in pairs) for what, pairs in times.items()}
    for what, pairs in times.items():
        cpu = min(cpu for _, cpu in pairs)
        print(f"{what:54s}{args.pictures / best[what]:14.0f}{cpu / args.pictures * 1e3:14.2f}")
    yardstick, _, mine = best.values()
    print(f"convert_imageset is {yardstick / mine:.2f} times as fast as one thread of OpenCV")


if __name__ == "__main__":
    main()
