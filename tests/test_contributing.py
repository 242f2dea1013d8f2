"""The example in CONTRIBUTING.md: its layer is found by its file's name and its tests pass."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

import caffetools.layers

TEXT = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = {
    Path(path).name: code for path, code in re.findall(r"^```python\n# (\S+)\n(.*?)^```", TEXT, re.M | re.S)
}


@pytest.fixture
def example_tests(tmp_path, monkeypatch):
    """The names in the example's test file, with the example's layer among the package's."""
    for name, code in BLOCKS.items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    monkeypatch.setattr(caffetools.layers, "__path__", [*caffetools.layers.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    names: dict = {}
    exec(compile(BLOCKS["test_hard_swish.py"], tmp_path / "test_hard_swish.py", "exec"), names)
    yield names
    sys.modules.pop("caffetools.layers.hard_swish", None)


@pytest.mark.parametrize("test", ["test_values", "test_gradient"])
def test_example(example_tests, test):
    example_tests[test]()


def test_blocks_are_named_as_the_text_says():
    assert list(BLOCKS) == ["hard_swish.py", "test_hard_swish.py"]


@pytest.mark.parametrize("folder", re.findall(r"^\| (`.*?`) \|", TEXT, re.M))
def test_folders_of_the_table_exist(folder):
    for name in re.findall(r"`(.*?)`", folder):
        assert (Path(caffetools.layers.__file__).parent.parent / name).exists()
