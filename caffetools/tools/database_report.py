"""What `caffe data` prints, and the pictures that it draws."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from caffetools.formats.files import atomic_path, reason
from caffetools.glog import fatal
from caffetools.pictures import confusion as pictures
from caffetools.pictures import style
from caffetools.tools.database import Sample, Survey
from caffetools.tools.label_check import Suspect

#: Classes up to which all are listed; of more, so many of the rarest and of the most frequent.
_ALL, _SOME = 50, 5
_LISTED = 5  # repeated and damaged records
_BAR = 40  # characters
#: Doubtful records that are drawn.
SUSPECTS = 36
_WIDE = 24  # characters


def read_names(path: str) -> list[str]:
    """Return the names of classes, a line for each.

    Errors: FatalError for a file that cannot be read.
    """
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return [line.rstrip("\r\n") for line in file]
    except OSError as err:
        fatal(f"Unable to open labels file {path} ({reason(err)})")


def text(survey: Survey, names: Sequence[str] = ()) -> str:
    """Return a description of a database. names: of the classes."""
    lines = [
        f"{survey.path}, {survey.backend}",
        f"records     {survey.count:,}, {_key(survey.first_key)} to {_key(survey.last_key)}",
        f"size        {_bytes(survey.size)}",
    ]
    for form, count in survey.forms.most_common(_SOME):
        lines.append(f"values      {' x '.join(map(str, form.shape))}, {form.kind}: {count:,}")
    if len(survey.forms) > _SOME:
        lines.append(f"            and {len(survey.forms) - _SOME:,} other shapes")
    return "\n".join([*lines, *_repeats(survey), *_damages(survey), *_classes(survey, names)])


def _repeats(survey):
    if not survey.repeats:
        yield "repeated    none"
        return
    yield (
        f"repeated    {survey.repeats:,} records have the values of an earlier one,"
        f" {survey.contradictions:,} of them with another label"
    )
    for repeat in sorted(survey.repeated, key=lambda repeat: repeat.label == repeat.earlier_label)[:_LISTED]:
        yield (
            f"            {_key(repeat.key)} (label {repeat.label}) is"
            f" {_key(repeat.earlier)} (label {repeat.earlier_label})"
        )


def _damages(survey):
    if survey.damages:
        yield f"damaged     {survey.damages:,} records"
        for key, problem in survey.damaged[:_LISTED]:
            yield f"            {_key(key)}: {problem}"


def _classes(survey, names):
    counts = sorted(survey.labels.items())
    if not counts:
        return
    yield f"classes     {len(counts):,}, labels {counts[0][0]} to {counts[-1][0]}"
    missing = sorted(set(range(counts[-1][0] + 1)) - survey.labels.keys())
    if missing and len(missing) < len(counts):
        some = ", ".join(map(str, missing[:_ALL])) + (", ..." if len(missing) > _ALL else "")
        yield f"            without a record: {some}"
    if len(counts) > _ALL:
        by_count = sorted(counts, key=lambda pair: pair[1])
        yield f"            the rarest and the most frequent {_SOME}:"
        counts = by_count[:_SOME] + by_count[-_SOME:]
    total, most = sum(survey.labels.values()), max(survey.labels.values())
    width = max(len(f"{count:,}") for _, count in counts)
    for label, count in counts:
        bar = "#" * max(1, round(_BAR * count / most))
        name = f"  {names[label]}" if 0 <= label < len(names) else ""
        yield f"{label:10}  {count:{width},}  {count / total:6.1%}  {bar}{name}"


def draw_samples(samples: Sequence[Sample], path: Path, names: Sequence[str] = (), rgb: bool = False) -> None:
    """Draw a contact sheet, by label and key.

    rgb: whether channels are red, green and blue instead of the other way round.
    """
    ordered = sorted(samples, key=lambda sample: (sample.label, sample.key))
    tiles = [as_tile(sample.pixels, rgb) for sample in ordered]
    titles = [f"{_named(sample.label, names)}\n{_short(_key(sample.key))}" for sample in ordered]
    with style.look():
        style.save(pictures.draw_sheet(tiles, titles, "Samples: label and key"), path)


def draw_suspects(suspects: Sequence[Suspect], path: Path, names: Sequence[str] = ()) -> None:
    """Draw the records whose labels a net doubts most, and write them as a table beside the picture."""
    shown = [suspect for suspect in suspects if suspect.pixels is not None][:SUSPECTS]
    titles = [
        f"{_named(suspect.label, names)} as {_named(suspect.predicted, names)}, {suspect.confidence:.1%}\n"
        f"{_short(_key(suspect.key))}"
        for suspect in shown
    ]
    table = path.with_suffix(".csv")
    with atomic_path(table) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["key", "label", "predicted", "confidence"])
        writer.writerows([_key(s.key), s.label, s.predicted, f"{s.confidence:.6g}"] for s in suspects)
    with style.look():
        heading = "Doubtful labels: label as prediction, its confidence, key"
        style.save(pictures.draw_sheet([suspect.pixels for suspect in shown], titles, heading), path)


def as_tile(pixels: np.ndarray, rgb: bool = False) -> np.ndarray:
    """Return values (channels, height, width) as uint8 gray (height, width) or red, green, blue (height, width, 3).

    Other numbers of channels stand side by side. Floats are stretched to the range of bytes.
    """
    if pixels.dtype != np.uint8:
        low, high = float(pixels.min()), float(pixels.max())
        pixels = ((pixels - low) * (255 / (high - low) if high > low else 0)).astype(np.uint8)
    if len(pixels) in (3, 4):  # alpha is not drawn
        return pixels[:3].transpose(1, 2, 0)[..., slice(None) if rgb else slice(None, None, -1)]
    return np.concatenate(list(pixels), axis=1)


def _named(label, names):
    return _short(names[label]) if 0 <= label < len(names) else str(label)


def _short(text):
    """The beginning and the end of a text that is longer than a tile is wide."""
    return text if len(text) <= _WIDE else f"{text[:8]}...{text[len(text) - _WIDE + 11 :]}"


def _key(key):
    return key.decode(errors="replace")


def _bytes(size):
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
