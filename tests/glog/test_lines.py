"""The line format and the errors, against glog's documented format and recorded lines of the original."""

from __future__ import annotations

import datetime
import re
import threading

import pytest

from caffetools import glog
from caffetools.glog import FatalError

PREFIX = re.compile(r"([IWEF])(\d{4}) (\d\d:\d\d:\d\d\.\d{6}) ( *\d+) ([\w.]+):(\d+)\] ")


@pytest.fixture(autouse=True)
def logging(tmp_path):
    glog.flags.reset()
    glog.init("prog", log_dir=str(tmp_path), alsologtostderr=True)
    yield
    glog.shutdown()
    glog.flags.reset()


@pytest.mark.parametrize("log, letter", [(glog.info, "I"), (glog.warning, "W"), (glog.error, "E")])
def test_prefix(capfd, log, letter):
    before = datetime.datetime.now().replace(microsecond=0)
    log("Use CPU.")
    line = capfd.readouterr().err
    match = PREFIX.match(line)
    assert match and line[match.end() :] == "Use CPU.\n"
    assert match[1] == letter
    when = datetime.datetime.strptime(f"{before.year}{match[2]} {match[3]}", "%Y%m%d %H:%M:%S.%f")
    assert before <= when <= datetime.datetime.now()
    assert match[4] == str(threading.get_native_id()).rjust(5)
    assert match[5] == "test_lines.py"


def line_of_call():
    glog.info("here")


def test_position_is_the_callers(capfd):
    line_of_call()
    assert f"test_lines.py:{line_of_call.__code__.co_firstlineno + 1}] here" in capfd.readouterr().err


def test_thread_id_is_the_logging_threads(capfd):
    ids = []
    thread = threading.Thread(target=lambda: (ids.append(threading.get_native_id()), glog.info("x")))
    thread.start()
    thread.join()
    assert int(PREFIX.match(capfd.readouterr().err)[4]) == ids[0] != threading.get_native_id()


def test_lines_of_many_threads_stay_whole(capfd):
    threads = [threading.Thread(target=lambda: [glog.info("m" * 300) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 200
    assert all(line[PREFIX.match(line).end() :] == "m" * 300 for line in lines)


def test_one_prefix_for_several_lines(capfd):
    glog.info("Initializing net from parameters: \nstate {\n}")
    first, *rest = capfd.readouterr().err.splitlines()
    assert first.endswith("] Initializing net from parameters: ") and rest == ["state {", "}"]


def test_year_in_prefix(capfd):
    glog.flags.log_year_in_prefix = True
    glog.info("x")
    assert re.match(rf"I{datetime.date.today().year}\d{{4}} \d\d:", capfd.readouterr().err)


def test_no_prefix(capfd):
    glog.flags.log_prefix = False
    glog.info("x")
    assert capfd.readouterr().err == "x\n"


@pytest.mark.parametrize(
    "raise_it, text",
    [
        (lambda: glog.fatal("Unknown action: bogus"), "Unknown action: bogus"),
        (
            lambda: glog.check(False, "ReadProto(f)", "Failed to parse NetParameter file: f"),
            "Check failed: ReadProto(f) Failed to parse NetParameter file: f",
        ),
        (
            lambda: glog.check_ne(-1, -1, "fd != -1", "File not found: x"),
            "Check failed: fd != -1 (-1 vs. -1) File not found: x",
        ),
        (
            lambda: glog.check_gt(0, 0, "FLAGS_solver.size() > 0", "Need a solver definition to train."),
            "Check failed: FLAGS_solver.size() > 0 (0 vs. 0) Need a solver definition to train.",
        ),
        (lambda: glog.check_eq(True, False, "a == b", "m"), "Check failed: a == b (1 vs. 0) m"),
        (lambda: glog.check_lt(0.1234567, 1e-10, "a < b"), "Check failed: a < b (0.123457 vs. 1e-10) "),
        (lambda: glog.check_le("x", "a", "a <= b"), "Check failed: a <= b (x vs. a) "),
        (lambda: glog.check_ge(1, 2, "a >= b"), "Check failed: a >= b (1 vs. 2) "),
    ],
)
def test_fatal_error(raise_it, text):
    with pytest.raises(FatalError) as caught:
        raise_it()
    assert str(caught.value) == text
    assert caught.value.exit_code == 134
    assert caught.value.file == "test_lines.py"
    assert caught.value.line == caught.traceback[1].lineno + 1


@pytest.mark.parametrize(
    "check, a, b",
    [
        (glog.check_eq, 1, 1),
        (glog.check_ne, 1, 2),
        (glog.check_lt, 1, 2),
        (glog.check_le, 2, 2),
        (glog.check_gt, 2, 1),
        (glog.check_ge, 2, 2),
    ],
)
def test_passed_check_is_silent(capfd, check, a, b):
    check(a, b, "expr")
    glog.check("truthy", "expr")
    assert capfd.readouterr() == ("", "")


def test_log_fatal_shows_where_it_was_raised(capfd):
    with pytest.raises(FatalError) as caught:
        raise FatalError("no")
    glog.log_fatal(caught.value)
    assert capfd.readouterr().err.endswith(f" test_lines.py:{caught.traceback[0].lineno + 1}] no\n")


def test_backtrace_at(capfd):
    glog.flags.log_backtrace_at = f"test_lines.py:{line_of_call.__code__.co_firstlineno + 1}"
    line_of_call()
    err = capfd.readouterr().err
    assert "(stacktrace:\n" in err and "in test_backtrace_at" in err and err.endswith(") here\n")


def test_quiet_for_another_process_that_speaks(capfd):
    """Scripts are still heard, and so are warnings and errors."""
    glog.set_quiet(True)
    try:
        for name in ("caffetools.net.net", "__main__"):
            exec("glog.info('i'); glog.warning('w')", {"glog": glog, "__name__": name})
        glog.plain("p")
    finally:
        glog.set_quiet(False)
    assert [line[0] for line in capfd.readouterr().err.splitlines()] == ["W", "I", "W"]
