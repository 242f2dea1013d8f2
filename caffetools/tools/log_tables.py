"""`parse_log`: a training log as tables, one of the training net and one of the test nets, in CSV or JSON.

Columns are NumIters, Seconds, LearningRate and the nets' outputs. What a row does not have is nan in CSV and
null in JSON, which knows neither nan nor inf.
"""

from __future__ import annotations

import csv
import json
import math
import os
from bisect import bisect_right
from collections.abc import Callable
from typing import TextIO

from caffetools.formats.files import atomic_path
from caffetools.glog import check, fatal
from caffetools.tools.parse_log import Report, net_name, parse_log

Row = dict[str, float]


def write_tables(log: str, folder: str, form: str = "csv", delimiter: str = ",") -> list[str]:
    """Write `folder`/LOG.train and `folder`/LOG.test, with `.json` behind for JSON, and return their paths.

    LOG is the log's own name. form: "csv" or "json". delimiter: between the columns of CSV.
    Errors: FatalError for a log that cannot be read or has no iterations, and for files that cannot be written.
    """
    if form not in WRITERS:
        fatal(f"Unknown format: {form} (known: {', '.join(WRITERS)})")
    check(len(delimiter) == 1, "delimiter.size() == 1", f"'{delimiter}' is no single character")
    parsed = parse_log(log)
    if not parsed.displays and not parsed.tests:
        fatal(f"{log} is no log of a training run: it has no line with an iteration")
    if not os.path.isdir(folder):
        fatal(f"There is no folder {folder}; make it first")
    rates = dict(parsed.rate)
    paths = []
    for kind, reports in (("train", parsed.displays), ("test", parsed.tests)):
        path = os.path.join(folder, f"{os.path.basename(log)}.{kind}{SUFFIXES[form]}")
        with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            WRITERS[form](file, rows(reports, rates), delimiter)
        paths.append(path)
    return paths


def rows(reports: list[Report], rates: dict[int, float]) -> list[Row]:
    """Return a row for each iteration with outputs; those of several test nets stand side by side.

    rates: learning rates by iteration; an iteration without one has that of the last iteration before it.
    """
    table: list[Row] = []
    changes = sorted(rates)
    for report in filter(lambda report: report.outputs, reports):
        if not (report.net and table and table[-1]["NumIters"] == report.iteration):
            place = max(bisect_right(changes, report.iteration) - 1, 0)
            rate = rates[changes[place]] if changes else math.nan
            table.append({"NumIters": report.iteration, "Seconds": report.seconds, "LearningRate": rate})
        for name, value in report.outputs.items():
            table[-1][net_name(name, report.net)] = value
    return table


def _write_csv(file: TextIO, table: list[Row], delimiter: str) -> None:
    columns = list(dict.fromkeys(name for row in table for name in row))
    writer = csv.DictWriter(file, columns, restval=math.nan, delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)


def _write_json(file: TextIO, table: list[Row], delimiter: str) -> None:
    finite = [{name: value if math.isfinite(value) else None for name, value in row.items()} for row in table]
    json.dump(finite, file, indent=1)
    file.write("\n")


WRITERS: dict[str, Callable[[TextIO, list[Row], str], None]] = {"csv": _write_csv, "json": _write_json}
SUFFIXES = {"csv": "", "json": ".json"}
