"""The forms in which `classification` gives its results: the original's text, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable

from caffetools.formats.files import atomic_path
from caffetools.tools.classification import Result


def text(result: Result) -> str:
    """Return the lines that the original printed for a picture."""
    lines = [f"---------- Prediction for {result.file} ----------"]
    lines += [f'{score.score:.4f} - "{score.label}"' for score in result.scores]
    return "\n".join(lines)


def to_csv(results: Iterable[Result]) -> str:
    """Return a table with a row for each picture and label."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["file", "rank", "label", "score"])
    for result in results:
        for rank, score in enumerate(result.scores, 1):
            writer.writerow([result.file, rank, score.label, score.score])
    return buffer.getvalue()


def to_json(results: Iterable[Result]) -> str:
    """Return a list with an object for each picture."""
    objects = [
        {"file": result.file, "predictions": [score._asdict() for score in result.scores]}
        for result in results
    ]
    return json.dumps(objects, indent=1) + "\n"


FORMS: dict[str, Callable[[Iterable[Result]], str]] = {"csv": to_csv, "json": to_json}


def write(path: str, form: str, results: Iterable[Result]) -> None:
    """Write results to a file, complete or not at all."""
    content = FORMS[form](results)
    with (
        atomic_path(path) as temporary,
        open(temporary, "w", encoding="utf-8", errors="surrogateescape") as file,
    ):
        file.write(content)
