"""Time inference with weights that stay packed from pass to pass, and with weights that are packed in every pass.

    python -m scripts.bench.bench_packing [--only lenet,resnet50] [--seconds 4] [--threads 1]

Both in turns, in one process and on one net; the fastest pass counts, in milliseconds (with one thread, processor time,
which other programs disturb less). A net packs in every pass where somebody holds arrays of all its weights. "kept" is
what packed weights take beside the weights, in MiB.
"""

from __future__ import annotations

import argparse
import time

import numba
import numpy as np

from caffetools import glog
from caffetools.layer import TEST, Context
from caffetools.net import Net
from scripts.bench.bench_nets import NETS, read


def passes(name: str, batch: int, seconds: float, clock) -> tuple[float, float, Net]:
    """Return the seconds of a pass that packs and of one that need not, and the net."""
    net = Net(read(NETS[name][1], TEST, batch, NETS[name][3]), Context(TEST), plan=True)
    generator = np.random.default_rng(1)
    for blob in net.inputs:
        net.blobs[blob].data[...] = generator.standard_normal(net.blobs[blob].shape)
    best, end = [float("inf")] * 2, time.perf_counter() + seconds
    while time.perf_counter() < end or best[1] == float("inf"):
        for i, holds in enumerate((True, False)):
            held = net.param_data if holds else None
            net.forward()  # takes note of what is held
            start = clock()
            net.forward()
            best[i] = min(best[i], clock() - start)
            del held
    return *best, net


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default=",".join(NETS), help="nets, separated by commas")
    parser.add_argument("--seconds", type=float, default=4, help="for each net and batch")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    numba.set_num_threads(args.threads)
    glog.flags.minloglevel = glog.ERROR
    clock = time.process_time if args.threads == 1 else time.perf_counter
    print(f"{args.threads} thread(s)      batch  packed in every pass    kept  ratio   weights MiB    kept MiB")
    for name in args.only.split(","):
        for batch in sorted({1, NETS[name][2]}):
            every, once, net = passes(name, batch, args.seconds, clock)
            kept = net.memory().get("packed weights", 0)
            weights = sum(param.count for param in net.params) * net.context.dtype.itemsize
            print(
                f"{name:<16}{batch:>8}{every * 1e3:>22.2f}{once * 1e3:>8.2f}{every / once:>7.2f}"
                f"{weights / 2**20:>14.1f}{kept / 2**20:>12.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
