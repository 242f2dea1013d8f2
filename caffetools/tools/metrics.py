"""`caffe train --metrics=DIR`: a run as numbers for other programs.

    metrics.jsonl       a line of JSON for each iteration and each test
    train.csv           the same for the iterations, as a table
    test_0.csv          and for the tests of each test net
    events.out.tfevents.*   the same for TensorBoard, where its package is installed
    run.json, solver.prototxt, net.prototxt     what the run depends on (see `run_folder`)

A line about an iteration has `kind` "train", `iteration`, `time` (seconds since 1970), `lr`, `loss`, `smoothed_loss`
(as logs show it), `outputs` by name, `gradient_norm` (before clipping), `images_per_second` (of the training passes
alone) and `data_wait` (the share of their time that the net waited for data). One about a test has `kind` "test",
`iteration` (the one that follows it), `time`, `net` and `outputs`. An output of several elements is a list. What is
not finite is "NaN", "Infinity" or "-Infinity". Numbers are written so that reading them gives the same bits. Outputs of
more than LARGEST elements are no metrics and are left out.

A resumed run takes back what an interrupted one wrote after the snapshot, so that no iteration occurs twice.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from caffetools.glog import fatal, info, warning
from caffetools.net import Net
from caffetools.solver import Solver
from caffetools.solver.listener import Step, Values
from caffetools.tools.event_file import open_event_file
from caffetools.tools.line_file import LineFile
from caffetools.tools.run_folder import Origin, RunFolder

ROWS = "metrics.jsonl"
LARGEST = 100
TRAIN_COLUMNS = ("lr", "loss", "smoothed_loss", "gradient_norm", "images_per_second", "data_wait")


class Metrics:
    """Listens to a solver and writes into a folder, which is made.

    training: a solver that is about to train, from its present iteration on. origin: where the run comes from.
    interval: iterations between two rows; tests always have theirs.

    Errors: FatalError if the folder cannot be written or has the metrics of another run.
    """

    def __init__(self, folder: str, training: Solver, origin: Origin, interval: int = 1):
        self.folder = Path(folder)
        self.interval = interval
        self.training = training
        start = training.iter
        self.record = RunFolder(self.folder)
        if (self.folder / ROWS).exists():
            self._check_same_run(origin, start)
        self.record.begin(training, origin)
        self._left_out = {name: _large_outputs(name, net) for name, net in nets_by_name(training).items()}
        self._rows = LineFile(self.folder / ROWS, lambda line: json.loads(line)["iteration"] < start)
        self._tables = {
            name: self._table(name, TRAIN_COLUMNS if name == "train" else (), net, start)
            for name, net in nets_by_name(training).items()
        }
        self._events = open_event_file(self.folder, start)
        self._images = images_per_step(training)
        self._begun = self._waited = 0.0
        self._reset()
        training.add_callback(self._starts, lambda: None)
        info(f"Metrics go to {self.folder}")

    def _check_same_run(self, origin, start):
        if not origin.goes_on:
            fatal(
                f"{self.folder} has the metrics of another run: name another folder, or resume that run with --snapshot"
            )
        theirs, mine = self.record.snapshot_prefixes(), self.training.param.snapshot_prefix
        # A run whose folder was moved has the same prefix in its solver file, one that was started elsewhere the path.
        if mine in theirs or os.path.abspath(mine) in theirs:
            return
        if any(row["iteration"] >= start for row in read_rows(self.folder)):
            fatal(
                f"{self.folder} has the metrics of another run, with snapshots {theirs[1]}_*, and going on from "
                f"iteration {start} would remove some of them: name another folder"
            )

    def _table(self, name, columns, net, start):
        path = self.folder / f"{name}.csv"
        outputs = element_names(self._kept(name, net.output_values()))
        header = ["iteration", "time", *columns, *(f"output.{output}" for output in outputs)]
        first = _csv(header)
        file = LineFile(path, lambda line: not line[:1].isdigit() or int(line.split(",")[0]) < start)
        if file.empty:
            file.write(first)
        elif path.read_text(encoding="utf-8").split("\n", 1)[0] != first:
            fatal(f"{path} has other columns than this run: its net was another one. Name another folder")
        return file

    def _kept(self, table, outputs):
        left_out = self._left_out[table]
        return [output for output in outputs if output[0] not in left_out] if left_out else outputs

    def _reset(self):
        self._steps, self._seconds, self._wait_seconds = 0, 0.0, 0.0

    def _starts(self):
        self._begun, self._waited = time.perf_counter(), self._waited_seconds()

    def _waited_seconds(self):
        return sum(layer.waited_seconds for layer in self.training.net.layers)

    def trained(self, step: Step) -> None:
        """Write a row about a step, or count it in for the next row."""
        self._steps += 1
        self._seconds += time.perf_counter() - self._begun
        self._wait_seconds += self._waited_seconds() - self._waited
        if step.iteration % self.interval:
            return
        numbers = {
            "lr": shortest_float32(step.rate),
            "loss": step.loss,
            "smoothed_loss": step.smoothed_loss,
            "gradient_norm": step.gradient_norm,
            "images_per_second": round(self._images * self._steps / self._seconds, 3),
            "data_wait": round(min(self._wait_seconds / self._seconds, 1.0), 6),
        }
        self._reset()
        self._write("train", step.iteration, numbers, step.outputs)

    def tested(self, iteration: int, net: int, means: Values) -> None:
        """Write a row about a test."""
        self._write(f"test_{net}", iteration, {}, means)

    def _write(self, table, iteration, numbers, outputs):
        now, outputs = round(time.time(), 3), self._kept(table, outputs)
        kind, _, number = table.partition("_")
        row = {"kind": kind, "iteration": iteration, "time": now, **({"net": int(number)} if number else {})}
        row.update({name: _json(value) for name, value in numbers.items()}, outputs=by_name(outputs))
        self._rows.write(json.dumps(row, allow_nan=False))
        values = [value for _, value, _ in outputs]
        self._tables[table].write(_csv([iteration, now, *map(_json, numbers.values()), *map(_json, values)]))
        if self._events:
            names = [f"output/{name}" for name in element_names(outputs)]
            tagged = {**numbers, **dict(zip(names, values, strict=True))}
            self._events.write(iteration, now, {f"{table}/{name}": value for name, value in tagged.items()})

    def close(self, outcome: str) -> None:
        """Close all files. outcome: how the run ended, for its record."""
        for file in (self._rows, *self._tables.values()):
            file.close()
        if self._events:
            self._events.close()
        self.record.end(self.training.iter, outcome)


def nets_by_name(training: Solver) -> dict[str, Net]:
    """Return the nets of a solver by the names of their tables: train, test_0, test_1, ..."""
    return {"train": training.net, **{f"test_{i}": net for i, net in enumerate(training.test_nets)}}


def _large_outputs(table, net):
    large = {name for name in net.outputs if net.blobs[name].count > LARGEST}
    for name in sorted(large):
        warning(f"Output '{name}' of net {table} has {net.blobs[name].count} elements and is left out of the metrics")
    return large


def images_per_step(training: Solver) -> int:
    """Return how many samples a step sees: the batch of the first layer without a bottom, `iter_size` times, by all."""
    net = training.net
    shapes = [tops[0].shape for bottoms, tops in zip(net.bottoms, net.tops, strict=True) if tops and not bottoms]
    shapes = [shape for shape in shapes if shape]
    return shapes[0][0] * training.param.iter_size * training.group.ranks if shapes else 0


def element_names(outputs: Values) -> list[str]:
    """Return a name for each element: that of its output, with its index where there are several."""
    names = [name for name, _, _ in outputs]
    seen: dict[str, int] = {}
    result = []
    for name in names:
        index = seen[name] = seen.get(name, -1) + 1
        result.append(f"{name}[{index}]" if names.count(name) > 1 else name)
    return result


def by_name(outputs: Values) -> dict[str, object]:
    """Return the outputs as JSON values by name."""
    lists: dict[str, list] = {}
    for name, value, _ in outputs:
        lists.setdefault(name, []).append(_json(value))
    return {name: values[0] if len(values) == 1 else values for name, values in lists.items()}


def shortest_float32(value) -> float:
    """Return the decimal number that a float32 is usually written as: 0.01, not 0.009999999776482582."""
    return float(str(value))


def _json(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _csv(values: Iterable[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()


def read_rows(folder: Path) -> list[dict]:
    """Return the rows of a folder's metrics.jsonl, without one that a power cut has left without its end.

    Errors: FatalError if it cannot be read.
    """
    path = folder / ROWS
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]
    except (OSError, ValueError) as error:
        fatal(f"{path} cannot be read: {error}")


def losses(rows: Sequence[dict]) -> dict[int, object]:
    """Return the loss of each iteration that has a row."""
    return {row["iteration"]: row["loss"] for row in rows if row["kind"] == "train"}
