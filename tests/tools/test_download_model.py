"""Models from a web server on this machine."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile

import numpy as np
import pytest

from caffetools.glog import FatalError
from caffetools.tools.download_model import download_gist, download_model
from tests.recorded import run_tool
from tests.tools.mirror import Mirror

WEIGHTS = np.random.default_rng(0).bytes(200_000)
GIST = "1a2b3c4d"


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(f"{GIST}-master/{name}", data)
    return buffer.getvalue()


@pytest.fixture
def mirror(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    files = {
        "/net.caffemodel": WEIGHTS,
        f"/{GIST}/download": zipped({"readme.md": b"---\n", "deploy.prototxt": b'name: "n"'}),
        f"/somebody/{GIST}/download": zipped({"readme.md": b"---\n"}),
        "/0/download": b"<html>no gist</html>",
    }
    with Mirror(files) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.over.set()
        server.shutdown()


@pytest.fixture
def model(tmp_path, mirror):
    """A model's folder with a readme; the fields of the readme may be replaced."""

    def write(**fields):
        known = {
            "name": "A net",
            "caffemodel": "net.caffemodel",
            "caffemodel_url": f"{mirror.url}net.caffemodel",
            "sha1": hashlib.sha1(WEIGHTS).hexdigest(),
        }
        lines = [f"{key}: {value}" for key, value in (known | fields).items() if value is not None]
        (tmp_path / "readme.md").write_text("\n".join(["---", *lines, "---", "", "sha1: in the text", ""]))
        return str(tmp_path)

    return write


def test_weights(model, mirror, tmp_path):
    assert download_model(model()) == f"Saved {tmp_path}/net.caffemodel"
    assert (tmp_path / "net.caffemodel").read_bytes() == WEIGHTS
    assert download_model(model()) == "Model already exists."
    assert len(mirror.requests) == 1
    (tmp_path / "net.caffemodel").write_bytes(b"other")
    download_model(model())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.caffemodel", "readme.md"]
    assert (tmp_path / "net.caffemodel").read_bytes() == WEIGHTS


def test_a_download_is_continued(model, mirror, tmp_path):
    mirror.faults = [90_000, 0]
    with pytest.raises(FatalError, match="the connection broke after 90000 of"):
        download_model(model())
    assert not (tmp_path / "net.caffemodel").exists()
    download_model(model())
    assert mirror.requests[-1] == ("/net.caffemodel", "bytes=90000-")
    assert (tmp_path / "net.caffemodel").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sha1": "0" * 40}, "Model did not download correctly: .* instead of 0000"),
        ({"sha1": None}, "readme.md does not say 'sha1:'"),
        ({"caffemodel_url": ""}, "readme.md does not say 'caffemodel_url:'"),
        ({"caffemodel": "../net.caffemodel"}, "caffemodel is the name of a file in the folder, not ../net"),
        ({"caffemodel_url": "file:///etc/passwd"}, "file:///etc/passwd is no address of the web"),
    ],
)
def test_readmes_that_do_not_lead_anywhere(fields, message, model, tmp_path):
    with pytest.raises(FatalError, match=message):
        download_model(model(**fields))
    assert [path.name for path in tmp_path.iterdir()] == ["readme.md"]


def test_missing_files(model, mirror, tmp_path):
    with pytest.raises(FatalError, match="Cannot read .*nowhere/readme.md: No such file"):
        download_model(str(tmp_path / "nowhere"))
    with pytest.raises(FatalError, match="Cannot download .*gone: HTTP status 404"):
        download_model(model(caffemodel_url=f"{mirror.url}gone"))


def test_gist(mirror, tmp_path):
    folder = tmp_path / "models"
    assert download_gist(GIST, str(folder), mirror.url) == f"{folder}/{GIST}"
    assert {path.name for path in (folder / GIST).iterdir()} == {"readme.md", "deploy.prototxt"}
    assert download_gist(f"somebody/{GIST}", str(folder), mirror.url) == f"{folder}/somebody-{GIST}"
    with pytest.raises(FatalError, match=f"{GIST} already exists! Nothing in it is overwritten"):
        download_gist(GIST, str(folder), mirror.url)
    assert sorted(path.name for path in folder.iterdir()) == [GIST, f"somebody-{GIST}"]


@pytest.mark.parametrize(
    ("gist", "message"),
    [
        ("../secret", "'../secret' is no gist"),
        ("", "'' is no gist"),
        ("ff", "Cannot download .*ff/download: HTTP status 404"),
        ("0", "0/download is no archive of a gist"),
    ],
)
def test_no_gist(gist, message, mirror, tmp_path):
    with pytest.raises(FatalError, match=message):
        download_gist(gist, str(tmp_path), mirror.url)
    assert not list(tmp_path.iterdir())


def test_commands(model, tmp_path):
    result = run_tool("download_model_binary", model(), cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, f"Saved {tmp_path}/net.caffemodel\n")
    assert run_tool("download_model_binary", cwd=tmp_path).returncode == 1
    assert run_tool("download_model_from_gist", cwd=tmp_path).returncode == 1
    assert "'x' is no gist" in run_tool("download_model_from_gist", "x", cwd=tmp_path).stderr
