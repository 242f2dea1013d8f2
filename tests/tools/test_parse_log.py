"""Reading the recorded logs of the original back into numbers."""

from __future__ import annotations

import math

import pytest

from caffetools.tools.parse_log import parse_log
from tests.recorded import FORMATS


def test_recorded_run():
    log = parse_log(FORMATS / "log_train.txt")
    assert log.rate == [(0, 0.05), (10, 0.0499625), (20, 0.0499251), (30, 0.0498878)]
    assert log.loss == [(0, 2.29606), (10, 1.24569), (20, 0.134196), (30, 0.0128464), (40, 0.00365707)]
    assert log.train["loss"] == log.loss[:4]
    assert log.test["accuracy"] == [(0, 0.15625), (20, 1), (40, 1)]
    assert log.test["loss"] == [(0, 2.30304), (20, 0.143932), (40, 0.00462408)]


@pytest.mark.parametrize("prefix", ["I1123 19:39:09.697414 29168 solver.cpp:239] ", "I20261123 19:39:09.6 2 s.py:9] "])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1.5e-07"])
def test_prefixes_and_values(tmp_path, prefix, value):
    path = tmp_path / "log"
    path.write_text(f"{prefix}Iteration 7 (3.5 iter/s, 2s/7 iters), loss = {value}\n")
    ((iteration, loss),) = parse_log(path).loss
    assert iteration == 7
    assert loss == float(value) or math.isnan(loss)
