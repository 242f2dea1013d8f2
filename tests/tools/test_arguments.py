"""Every data and log tool without arguments, with a wrong flag, and with files that are not there."""

from __future__ import annotations

import pytest

from caffetools import glog
from caffetools.cli import commands

# Tools and their exit status without arguments, which the original's differ in.
TOOLS = {
    "convert_imageset": 1,
    "compute_image_mean": 1,
    "classification": 1,
    "extract_features": 1,
    "convert_cifar_data": 0,
    "convert_mnist_siamese_data": 0,
    "parse_log": 1,
    "plot_training_log": 1,
    "extract_seconds": 1,
    "resize_and_crop_images": 1,
    "download_model_binary": 1,
    "download_model_from_gist": 1,
    "data": 1,
}
MISSING = {
    "convert_imageset": ["nowhere/", "nowhere.txt", "db"],
    "compute_image_mean": ["nowhere"],
    "classification": ["nowhere", "nowhere", "nowhere", "nowhere", "nowhere"],
    "extract_features": ["nowhere", "nowhere", "ip1", "db", "1", "lmdb"],
    "convert_cifar_data": ["nowhere", ".", "lmdb"],
    "convert_mnist_siamese_data": ["nowhere", "nowhere", "db"],
    "parse_log": ["nowhere", "."],
    "plot_training_log": ["0", "a.png", "nowhere"],
    "extract_seconds": ["nowhere", "seconds"],
    "resize_and_crop_images": ["--input_folder=nowhere", "--output_folder=out"],
    "download_model_binary": ["nowhere"],
    "data": ["nowhere"],
}


@pytest.fixture
def run(capfd, monkeypatch, tmp_path):
    """A function that runs a tool in this process and returns its exit status, standard output and error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLOG_logtostderr", "1")
    glog.flags.reset()

    def run(name, *arguments):
        with pytest.raises(SystemExit) as caught:
            commands.load(name).main(list(arguments), name)
        return caught.value.code, *capfd.readouterr()

    yield run
    glog.shutdown()
    monkeypatch.undo()
    glog.flags.reset()


@pytest.mark.parametrize("name", TOOLS)
def test_no_arguments(name, run):
    status, out, err = run(name)
    assert status == TOOLS[name]
    assert f"usage: {name} " in out + err


@pytest.mark.parametrize("name", TOOLS)
def test_unknown_flag(name, run):
    assert run(name, "--bogus", "x") == (1, "", "ERROR: unknown command line flag 'bogus'\n")


@pytest.mark.parametrize("name", MISSING)
def test_missing_files(name, run, tmp_path):
    if name == "plot_training_log":
        pytest.importorskip("matplotlib")
    status, out, err = run(name, *MISSING[name])
    assert status == 134
    lines = err.splitlines()
    assert lines[-1].startswith("F") and "nowhere" in lines[-1]
    assert not list(tmp_path.iterdir())


def test_the_tables_cover_the_tools():
    ours = {
        name for name in commands.TOOLS if not name.startswith("upgrade_") and name != "convert_mnist_data"
    }
    assert TOOLS.keys() >= {
        name for name in ours if name.startswith(("convert", "extract", "compute", "download"))
    }
