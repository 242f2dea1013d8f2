"""Time the start: `caffe --help`, the first iteration with compiled kernels at hand, and without any.

    python scripts/bench/bench_start.py [--nets lenet,googlenet] [--rounds 5] [--cold] [--threads 2]

Every figure is of a process of its own, from its start. The nets read LMDBs of random records made for the occasion; a
run tests one batch, trains one iteration and ends. "first iteration" is when the log shows iteration 0, its
forward and backward pass done; "in all" is the end of the process. A cold run starts with an empty cache of
kernels: it is what a new installation waits for once. The net's batch is that of the other benchmarks.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from caffetools import glog
from scripts.bench.lmdb_nets import write_solver

ROOT = Path(__file__).parents[2]


def environment(cache: Path | None, threads: int | None) -> dict[str, str]:
    """Return the variables of a run. cache: where compiled kernels are; None for the user's own."""
    result = {**os.environ, "PYTHONPATH": str(ROOT)}
    if cache:
        result["NUMBA_CACHE_DIR"] = str(cache)
    if threads:
        result["NUMBA_NUM_THREADS"] = str(threads)
    return result


def seconds_of_help(variables: dict[str, str]) -> float:
    """Return how long `caffe --help` takes."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "caffetools.cli.caffe", "--help"], env=variables, capture_output=True
    )
    return time.perf_counter() - start


def seconds_of_run(solver: Path, variables: dict[str, str]) -> tuple[float, float, str]:
    """Return when the first iteration was shown, when the process ended, and what it said about compiling."""
    command = [sys.executable, "-m", "caffetools.cli.caffe", "train", f"--solver={solver}", "--logtostderr"]
    start, first, notice, said = time.perf_counter(), 0.0, "", ""
    with subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            said += line
            if re.search(r"Iteration 0 \(", line):
                first = time.perf_counter() - start
            if line.startswith("compiling kernels"):
                notice = line.strip()
    if process.returncode or not first:
        sys.exit(f"{said[-2000:]}{' '.join(command)} failed")
    return first, time.perf_counter() - start, notice


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--nets", default="lenet,googlenet")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median is shown")
    parser.add_argument("--cold", action="store_true", help="also with an empty cache (a minute or two)")
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    glog.flags.minloglevel = glog.ERROR
    own = environment(None, args.threads)
    print(f"caffe --help: {statistics.median(seconds_of_help(own) for _ in range(args.rounds)):.3f} s")
    print(f"\n{'net':<18}{'cache':<8}{'first iteration':>16}{'in all':>9}   seconds from the start")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for net in args.nets.split(","):
            solver = write_solver(folder, net, test_initialization=True)
            if args.cold:
                first, whole, notice = seconds_of_run(
                    solver, environment(folder / f"cache {net}", args.threads)
                )
                print(f"{net:<18}{'empty':<8}{first:>16.2f}{whole:>9.2f}   said: {notice[:23]}", flush=True)
            seconds_of_run(solver, own)
            runs = [seconds_of_run(solver, own)[:2] for _ in range(args.rounds)]
            first, whole = (statistics.median(values) for values in zip(*runs, strict=True))
            print(f"{net:<18}{'full':<8}{first:>16.2f}{whole:>9.2f}", flush=True)


if __name__ == "__main__":
    main()
