"""Where messages go: stderr, files, links; flags and environment; broken pipes."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import subprocess
import sys

import pytest

from caffetools import glog

ROOT = pathlib.Path(__file__).parents[2]
SEVERITIES = ("INFO", "WARNING", "ERROR", "FATAL")


def run(code, cwd, shell=None, **env):
    """Run a few lines of Python, with the logging module imported, in a process of its own."""
    ours = ("GLOG_", "GOOGLE_", "TEST_TMPDIR", "TMP")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    script = cwd / "script.py"
    script.write_text(f"from caffetools import glog\n{code}\n")
    command = shell.format(f"{sys.executable} {script}") if shell else [sys.executable, str(script)]
    if shell:
        command = ["bash", "-o", "pipefail", "-c", command]
    clean.update(PYTHONPATH=str(ROOT), **env)
    return subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, timeout=60)


def bodies(text):
    """What follows the prefix on each line of a log."""
    return [line.partition("] ")[2] for line in text.splitlines() if re.match(r"[IWEF]\d{4} ", line)]


LOG_ALL = "glog.info('i'); glog.warning('w'); glog.error('e')"


def test_before_init_all_to_stderr_after_one_warning(tmp_path):
    result = run(LOG_ALL, tmp_path, TMPDIR=str(tmp_path))
    first, *rest = result.stderr.splitlines()
    assert first == "WARNING: Logging before InitGoogleLogging() is written to STDERR"
    assert bodies("\n".join(rest)) == ["i", "w", "e"] and len(rest) == 3
    assert not list(tmp_path.glob("*.log.*"))


def test_before_init_minloglevel_silences(tmp_path):
    assert run("glog.info('i'); glog.warning('w')", tmp_path, GLOG_minloglevel="2").stderr == ""


def test_files_of_lower_severities_get_the_message_and_are_made_lazily(tmp_path):
    run("glog.init('/x/caffe.bin', log_dir='.'); glog.info('i'); glog.warning('w')", tmp_path)
    files = sorted(path for path in tmp_path.glob("caffe.bin.*.log.*"))
    assert [path.name.split(".log.")[1].split(".")[0] for path in files] == ["INFO", "WARNING"]
    assert [bodies(path.read_text()) for path in files] == [["i", "w"], ["w"]]


def test_file_name_header_and_link(tmp_path):
    run("import os; glog.init('caffe', log_dir='.'); glog.info(os.getpid())", tmp_path, USER="ann")
    link = tmp_path / "caffe.INFO"
    name = os.readlink(link)
    host = re.escape(os.uname().nodename)
    assert (match := re.fullmatch(rf"caffe\.{host}\.ann\.log\.INFO\.(\d{{8}}-\d{{6}})\.(\d+)", name))
    created, machine, form, line = link.read_text().splitlines()
    assert re.fullmatch(r"Log file created at: \d{4}/\d\d/\d\d \d\d:\d\d:\d\d", created)
    assert re.sub(r"\D", "", created) == match[1].replace("-", "")
    assert machine == f"Running on machine: {os.uname().nodename}"
    assert form == "Log line format: [IWEF]mmdd hh:mm:ss.uuuuuu threadid file:line] msg"
    assert line.endswith(f"] {match[2]}")


def test_log_link_holds_a_second_link(tmp_path):
    (tmp_path / "links").mkdir()
    run("glog.init('caffe', log_dir='.', log_link='links'); glog.info('i')", tmp_path)
    assert (tmp_path / "links/caffe.INFO").resolve() == (tmp_path / "caffe.INFO").resolve()


@pytest.mark.parametrize(
    "env, folder",
    [
        ({"TEST_TMPDIR": "a", "TMPDIR": "b", "TMP": "c"}, "a"),
        ({"TMPDIR": "b", "TMP": "c"}, "b"),
        ({"TMP": "c"}, "c"),
        ({"TMPDIR": "missing", "TMP": "c"}, "c"),
        ({"GLOG_log_dir": "d", "TMPDIR": "b"}, "d"),
        ({"GOOGLE_LOG_DIR": "d", "TMPDIR": "b"}, "d"),
        ({"GLOG_log_dir": "c", "GOOGLE_LOG_DIR": "d"}, "c"),
    ],
)
def test_folder(tmp_path, env, folder):
    for name in "abcd":
        (tmp_path / name).mkdir()
    run("glog.init('caffe'); glog.info('i')", tmp_path, **env)
    assert [path.parent.name for path in tmp_path.rglob("caffe.INFO")] == [folder]


def test_uncreatable_file_is_said_once_and_the_run_goes_on(tmp_path):
    result = run(
        f"glog.init('caffe', log_dir='missing', stderrthreshold=3); {LOG_ALL}; print('end')", tmp_path
    )
    said = re.findall(r"^COULD NOT CREATE A LOGGINGFILE \d{8}-\d{6}\.\d+!$", result.stderr, re.M)
    assert len(said) == 3  # the files of INFO, WARNING and ERROR
    assert "missing" in result.stderr and "No such file or directory" in result.stderr
    assert result.stdout == "end\n" and result.returncode == 0


@pytest.mark.parametrize(
    "env, seen",
    [
        ({}, ["e"]),
        ({"GLOG_stderrthreshold": "1"}, ["w", "e"]),
        ({"GLOG_stderrthreshold": "3"}, []),
        ({"GLOG_alsologtostderr": "1"}, ["i", "w", "e"]),
        ({"GOOGLE_ALSOLOGTOSTDERR": "true"}, ["i", "w", "e"]),
        ({"GOOGLE_ALSOLOGTOSTDERR": "true", "GLOG_alsologtostderr": "0"}, ["e"]),
        ({"GLOG_logtostderr": "yes"}, ["i", "w", "e"]),
        ({"GOOGLE_LOGTOSTDERR": "1", "GLOG_minloglevel": "2"}, ["e"]),
    ],
)
def test_stderr(tmp_path, env, seen):
    result = run(f"glog.init('caffe'); {LOG_ALL}", tmp_path, TMPDIR=str(tmp_path), **env)
    assert bodies(result.stderr) == seen


def test_logtostderr_makes_no_file(tmp_path):
    run(f"glog.init('caffe', log_dir='.', logtostderr=True); {LOG_ALL}", tmp_path)
    assert not list(tmp_path.glob("caffe*"))


def test_minloglevel_drops_from_files_too(tmp_path):
    run(f"glog.init('caffe', log_dir='.', minloglevel=1); {LOG_ALL}", tmp_path)
    assert [bodies((tmp_path / f"caffe.{name}").read_text()) for name in SEVERITIES[:2]] == [["w", "e"]] * 2


def test_fatal_goes_everywhere(tmp_path):
    result = run(
        "glog.init('caffe', log_dir='.')\ntry:\n    glog.fatal('bad')\nexcept glog.FatalError as err:\n"
        "    glog.log_fatal(err)",
        tmp_path,
    )
    assert bodies(result.stderr) == ["bad"]
    assert all(bodies((tmp_path / f"caffe.{name}").read_text()) == ["bad"] for name in SEVERITIES)


def test_info_is_buffered_and_warning_is_not(tmp_path):
    code = (
        "glog.init('caffe', log_dir='.')\n"
        "def lines(): return sum('] ' in l and l[0] in 'IW' for l in open('caffe.INFO'))\n"
        "glog.info('a'); glog.info('b'); print(lines())\n"
        "glog.warning('c'); print(lines())\n"
        "glog.flags.logbuflevel = -1; glog.info('d'); print(lines())\n"
        "glog.flags.logbuflevel = 0; glog.info('e'); print(lines()); glog.flush(); print(lines())"
    )
    assert run(code, tmp_path).stdout.split() == ["0", "3", "4", "4", "5"]
    assert len(bodies((tmp_path / "caffe.INFO").read_text())) == 5


def test_file_rolls_over_at_max_log_size(tmp_path):
    code = (
        "glog.init('caffe', log_dir='.', max_log_size=1)\n"
        "import time; glog.info('x' * 700_000); glog.info('x' * 700_000)\n"
        "time.sleep(1.1); glog.info('last')"
    )
    run(code, tmp_path)
    first, second = sorted(tmp_path.glob("caffe.*.log.INFO.*"))
    assert first.stat().st_size > 1_400_000
    assert bodies(second.read_text()) == ["last"]
    assert (tmp_path / "caffe.INFO").resolve() == second


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_disk_is_survived(tmp_path):
    code = (
        "import os; glog.init('caffe', log_dir='.'); glog.warning('a')\n"
        "full = os.open('/dev/full', os.O_WRONLY)\n"
        "for f in glog._files.values(): os.dup2(full, f.fd)\n"
        "glog.warning('b'); print('end')"
    )
    result = run(code, tmp_path)
    assert (result.returncode, result.stdout) == (0, "end\n")


def test_broken_pipe_on_stderr_costs_no_line_of_the_file(tmp_path):
    code = (
        "import time; glog.init('caffe', log_dir='.', alsologtostderr=True)\n"
        "glog.info('0'); time.sleep(0.3)\n"
        "for i in range(1, 2000): glog.info(i)\n"
        "open('end', 'w').close()"
    )
    result = run(code, tmp_path, shell="{} 2>&1 >/dev/null | head -n 1")
    assert result.returncode == 0, result
    assert (tmp_path / "end").exists()
    assert bodies((tmp_path / "caffe.INFO").read_text()) == [str(i) for i in range(2000)]


def test_broken_pipe_at_exit_is_quiet(tmp_path):
    result = run("import time; time.sleep(0.3); glog.plain('x')", tmp_path, shell="{} 2>&1 | true")
    assert (result.returncode, result.stderr) == (0, "")


def test_closed_stderr_is_survived(tmp_path):
    result = run("glog.info('x'); glog.plain('y'); print('end')", tmp_path, shell="{} 2>&-")
    assert (result.returncode, result.stdout) == (0, "end\n")


@pytest.mark.parametrize("v, vmodule, shown", [(0, "", 0), (1, "", 1), (0, "scr*=1", 1), (1, "script=0", 0)])
def test_note_is_an_info_line_with_v(tmp_path, v, vmodule, shown):
    code = f"glog.init('caffe', logtostderr=True, v={v}, vmodule='{vmodule}'); glog.note('memory')"
    assert bodies(run(code, tmp_path).stderr) == ["memory"] * shown


def test_note_is_plain_on_a_terminal(tmp_path):
    code = "glog.init('caffe', log_dir='.'); glog.note('memory'); glog.flush()"
    result = run(code, tmp_path, shell="script -qec '{}' /dev/null")
    if "command not found" in result.stderr:
        pytest.skip("no script(1)")
    assert result.stdout.splitlines() == ["memory"]


def test_color(tmp_path):
    code = "glog.init('caffe', logtostderr=True, colorlogtostderr=True, log_prefix=False)\n" + LOG_ALL
    assert run(code, tmp_path, TERM="xterm").stderr == "i\n\033[0;33mw\n\033[m\033[0;31me\n\033[m"
    assert run(code, tmp_path, TERM="dumb").stderr == "i\nw\ne\n"


def test_mail(tmp_path):
    mail = tmp_path / "mail"
    mail.write_text('#!/bin/sh\nfor a; do echo "<$a>"; done > mailed; cat >> mailed\n')
    mail.chmod(0o755)
    code = "glog.init('caffe', log_dir='.', logemaillevel=2, alsologtoemail='a@b,c@d')\n"
    run(code + LOG_ALL, tmp_path, PATH=f"{tmp_path}:{os.environ['PATH']}")
    subject, body = (tmp_path / "mailed").read_text().split(os.uname().nodename)
    assert subject == "<-s>\n<[LOG] ERROR: caffe>\n<a@b>\n<c@d>\n" and bodies(body) == ["e"]


def test_hook_surrounds_every_write_to_stderr(capfd, tmp_path):
    @contextlib.contextmanager
    def hook():
        print("<", end="", file=sys.stderr)
        yield
        print(">", end="", file=sys.stderr)

    glog.set_stderr_hook(hook)
    try:
        glog.init("caffe", log_dir=str(tmp_path), log_prefix=False)
        glog.info("i")
        glog.error("e")
        glog.plain("p")
    finally:
        glog.set_stderr_hook(None)
        glog.shutdown()
        glog.flags.reset()
    assert capfd.readouterr().err == "<e\n><p\n>"


def test_unknown_flag_is_refused():
    with pytest.raises(TypeError, match="nonsense"):
        glog.init("caffe", nonsense=1)


def test_child_of_a_fork_has_files_of_its_own(tmp_path):
    code = (
        "import os; glog.init('caffe', log_dir='.'); glog.info('parent')\n"
        "if os.fork() == 0: glog.info('child'); raise SystemExit\n"
        "os.wait()"
    )
    run(code, tmp_path)
    texts = [bodies(path.read_text()) for path in tmp_path.glob("caffe.*.log.INFO.*")]
    assert sorted(texts) == [["child"], ["parent"]]
