"""The programs as processes: texts, streams and exit codes, against recordings and gflags' documentation."""

from __future__ import annotations

import xml.etree.ElementTree

import pytest

from tests.cli.cli_run import messages, run
from tests.recorded import recorded_log

PROGRAMS = (
    "caffe",
    "convert_mnist_data",
    "upgrade_net_proto_text",
    "upgrade_net_proto_binary",
    "upgrade_solver_proto_text",
)
HELP = ("help", "helpfull", "helpshort", "helppackage", "helpxml")


def test_caffe_without_arguments_prints_its_usage():
    _, status, out, _ = recorded_log("log_caffe_noargs")
    result = run("/usr/bin/caffe")
    assert (result.returncode, result.stderr) == (status, "")
    assert result.stdout.startswith(out)
    assert "\n  Flags from caffetools/cli/caffe.py:\n    -confusion (" in result.stdout


@pytest.mark.parametrize(
    "args", [("train", "x"), ("bogus", "x"), ("x", "train"), ("--gpu=0",), ("--gpu", "train")]
)
def test_caffe_with_no_single_command_prints_its_usage(args):
    result = run("caffe", *args)
    assert (result.returncode, result.stdout) == (0, run("caffe").stdout)


def test_unknown_command():
    _, status, out, err = recorded_log("log_caffe_bogus")
    result = run("caffe", "bogus")
    assert (result.returncode, result.stdout) == (status, out)
    assert messages(result.stderr) == messages(err)
    assert [line[0] for line in result.stderr.splitlines()] == list("EEEEEF")


def test_mistyped_command_gets_a_suggestion():
    assert "Did you mean train?" in run("caffe", "tarin").stderr.splitlines()


@pytest.mark.parametrize(
    "args",
    [
        ("-gpu", "0", "train", "-solver"),
        ("train", "-gpu", "0", "-solver"),
        ("--minloglevel", "0", "time", "-solver"),
        ("-solver",),
    ],
)
def test_flags_before_and_after_the_command_are_parsed_alike(args):
    result = run("caffe", *args)
    assert result.returncode == 1
    assert result.stderr.startswith("ERROR: flag '-solver' is missing its argument; flag description: ")


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("flag", HELP)
def test_help_goes_to_stdout_and_exits_with_1(program, flag):
    result = run(program, f"--{flag}")
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout.startswith('<?xml version="1.0"?>' if flag == "helpxml" else f"{program}: ")


@pytest.mark.parametrize("program", PROGRAMS)
def test_version(program):
    result = run(program, "--version")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{program} version 1.0.0\n", "")


def test_help_shows_the_name_it_was_called_by():
    assert run("/opt/caffe.bin", "--helpshort").stdout.startswith("caffe.bin: command line brew\n")
    assert run("caffe", "convert_mnist_data", "-help").stdout.startswith("caffe convert_mnist_data: ")


def test_help_goes_before_errors():
    assert run("caffe", "--help", "--bogus", "--iterations=x").returncode == 1
    assert run("caffe", "--iterations=x", "--version").returncode == 0


def test_help_of_an_action_shows_what_it_uses_and_helpfull_the_rest():
    short, full = (
        run("caffe", "device_query", "--help").stdout,
        run("caffe", "device_query", "--helpfull").stdout,
    )
    assert "    -gpu (" in short and "    -solver (" not in short and "    -log_dir (" in short
    assert "    -gpu (" in full and "    -solver (" in full and "    -log_dir (" in full


@pytest.mark.parametrize(
    "flag, files",
    [
        ("--helpshort", ["caffetools/cli/caffe.py"]),
        ("--helpon=caffe", ["caffetools/cli/caffe.py"]),
        ("--helpon=glog", ["caffetools/glog.py"]),
        ("--helpmatch=cli/fl", ["caffetools/cli/flags.py"]),
        ("--helppackage", ["caffetools/cli/caffe.py", "caffetools/cli/flags.py"]),
        ("--helpfull", ["caffetools/cli/caffe.py", "caffetools/cli/flags.py", "caffetools/glog.py"]),
    ],
)
def test_help_by_source_file(flag, files):
    lines = run("caffe", flag).stdout.splitlines()
    assert [line.split()[-1].rstrip(":") for line in lines if line.startswith("  Flags from ")] == files


