"""Time whole nets on a GPU against PyTorch with cuDNN: forward passes and training steps, in one run and in turns.

    python -m scripts.bench.bench_gpu [--only alexnet,googlenet] [--rounds 9] [--seconds 0.3] [--gpu 0] [--tf32]

Both sides run the same layers with the same weights on the same random data, which are on the device. A round times as
many passes of each side as fit into `--seconds`, one side after the other and the next round the other way round, from
an idle device to an idle device. The table shows images a second by the median times, the median of the rounds' ratios
PyTorch time / our time with the smallest and the largest, and a result of the first pass of either side; below it stand
the bars. Neither side may round to TF32, or both with `--tf32`. PyTorch may try cuDNN's algorithms (`cudnn.benchmark`).

`--dry_run` needs no GPU: small nets in numba's simulator, PyTorch on the CPU, figures without meaning.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable

from scripts.bench.gpu_table import HEADER, Race, verdicts

#: Batches; those of the larger nets fill a card of 24 GB on one side at a time.
BATCHES = {
    "lenet": 64,
    "cifar10_quick": 100,
    "alexnet": 256,
    "googlenet": 128,
    "vgg16": 64,
    "resnet50": 64,
}
DRY = ("lenet", "cifar10_quick")


def race(ours: Callable, theirs: Callable, settle: Callable, rounds: int, seconds: float) -> tuple[list, list]:
    """Time both sides in turns; return the seconds of one pass of each side, round by round.

    A side makes as many passes as it is told. settle: waits until the device is idle.
    """
    sides = ours, theirs
    counts = [_passes_within(side, settle, seconds) for side in sides]
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        for i in (0, 1) if number % 2 == 0 else (1, 0):
            times[i].append(_time(sides[i], settle, counts[i]))
    return times


def _time(side, settle, count):
    settle()
    start = time.perf_counter()
    side(count)
    settle()
    return (time.perf_counter() - start) / count


def _passes_within(side, settle, seconds):
    """Warm a side up and return how many passes take about so long."""
    count = 1
    while True:
        taken = _time(side, settle, count) * count
        if taken >= seconds / 2 or count >= 1 << 16:
            return max(1, round(count * seconds / max(taken, 1e-9)))
        count *= 2


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="comma list of nets: " + ", ".join(BATCHES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.3, help="of one side in one round")
    parser.add_argument("--batch", type=int, default=0, help="of all nets, instead of each one's own")
    parser.add_argument("--gpu", type=int, default=0)
    parser.add_argument("--tf32", action="store_true", help="let both sides round to TF32")
    parser.add_argument("--dry_run", action="store_true", help="without a GPU, small nets, no meaning")
    args = parser.parse_args(argv)
    names = args.only.split(",") if args.only else list(DRY if args.dry_run else BATCHES)
    unknown = [name for name in names if name not in BATCHES]
    if unknown:
        parser.error(f"unknown net {unknown[0]} (there are {', '.join(BATCHES)})")
    if args.dry_run:
        os.environ["NUMBA_ENABLE_CUDASIM"] = "1"  # before numba is imported
    from scripts.bench.gpu_sides import Bench

    bench = Bench(args.gpu, args.tf32, args.dry_run)
    print(bench.title())
    print(HEADER)
    races = []
    for name in names:
        batch = 2 if args.dry_run else args.batch or BATCHES[name]
        for what, make in (("forward", bench.forward), ("training step", bench.training)):
            try:
                ours, theirs, check = make(name, batch)
                times = race(ours, theirs, bench.settle, args.rounds, args.seconds)
            except bench.too_large as error:
                print(f"{name:<15}{batch:>6}  {what:<14}out of memory: {str(error).partition(chr(10))[0]}", flush=True)
                ours = theirs = None
                bench.free()
                continue
            races.append(Race(name, batch, what, *times, check))
            print(races[-1].line(), flush=True)
            ours = theirs = None
            bench.free()
    lines = verdicts(races)
    print("\n".join(lines))
    if args.dry_run:
        print("A dry run: the figures say nothing.")
        return 0
    return int(any(line.startswith("FAIL") for line in lines) or not races)


if __name__ == "__main__":
    sys.exit(main())
