"""The rooms of the package: each imports only from those to its left, and no two modules each other."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import caffetools

#: Rooms from left to right; those with a comma between them stand side by side and do not know each other.
ORDER = (
    "glog < proto < formats < upgrade, graph < engine < blob, filler < layer < samples, parts < layers < net < solver "
    "< pictures, exchange < tools < pycaffe < cli"
)
RANK = {room.strip(): rank for rank, group in enumerate(ORDER.split("<")) for room in group.split(",")}
#: Files that belong to the room of another.
PART_OF = {"glog_files": "glog"}

ROOT = Path(caffetools.__file__).parent
FILES = {
    ".".join(("caffetools", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}


def room_of(module: str) -> str | None:
    """The room of a module; the package itself is none."""
    name = module.partition(".")[2].partition(".")[0]
    return PART_OF.get(name, name) or None


def imported(module: str) -> set[str]:
    """The modules of the package that a module's file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}, line {node.lineno}: a relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in FILES else node.module)
    return found & FILES.keys()


def test_the_reader_of_imports_sees_them():
    assert imported("caffetools.upgrade.read") == {
        "caffetools.formats.binary",
        "caffetools.formats.prototxt",
        "caffetools.proto.caffe_pb2",
        "caffetools.upgrade.net",
        "caffetools.upgrade.solver",
    }


@pytest.mark.parametrize("module", [module for module in FILES if room_of(module)])
def test_imports_only_from_the_left(module):
    room = room_of(module)
    assert room in RANK, f"caffetools/{room} is no room: {ORDER}"
    others = {other: room_of(other) for other in imported(module)}
    wrong = {
        other
        for other, its in others.items()
        if its and its != room and RANK.get(its, len(RANK)) >= RANK[room]
    }
    assert not wrong, f"{module} must not import {sorted(wrong)}: {ORDER}"


def test_no_two_modules_import_each_other():
    try:
        TopologicalSorter({module: imported(module) for module in FILES}).prepare()
    except CycleError as err:
        pytest.fail(f"these modules import each other: {' -> '.join(reversed(err.args[1]))}")
