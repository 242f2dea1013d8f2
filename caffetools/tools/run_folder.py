"""What a run depends on, kept in its folder of metrics: enough to repeat it.

    solver.prototxt   the solver file as it was used: with the flags and `--set` of the command line
    net.prototxt      the net, upgraded and with `--set`; train_net.prototxt, test_net_0.prototxt where they are several
    run.json          for each start of the run: command line, folder, seed, packages, machine, git commit of caffetools
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from caffetools.formats import prototxt
from caffetools.formats.files import atomic_path, reason
from caffetools.glog import FatalError, fatal, warning
from caffetools.proto import caffe_pb2
from caffetools.solver import Solver
from caffetools.tools import environment

RECORD = "run.json"
SOLVER = "solver.prototxt"
VERSION = 1


@dataclass(frozen=True)
class Origin:
    """Where a run comes from.

    solver: the file. snapshot: the solverstate that it resumes, if any. nets: as they were built, that of training
    first. gpu: the value of --gpu. goes_on: whether metrics that are there already are those of this run.
    """

    solver: str
    snapshot: str = ""
    nets: list[caffe_pb2.NetParameter] = field(default_factory=list)
    gpu: str = ""
    goes_on: bool = False


class RunFolder:
    """The record of a run in a folder, which is made. Errors: FatalError if it cannot be."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.data: dict = {"version": VERSION, "starts": []}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            fatal(f"Cannot make the folder {folder}: {reason(error)}")

    def snapshot_prefixes(self) -> tuple[str, str]:
        """Return where the snapshots of the run on record go: as its solver file says, and as an absolute path."""
        folder = read_record(self.folder)["starts"][-1]["folder"]
        prefix = prototxt.read(self.folder / SOLVER, caffe_pb2.SolverParameter).snapshot_prefix
        return prefix, os.path.abspath(os.path.join(folder, prefix))

    def begin(self, training: Solver, origin: Origin) -> None:
        """Write down everything about a start; those before it, of the run that goes on, stay."""
        if origin.goes_on and (self.folder / RECORD).exists():
            self.data = read_record(self.folder)
        self.data["starts"].append(
            {
                "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
                "folder": os.getcwd(),
                "solver": origin.solver,
                "snapshot": origin.snapshot,
                "gpu": origin.gpu,
                "tf32": getattr(training.net.context.engine, "tf32", False),
                "engine": getattr(training.net.context.engine, "name", "CPU"),
                "first_iteration": training.iter,
                "seed": training.random.seed,
                **environment.describe(),
            }
        )
        names = self._write_nets(origin.nets)
        prototxt.write(self.folder / SOLVER, with_nets(training.param, [str(self.folder / name) for name in names]))
        self.data["nets"] = names
        self._write()

    def end(self, iteration: int, outcome: str) -> None:
        """Write down how the present start ended. iteration: the number of those that are done."""
        self.data["starts"][-1].update(end=time.strftime("%Y-%m-%dT%H:%M:%S%z"), iterations=iteration, outcome=outcome)
        try:
            self._write()
        except FatalError as error:  # what was learnt is worth more than its record
            warning(f"{error}. How the run ended is not on record.")

    def _write_nets(self, nets):
        if all(net == nets[0] for net in nets):
            nets, names = nets[:1], ["net.prototxt"]
        else:
            names = ["train_net.prototxt", *(f"test_net_{i}.prototxt" for i in range(len(nets) - 1))]
        for name, net in zip(names, nets, strict=True):
            prototxt.write(self.folder / name, net)
        return names

    def _write(self):
        with atomic_path(self.folder / RECORD) as temporary:
            Path(temporary).write_text(json.dumps(self.data, indent=1) + "\n", encoding="utf-8")


def with_nets(param: caffe_pb2.SolverParameter, files: list[str]) -> caffe_pb2.SolverParameter:
    """Return a copy of a solver file that takes its nets from files: one for all, or those of training and testing."""
    result = caffe_pb2.SolverParameter()
    result.CopyFrom(param)
    for name in ("net", "net_param", "train_net", "train_net_param", "test_net", "test_net_param"):
        result.ClearField(name)
    if len(files) == 1:
        result.net = files[0]
    else:
        result.train_net = files[0]
        result.test_net.extend(files[1:])
    return result


def read_record(folder: Path) -> dict:
    """Return what run.json of a folder says. Errors: FatalError if there is none or it cannot be read."""
    path = folder / RECORD
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["version"] != VERSION or not data["starts"]:
            fatal(f"{path} was written by another version of caffetools")
    except OSError as error:
        fatal(f"{folder} is no folder of `caffe train --metrics`: {path.name} cannot be read ({reason(error)})")
    except (ValueError, KeyError, TypeError) as error:
        fatal(f"{path} cannot be read ({error!r})")
    return data
