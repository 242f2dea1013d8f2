"""`caffe data`: a database described, drawn, and its labels checked by a net."""

from __future__ import annotations

from collections.abc import Iterator

from caffetools.glog import check
from caffetools.pictures import style
from caffetools.tools import database, database_report, label_check


def describe(
    path: str,
    backend: str = "",
    decode: bool = False,
    labels: str = "",
    sheet: str = "",
    samples: int = 36,
    seed: int = 0,
    rgb: bool = False,
    model: str = "",
    weights: str = "",
    suspects: str = "",
) -> Iterator[str]:
    """Yield texts about a database, each as soon as it is known.

    labels: a file of the classes' names. sheet: a picture to draw `samples` records into; rgb: with their channels
    as red, green, blue. model, weights: the net that checks the labels. suspects: a picture to draw those that it
    doubts into. The others are those of `database.survey`.
    Errors: FatalError for flags that do not go together, files that cannot be read or written, and those of
    `database.survey` and `label_check.check_labels`.
    """
    check(bool(model) == bool(weights), "--model and --weights", "The check of labels needs both.")
    check(not suspects or model, "--suspects", "It takes a net to doubt: give --model and --weights.")
    names = database_report.read_names(labels) if labels else []
    if sheet or suspects:
        style.need_matplotlib()
    sheet_path = style.check_path(sheet, "--sheet") if sheet else None
    suspects_path = style.check_path(suspects, "--suspects") if suspects else None
    survey = database.survey(path, backend, samples if sheet else 0, decode, seed)
    yield database_report.text(survey, names)
    if sheet_path:
        database_report.draw_samples(survey.samples, sheet_path, names, rgb)
        yield f"Saved {sheet}"
    if model:
        result = label_check.check_labels(survey, model, weights)
        yield result.text
        if suspects_path and not result.suspects:
            yield f"There is nothing to draw into {suspects}"
        elif suspects_path:
            database_report.draw_suspects(result.suspects, suspects_path, names)
            yield f"Saved {suspects} and {suspects_path.with_suffix('.csv')}"
