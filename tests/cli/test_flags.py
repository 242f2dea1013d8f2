"""gflags' rules, case by case; the facts are those of gflags' documentation and of the original's tools."""

from __future__ import annotations

import pytest

from caffetools.cli.flags import Flag, FlagError, FlagParser

FLAGS = [
    Flag(["solver"], default="", help="the solver definition"),
    Flag(["iterations"], default=50, help="how many"),
    Flag(["shuffle"], default=False, help="shuffle the list"),
    Flag(["notes"], default="", help="begins with no"),
    *(
        Flag([name], default="", help="gflags' own")
        for name in ("flagfile", "fromenv", "tryfromenv", "undefok")
    ),
]


def parse(*args, program="tool"):
    """What the flags became that were given, and the positional arguments."""
    parser = FlagParser(program, FLAGS)
    positionals = parser.parse(args)
    parser.check()
    meta = ("flagfile", "fromenv", "tryfromenv", "undefok")
    return {name: parser.values[name] for name in parser.given if name not in meta}, positionals


def errors(*args):
    """The error lines."""
    with pytest.raises(FlagError) as caught:
        parse(*args)
    assert caught.value.exit_code == 1
    return caught.value.message.splitlines()


@pytest.mark.parametrize(
    "args, values, positionals",
    [
        ([], {}, []),
        (["--solver=a"], {"solver": "a"}, []),
        (["-solver=a"], {"solver": "a"}, []),
        (["--solver", "a"], {"solver": "a"}, []),
        (["-solver", "a"], {"solver": "a"}, []),
        (["-solver", "-a"], {"solver": "-a"}, []),
        (["-solver", "--"], {"solver": "--"}, []),
        (["--solver="], {"solver": ""}, []),
        (["--solver", ""], {"solver": ""}, []),
        (["--solver=a=b"], {"solver": "a=b"}, []),
        (["--solver=a", "--solver=b"], {"solver": "b"}, []),
        (["--shuffle"], {"shuffle": True}, []),
        (["-shuffle"], {"shuffle": True}, []),
        (["--noshuffle"], {"shuffle": False}, []),
        (["--noshuffle=true"], {"shuffle": False}, []),
        (["--shuffle", "--noshuffle"], {"shuffle": False}, []),
        (["--shuffle", "true"], {"shuffle": True}, ["true"]),
        (["--shuffle", "false", "x"], {"shuffle": True}, ["false", "x"]),
        (["--notes=x"], {"notes": "x"}, []),
        (["a", "-solver", "s", "b", "--shuffle", "c"], {"solver": "s", "shuffle": True}, ["a", "b", "c"]),
        (["a", "--", "--solver=x", "b"], {}, ["a", "--solver=x", "b"]),
        (["--", "--"], {}, ["--"]),
        (["-", "--solver=x"], {"solver": "x"}, ["-"]),
        ([""], {}, [""]),
    ],
)
def test_accepted(args, values, positionals):
    assert parse(*args) == (values, positionals)


@pytest.mark.parametrize("text", ["true", "t", "1", "y", "yes", "TRUE", "Yes"])
def test_true(text):
    assert parse(f"--shuffle={text}")[0] == {"shuffle": True}


@pytest.mark.parametrize("text", ["false", "f", "0", "n", "no", "False", "NO"])
def test_false(text):
    assert parse(f"--shuffle={text}")[0] == {"shuffle": False}


@pytest.mark.parametrize(
    "text, value",
    [
        ("7", 7),
        ("-7", -7),
        ("+7", 7),
        (" 7", 7),
        ("010", 10),
        ("0x10", 16),
        ("0XfF", 255),
        ("2147483647", 2147483647),
        ("-2147483648", -2147483648),
        ("0x7fffffff", 2147483647),
    ],
)
def test_int32(text, value):
    assert parse("--iterations", text)[0] == {"iterations": value}


@pytest.mark.parametrize(
    "text",
    ["", "abc", "1.5", "1e3", "7 ", "1_000", "0b1", "0o7", "0x", "-0x1", "2147483648", "-2147483649", "٣"],
)
def test_no_int32(text):
    assert errors(f"--iterations={text}") == [
        f"ERROR: illegal value '{text}' specified for int32 flag 'iterations'"
    ]


@pytest.mark.parametrize(
    "args, line",
    [
        (["--shuffle=maybe"], "ERROR: illegal value 'maybe' specified for bool flag 'shuffle'"),
        (["--shuffle="], "ERROR: illegal value '' specified for bool flag 'shuffle'"),
        (["--foo"], "ERROR: unknown command line flag 'foo'"),
        (["-nofoo"], "ERROR: unknown command line flag 'nofoo'"),
        (["--foo=3"], "ERROR: unknown command line flag 'foo'"),
        (["-s", "x"], "ERROR: unknown command line flag 's'"),
        (["-5"], "ERROR: unknown command line flag '5'"),
        (["---solver=x"], "ERROR: unknown command line flag '-solver'"),
        (["--Solver=x"], "ERROR: unknown command line flag 'Solver'"),
        (["--solv=x"], "ERROR: unknown command line flag 'solv'"),
        (["--nosolver"], "ERROR: boolean value (nosolver) specified for string command line flag"),
        (["--noiterations"], "ERROR: boolean value (noiterations) specified for int32 command line flag"),
        (
            ["--solver"],
            "ERROR: flag '--solver' is missing its argument; flag description: the solver definition",
        ),
        (
            ["x", "-iterations"],
            "ERROR: flag '-iterations' is missing its argument; flag description: how many",
        ),
    ],
)
def test_refused(args, line):
    assert errors(*args)[0] == line


