"""extract_seconds, against the times in recorded logs."""

from __future__ import annotations

from datetime import datetime

import pytest

from caffetools.glog import FatalError
from caffetools.tools.extract_seconds import extract
from tests.recorded import FORMATS, run_tool


@pytest.mark.parametrize("name", ["log_train", "log_train_resume", "log_train_h5"])
@pytest.mark.parametrize("year", [True, False])
def test_recorded_logs(name, year, tmp_path):
    text = (FORMATS / f"{name}.txt").read_text()
    lines = text.split("--- stderr\n")[1].splitlines()

    def time(line):
        return datetime.strptime(" ".join(line.split()[:2]), "I%Y%m%d %H:%M:%S.%f")

    start = next(time(line) for line in lines if "Solving" in line)
    expected = [(time(line) - start).total_seconds() for line in lines if "Iteration" in line]
    log = tmp_path / "a.log"
    log.write_text(text if year else text.replace("I2026", "I"))
    assert extract(str(log), str(tmp_path / "seconds")) == len(expected) > 5
    assert (tmp_path / "seconds").read_text() == "".join(f"{second:f}\n" for second in expected)


def test_mistakes(tmp_path):
    log = tmp_path / "a.log"
    log.write_text("I1123 19:39:09.5 2 s.py:9] Iteration 1, loss = 2\n")
    with pytest.raises(FatalError, match="Start time not found"):
        extract(str(log), str(tmp_path / "seconds"))
    with pytest.raises(FatalError, match="Cannot read the log nowhere"):
        extract("nowhere", str(tmp_path / "seconds"))
    assert list(tmp_path.iterdir()) == [log]
    assert run_tool("extract_seconds", "one", cwd=tmp_path).returncode == 1


def test_command(tmp_path):
    run_tool("extract_seconds", str(FORMATS / "log_train.txt"), "seconds", cwd=tmp_path, check=True)
    assert len((tmp_path / "seconds").read_text().splitlines()) > 5