@pytest.mark.parametrize("flag", ["--helpon=aff", "--helpmatch=tools/caffe.cpp"])
def test_help_on_no_file(flag):
    assert run("caffe", flag).stdout.endswith("\n\n  No modules matched: use -help\n")


@pytest.mark.parametrize(
    "lines",
    [
        """
    -snapshot (the snapshot of a solver's state to resume from; auto: the
      newest whole one of the solver's snapshot_prefix) type: string
      default: ""
""",
        """
    -iterations (the number of batches or repetitions to run) type: int32
      default: 50 currently: 7
""",
        """
    -weights (the trained weights to start from: for train several files,
      comma-separated; not with --snapshot) type: string default: ""
      currently: "w"
""",
        """
    -log_prefix (start each line with severity, time, thread and source
      position) type: bool default: true currently: false
""",
        """
    -alsologtostderr (log to stderr as well as to the log files) type: bool
      default: false currently: true
""",
    ],
)
def test_help_layout(lines):
    out = run("caffe", "--help", "--weights=w", "--iterations=7", "-nolog_prefix").stdout
    assert lines in out
    assert max(len(line) for line in out.partition("  Flags from")[2].splitlines()) <= 79


def test_help_as_xml():
    root = xml.etree.ElementTree.fromstring(run("caffe", "--helpxml", "--stage=<a&b>").stdout)
    assert (root.tag, root.find("program").text) == ("AllFlags", "caffe")
    flags = {flag.find("name").text: {part.tag: part.text for part in flag} for flag in root.iter("flag")}
    assert flags["stage"] == {
        "file": "caffetools/cli/caffe.py",
        "name": "stage",
        "meaning": "the stages of the net's state, comma-separated",
        "default": None,
        "current": "<a&b>",
        "type": "string",
    }
    assert flags["iterations"]["type"] == "int32" and flags["log_prefix"]["default"] == "true"


def test_tab_completion_word():
    result = run("caffe", "--tab_completion_word=--log_p")
    assert (result.returncode, result.stdout) == (0, "--log_prefix\n")


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_takes_the_flags_of_the_log(program):
    result = run(
        program, "--logtostderr", "--minloglevel=0x1", "--log_dir", ".", "-v=1", "--nolog_prefix", "-help"
    )
    assert (result.returncode, result.stderr) == (1, "")


@pytest.mark.parametrize("program", PROGRAMS)
def test_errors_go_to_stderr_and_exit_with_1(program):
    result = run(program, "--bogus_flag")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "ERROR: unknown command line flag 'bogus_flag'\n"


def test_convert_mnist_data_with_wrong_arguments_prints_its_usage():
    result = run("convert_mnist_data", "a", "b")
    assert (result.returncode, result.stderr) == (0, "")
    assert "usage: convert_mnist_data [FLAGS] IMAGE_FILE LABEL_FILE DB_NAME" in result.stdout
    assert "    -backend (" in result.stdout


@pytest.mark.parametrize("program", [name for name in PROGRAMS if name.startswith("upgrade")])
@pytest.mark.parametrize("args", [(), ("a",), ("a", "b", "c")])
def test_upgrade_tools_with_wrong_arguments_log_their_usage(program, args):
    result = run(program, *args)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("E") and f"usage: {program} OLD_" in result.stderr


@pytest.mark.parametrize("args", [(), ("csh",), ("bash", "zsh")])
def test_completion_with_wrong_arguments_logs_its_usage(args):
    result = run("caffe", "completion", *args)
    assert result.returncode == 1 and "usage: caffe completion bash|zsh|fish" in result.stderr


def test_convert_mnist_data_runs_as_a_subcommand_too(tmp_path):
    missing = run(
        "caffe", "--backend=leveldb", "convert_mnist_data", "no-images", "no-labels", "db", cwd=tmp_path
    )
    assert missing.returncode == 134 and "no-images" in missing.stderr
    assert missing.stderr.splitlines()[-1].startswith("F")
