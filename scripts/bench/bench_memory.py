"""Peak memory of whole nets beside PyTorch's: training steps (forward, backward, update) and inference.

    python -m scripts.bench.bench_memory [--only alexnet,googlenet] [--threads 2]

Each number comes from a fresh process. It builds and runs the net once, so that libraries and kernels are loaded, gives
its memory back and notes the resident set; then it builds it again and runs three passes. The peak is the most that the
resident set (the kernel's VmHWM) grew to in these passes, less what was noted: blobs, parameters, gradients, the update
rule's history, and whatever the engine needs beside them.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numba
import torch  # first: PyTorch's threads must not see the settings that the engine makes for its own

from caffetools import glog
from caffetools.engine.cpu import workspace
from caffetools.layer import TEST, TRAIN, Context
from caffetools.net import Net
from caffetools.proto import caffe_pb2
from caffetools.solver import Solver
from scripts.bench.bench_nets import NETS, feed, read
from scripts.bench.torch_net import TorchNet

PASSES = 3
SIDES, WHATS = ("ours", "PyTorch"), ("training", "inference")


def our_training(file: str, batch: int, picture: tuple[int, ...], classes: int) -> Callable[[], object]:
    param = caffe_pb2.SolverParameter(
        base_lr=1e-4, momentum=0.9, weight_decay=0.0005, lr_policy="fixed", random_seed=1, stop_on_nan=False
    )
    param.net_param.CopyFrom(read(file, TRAIN, batch, picture))
    solver = Solver(param, plan=True)
    feed(solver.net, classes)
    return lambda: solver.step(1)


def our_inference(file: str, batch: int, picture: tuple[int, ...], classes: int) -> Callable[[], object]:
    net = Net(read(file, TEST, batch, picture), Context(), plan=True)
    feed(net, classes)
    return net.forward


def their_training(file: str, batch: int, picture: tuple[int, ...], classes: int) -> Callable[[], object]:
    net = Net(read(file, TRAIN, batch, picture), Context())
    inputs = feed(net, classes)
    module = TorchNet(net).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-4, momentum=0.9, weight_decay=0.0005)

    def step():
        optimizer.zero_grad(set_to_none=True)
        module(*inputs).backward()
        optimizer.step()

    return step


def their_inference(file: str, batch: int, picture: tuple[int, ...], classes: int) -> Callable[[], object]:
    net = Net(read(file, TEST, batch, picture), Context())
    inputs = feed(net, classes)
    module = TorchNet(net).eval()

    def run():
        with torch.inference_mode():
            return module(*inputs)

    return run


MAKERS = {
    ("ours", "training"): our_training,
    ("ours", "inference"): our_inference,
    ("PyTorch", "training"): their_training,
    ("PyTorch", "inference"): their_inference,
}


def measure(name: str, what: str, side: str) -> float:
    """Return the growth of the resident set in this process, in MiB."""
    train, deploy, batch, picture, classes = NETS[name]
    file, make = train if what == "training" else deploy, MAKERS[side, what]
    make(file, batch, picture, classes)()
    give_back()
    before = resident("VmRSS")
    run = make(file, batch, picture, classes)
    give_back()  # what only building needed, such as the net that PyTorch's is made from
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
    for _ in range(PASSES):
        run()
    return (resident("VmHWM") - before) / 1024


def give_back() -> None:
    """Return the memory of what is no longer used to the system."""
    gc.collect()
    workspace.release()
    ctypes.CDLL(None).malloc_trim(0)


def resident(field: str) -> int:
    """Return a figure of this process, in KiB: VmRSS is the resident set now, VmHWM its peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise RuntimeError(f"/proc/self/status does not show {field}")


def in_fresh_process(name: str, what: str, side: str, threads: int) -> float:
    command = [sys.executable, "-m", "scripts.bench.bench_memory", "--measure", name, what, side]
    result = subprocess.run([*command, f"--threads={threads}"], capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="comma list of nets")
    parser.add_argument("--threads", type=int, default=numba.config.NUMBA_NUM_THREADS)
    parser.add_argument("--measure", nargs=3, metavar=("NET", "WHAT", "SIDE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        glog.flags.minloglevel = glog.ERROR
        numba.set_num_threads(args.threads)
        torch.set_num_threads(args.threads)
        print(json.dumps(measure(*args.measure)))
        return
    print(f"{args.threads} threads, PyTorch {torch.__version__}; peak memory in MiB, ratio = PyTorch / ours")
    print(f"{'net':<16}{'batch':>6}  {'what':<10}{'ours':>9}{'PyTorch':>9}{'ratio':>7}")
    for name in args.only.split(",") if args.only else NETS:
        for what in WHATS:
            ours, theirs = (in_fresh_process(name, what, side, args.threads) for side in SIDES)
            row = f"{name:<16}{NETS[name][2]:>6}  {what:<10}{ours:>9.1f}{theirs:>9.1f}{theirs / ours:>7.2f}"
            print(row, flush=True)


if __name__ == "__main__":
    main()