def test_all_errors_are_reported_sorted_by_flag():
    assert errors("--shuffle=x", "--foo", "--iterations=y") == [
        "ERROR: unknown command line flag 'foo'",
        "ERROR: illegal value 'y' specified for int32 flag 'iterations'",
        "ERROR: illegal value 'x' specified for bool flag 'shuffle'",
    ]


@pytest.mark.parametrize(
    "arg, guess",
    [("--slover=x", "--solver"), ("--iteration=5", "--iterations"), ("--from-env=x", "--fromenv")],
)
def test_did_you_mean(arg, guess):
    assert errors(arg)[1].startswith(f"Did you mean {guess}")


def test_nothing_close_is_not_guessed():
    assert len(errors("--xyzzy")) == 1


# undefok


def test_undefok_tolerates_named_flags_only():
    assert parse("--undefok=foo,bar", "--foo=3", "--nobar") == ({}, [])
    assert errors("--undefok=foo", "--foo", "--baz")[0] == "ERROR: unknown command line flag 'baz'"


def test_undefok_leaves_the_value_behind():
    assert parse("--foo", "3", "--undefok=foo") == ({}, ["3"])


# flag files


def test_flagfile(tmp_path):
    file = tmp_path / "flags"
    file.write_text("# a comment\n\n  --solver=a b\n-iterations=7\r\n--shuffle\n")
    assert parse(f"--flagfile={file}")[0] == {"solver": "a b", "iterations": 7, "shuffle": True}


def test_flagfile_takes_its_place_on_the_line(tmp_path):
    file = tmp_path / "flags"
    file.write_text("--iterations=7\n")
    assert parse("--iterations=1", f"--flagfile={file}")[0] == {"iterations": 7}
    assert parse(f"--flagfile={file}", "--iterations=1")[0] == {"iterations": 1}


def test_flagfiles_nest_and_come_in_lists(tmp_path):
    inner, outer, other = (tmp_path / name for name in ("inner", "outer", "other"))
    inner.write_text("--solver=inner\n--iterations=1\n")
    outer.write_text(f"--flagfile={inner}\n--iterations=2\n")
    other.write_text("--notes=other\n")
    expected = {"solver": "inner", "iterations": 2, "notes": "other"}
    assert parse(f"--flagfile={outer},{other}")[0] == expected


def test_flagfile_that_includes_itself_is_an_error(tmp_path):
    file = tmp_path / "flags"
    file.write_text(f"--flagfile={file}\n")
    assert errors(f"--flagfile={file}") == [f"ERROR: flag file '{file}' includes itself"]


def test_flagfile_ignores_unknown_names_and_missing_values(tmp_path):
    file = tmp_path / "flags"
    file.write_text("--foo=1\n--solver\n--solver b\n--iterations=3\n")
    assert parse(f"--flagfile={file}")[0] == {"iterations": 3}


def test_flagfile_reports_illegal_values(tmp_path):
    file = tmp_path / "flags"
    file.write_text("--iterations=x\n")
    line = "ERROR: illegal value 'x' specified for int32 flag 'iterations'"
    assert errors(f"--flagfile={file}") == [line]


@pytest.mark.parametrize(
    "program, iterations",
    [("tool", 1), ("/usr/bin/tool", 1), ("toolbox", 2), ("caffe", 3), ("other", 0)],
)
def test_flagfile_sections_by_program(tmp_path, program, iterations):
    file = tmp_path / "flags"
    file.write_text(
        "--iterations=0\ntool\n--iterations=1\ntoolb* x\n--iterations=2\nx caffe\ny\n--iterations=3\n"
    )
    assert parse(f"--flagfile={file}", program=program)[0] == {"iterations": iterations}


def test_missing_flagfile(tmp_path):
    assert errors(f"--flagfile={tmp_path}/no") == [
        f"ERROR: cannot read flag file '{tmp_path}/no': No such file or directory"
    ]


# flags from the environment


def test_fromenv(monkeypatch):
    monkeypatch.setenv("FLAGS_solver", "s")
    monkeypatch.setenv("FLAGS_iterations", "0x11")
    monkeypatch.setenv("FLAGS_notes", "not asked for")
    assert parse("--fromenv=solver,iterations")[0] == {"solver": "s", "iterations": 17}
    assert parse("--tryfromenv=solver,shuffle")[0] == {"solver": "s"}


def test_fromenv_needs_the_variable(monkeypatch):
    monkeypatch.delenv("FLAGS_solver", raising=False)
    assert errors("--fromenv=solver") == ["ERROR: FLAGS_solver not found in environment"]


@pytest.mark.parametrize("value", ["fromenv", "solver,fromenv"])
def test_fromenv_that_names_itself_is_an_error(monkeypatch, value):
    monkeypatch.setenv("FLAGS_fromenv", value)
    monkeypatch.setenv("FLAGS_solver", "s")
    assert errors("--fromenv=fromenv") == ["ERROR: infinite recursion on environment flag 'fromenv'"]


@pytest.mark.parametrize("flag", ["fromenv", "tryfromenv"])
def test_fromenv_needs_a_known_flag(flag):
    assert errors(f"--{flag}=foo") == [
        "ERROR: unknown command line flag 'foo' (via --fromenv or --tryfromenv)"
    ]
    assert parse(f"--{flag}=foo", "--undefok=foo") == ({}, [])


@pytest.mark.parametrize(
    "arg, line",
    [
        ("--fromenv=solver,,notes", "ERROR: empty flaglist entry in --fromenv=solver,,notes"),
        ("--flagfile=-x", "ERROR: flag \"-x\" begins with '-' in --flagfile=-x"),
        ("--undefok=,", "ERROR: empty flaglist entry in --undefok=,"),
    ],
)
def test_bad_lists(arg, line):
    assert errors(arg) == [line]
