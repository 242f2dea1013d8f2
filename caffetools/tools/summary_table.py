"""The table that `caffe summary` prints."""

from __future__ import annotations

from collections.abc import Callable

from caffetools.proto import caffe_pb2
from caffetools.tools import summary
from caffetools.tools.free_memory import free_memory
from caffetools.tools.summary import Row, Summary

#: Headings, alignment and cells. A column without any text is left out.
COLUMNS: dict[str, tuple[str, Callable[[Row, Summary], str]]] = {
    "layer": ("<", lambda row, net: row.name),
    "type": ("<", lambda row, net: row.type),
    "output": ("<", lambda row, net: "in place" if row.in_place else ", ".join(map(_shape, row.tops))),
    "kernel": ("<", lambda row, net: "x".join(map(str, row.kernel))),
    "stride": ("<", lambda row, net: _alike(row.stride, neutral=1)),
    "pad": ("<", lambda row, net: _alike(row.pad, neutral=0)),
    "groups": (">", lambda row, net: _number(row.group) if row.group > 1 else ""),
    "parameters": (">", lambda row, net: _number(row.parameters)),
    "multiply-adds": (">", lambda row, net: _number(row.multiply_adds // max(net.batch, 1))),
    "data": (">", lambda row, net: _bytes(row.data)),
    "diffs": (">", lambda row, net: _bytes(row.diffs)),
    "scratch": (">", lambda row, net: _bytes(row.scratch)),
    "weights": (">", lambda row, net: _bytes(row.weights)),
}
#: What is summed up at the end.
SUMMED = ("parameters", "statistics", "multiply_adds", "data", "diffs", "scratch", "weights")


def describe(
    model: str, phase: str = "", level: int = 0, stage: str = "", batch: int = 0, inputs: str = ""
) -> str:
    """Return the text for a net, with the largest batch that fits into this machine's free memory.

    The arguments are those of `summary.read` and `summary.summarize`.
    """
    net = summary.read(model, phase, level, stage, inputs)
    text = table(summary.summarize(net, batch))
    free = free_memory()
    if free is None:
        return text
    shared, own = (summary.largest_batch(net, free, planned) for planned in (True, False))
    if shared is not None:
        text += f"\nLargest batch for {_bytes(free)} of free memory: {shared:,} ({own:,} in Python)"
    return text


def table(net: Summary) -> str:
    """Return a line for each layer, then totals. Multiply-adds are those of one item of the batch."""
    rows = [*net.rows, Row("total", "", (), **{field: net.total(field) for field in SUMMED})]
    columns = []
    for heading, (align, cell) in COLUMNS.items():
        texts = [cell(row, net) for row in rows]
        if any(texts):
            width = max(map(len, (heading, *texts)))
            columns.append([f"{text:{align}{width}}" for text in (heading, *texts)])
    head, *body, total = ("  ".join(cells).rstrip() for cells in zip(*columns, strict=True))
    rule = "-" * max(map(len, (head, *body, total)))
    title = f"{net.name or 'net'}, phase {caffe_pb2.Phase.Name(net.phase)}, batch {net.batch}"
    return "\n".join([title, rule, head, rule, *body, rule, total, "", *_notes(net)])


def _notes(net):
    statistics = net.total("statistics")
    if statistics:
        yield f"{statistics:,} statistics of BatchNorm besides the parameters"
    rest = {
        "weights with their gradients" if net.learns else "weights": net.total("weights"),
        "momentum": net.history,
        "batches read ahead": net.read_ahead,
    }
    blobs = "data and diffs" if net.learns else "data"
    shared = {f"{blobs} that share memory": net.shared, "scratch": net.scratch}
    own = {field: net.total(field) for field in ("data", "diffs", "scratch")}
    yield f"Memory: {_bytes(net.planned_memory)} ({_terms(shared | rest)})"
    yield f"Memory in Python, where all blobs can be seen: {_bytes(net.memory)} ({_terms(own | rest)})"


def _terms(parts):
    return ", ".join(f"{name} {_bytes(size)}" for name, size in parts.items() if size)


def _shape(shape):
    return "x".join(map(str, shape)) or "1"


def _alike(sizes, neutral):
    """One number where it is the same for all axes, nothing where it has no effect."""
    if all(size == neutral for size in sizes):
        return ""
    return str(sizes[0]) if len(set(sizes)) == 1 else "x".join(map(str, sizes))


def _number(value):
    return f"{value:,}" if value else ""


def _bytes(size):
    if not size:
        return ""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.3g} {unit}" if size < 999.5 else f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
