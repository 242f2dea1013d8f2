"""The documentation's site: all pages are there, links lead somewhere, and it builds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from caffetools.cli import commands
from caffetools.layers import built_in_types
from caffetools.proto import caffe_pb2
from caffetools.proto.forks import is_of_a_fork
from scripts import docs_pages

ROOT = Path(__file__).parents[2]
WRITTEN = sorted((ROOT / "docs").glob("*.md"))


def test_every_command_has_a_page():
    pages = docs_pages.command_pages()
    for name in (*commands.ACTIONS, *commands.TOOLS, "train", "test", "time", "device_query"):
        assert f"commands/{name}.md" in pages
    train = pages["commands/train.md"]
    assert "caffe train" in train and "`--solver`" in train and "<program>" not in train


def test_every_layer_has_a_page_with_its_settings():
    pages = docs_pages.layer_pages()
    assert len(pages) == len(built_in_types()) + 1
    pooling = pages["layers/pooling.md"]
    assert "| `pool` | `MAX`, `AVE`, `STOCHASTIC` | `MAX` |" in pooling
    assert "Zeiler and Fergus 2013" in pooling


def test_messages_within_messages_and_those_of_all_layers_are_explained():
    pages = docs_pages.layer_pages()
    assert "### NonMaximumSuppressionParameter" in pages["layers/detection_output.md"]
    assert "| `weight_filler` | [FillerParameter](index.md#fillerparameter) |" in pages["layers/convolution.md"]
    index = pages["layers/index.md"]
    assert "### FillerParameter" in index and "| `xavier` | Glorot and Bengio 2010" in index
    assert "| `lr_mult` | float | `1` | times the solver's learning rate" in index
    assert "What LSTM and RNN share" in pages["layers/lstm.md"]


def test_every_field_of_solver_files_is_on_their_page():
    page = docs_pages.solver_page()["solver.md"]
    assert all(f"| `{field.name}` |" in page for field in caffe_pb2.SolverParameter.DESCRIPTOR.fields)
    assert "| `clip_gradients` | float | `-1` | largest L2 norm of all gradients together; negative = off |" in page


def test_the_types_of_forks_are_not_the_originals():
    golden = (ROOT / "tests" / "golden" / "formats" / "log_bad_layer_type.txt").read_text()
    originals = set(re.search(r"known types: (.*)\)", golden)[1].split(", "))
    assert {kind for kind in built_in_types() if is_of_a_fork(kind)} == set(built_in_types()) - originals


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_links_and_pictures_are_there(page):
    made = {**docs_pages.command_pages(), **docs_pages.layer_pages(), **docs_pages.solver_page()}
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists() or target in made, target


def test_every_written_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text()
    assert [page.name for page in WRITTEN if page.name not in text] == []


def test_it_builds(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "site" / "layers" / "pooling" / "index.html").exists()
    assert (tmp_path / "site" / "commands" / "train" / "index.html").exists()
