"""Text protos: printed as in recorded dumps of the original, refused in the words of the C++ parser."""

from __future__ import annotations

import re

import pytest

from caffetools.formats import prototxt
from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2

from .conftest import FORMATS, GOLDEN

# ---- printing ----------------------------------------------------------------------------------------------

DUMP = re.compile(
    r"(Initializing solver|Initializing net) from parameters: \n(.*?)(?=^[IWEF]\d{8} )", re.M | re.S
)
CLASSES = {"Initializing solver": caffe_pb2.SolverParameter, "Initializing net": caffe_pb2.NetParameter}


def recorded_dumps():
    for log in ("log_train", "log_train_h5", "log_test"):
        text = (FORMATS / f"{log}.txt").read_text()
        for number, (what, dump) in enumerate(DUMP.findall(text)):
            yield pytest.param(CLASSES[what], dump, id=f"{log}-{number}")


@pytest.mark.parametrize(("message_class", "dump"), list(recorded_dumps()))
def test_dumps_as_the_original_logged(message_class, dump):
    assert prototxt.dumps(prototxt.parse(dump, message_class)) == dump


def test_there_are_recorded_dumps():
    assert len(list(recorded_dumps())) == 7


@pytest.mark.parametrize("name", ["v0_upgraded", "v1_upgraded"])
def test_dumps_as_the_original_wrote(name):
    path = FORMATS / f"{name}.prototxt"
    assert prototxt.dumps(prototxt.read(path, caffe_pb2.NetParameter)) == path.read_text()


def test_dumps_as_protoc_decodes():
    """800 float32, 500 float64, escapes, enums and integers at their limits, printed by protoc 21.5."""
    message = caffe_pb2.NetParameter.FromString((GOLDEN / "protoc" / "values.binaryproto").read_bytes())
    assert prototxt.dumps(message) == (GOLDEN / "protoc" / "values.prototxt").read_text()


def test_dumps_unset_message():
    assert prototxt.dumps(caffe_pb2.NetParameter()) == ""


def test_write_then_read(tmp_path):
    net = prototxt.read(FORMATS / "v0_upgraded.prototxt", caffe_pb2.NetParameter)
    prototxt.write(tmp_path / "net.prototxt", net)
    assert (tmp_path / "net.prototxt").read_bytes() == (FORMATS / "v0_upgraded.prototxt").read_bytes()
    assert prototxt.read(tmp_path / "net.prototxt", caffe_pb2.NetParameter) == net


# ---- reading -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("# only a comment", {}),
        ('name: "a" "b"', {"name": "ab"}),
        ("name: 'q'", {"name": "q"}),
        ('name: "\\303\\266"', {"name": "ö"}),
        (
            "input_dim: [1, 2] input_dim: 0x10 input_dim: 010; input_dim: -1,",
            {"input_dim": [1, 2, 16, 8, -1]},
        ),
        ("force_backward: t", {"force_backward": True}),
        ("state: < phase: 0 >", {"state": caffe_pb2.NetState(phase=caffe_pb2.TRAIN)}),
        ('\ufeffname: "marked"', {"name": "marked"}),
        ('name: "x"\r\ninput_dim: 3\r\n', {"name": "x", "input_dim": [3]}),
    ],
)
def test_notations(tmp_path, text, expected):
    (tmp_path / "f.prototxt").write_text(text, encoding="utf-8", newline="")
    assert prototxt.read(tmp_path / "f.prototxt", caffe_pb2.NetParameter) == caffe_pb2.NetParameter(
        **expected
    )


def test_comments_may_be_in_any_encoding(tmp_path):
    (tmp_path / "f.prototxt").write_bytes(b'# \xb0\xa1\nname: "x"  # \xff')
    assert prototxt.read(tmp_path / "f.prototxt", caffe_pb2.NetParameter).name == "x"


# ---- errors ------------------------------------------------------------------------------------------------

#: A text, what protoc 21.5 says of it, and our reason.
ERRORS = [
    ('layer { name: "x" typo: "ReLU" }',
     '1:23: Message type "caffe.LayerParameter" has no field named "typo".',
     'no field named "typo" in LayerParameter; did you mean "type"?'),
    ('layer {\n\tname: "x"\n\tbotom: "y" }',
     '3:14: Message type "caffe.LayerParameter" has no field named "botom".',
     'no field named "botom" in LayerParameter; did you mean "bottom"?'),
    ("layer {} garbage", '1:17: Message type "caffe.NetParameter" has no field named "garbage".',
     'no field named "garbage" in NetParameter'),
    ("layer { num_output: 3 }", '1:19: Message type "caffe.LayerParameter" has no field named "num_output".',
     'no field named "num_output" in LayerParameter; it belongs into convolution_param, embed_param, '
     "inner_product_param or recurrent_param"),
    ('layer { convolution_param { num_output: 3 type: "x" }',
     '1:47: Message type "caffe.ConvolutionParameter" has no field named "type".',
     'no field named "type" in ConvolutionParameter; LayerParameter has one: is a "}" missing before it?'),
    ("base_lr: 0.1", '1:8: Message type "caffe.NetParameter" has no field named "base_lr".',
     'no field named "base_lr" in NetParameter; is this a solver, where a net is expected?'),
    ("layer { predict_box_param { order: 0 } }",
     '1:27: Message type "caffe.LayerParameter" has no field named "predict_box_param".',
     'no field named "predict_box_param" in LayerParameter; predict_box_param belongs to the MTCNN fork '
     "(kpzhang93/MTCNN_face_detection_alignment)"),
    ("layer { pooling_param { pool: max } }", '1:35: Unknown enumeration value of "max" for field "pool".',
     'pool takes MAX, AVE or STOCHASTIC, not max; did you mean "MAX"?'),
    ("layer { pooling_param { pool: 7 } }", '1:33: Unknown enumeration value of "7" for field "pool".',
     "pool takes MAX, AVE or STOCHASTIC, not 7"),
    ('layer { pooling_param { pool: "MAX" } }', '1:31: Expected integer or identifier, got: "MAX"',
     'pool takes MAX, AVE or STOCHASTIC, not "MAX"'),
    ('layer { name: "x" \n', "2:1: Expected identifier, got: ",
     'the file ends within layer, opened at 1:1: a "}" is missing'),
    ('layer { name: "x" } }', "1:21: Expected identifier, got: }", 'a "}" that closes nothing'),
    ("3: 4", "1:1: Expected identifier, got: 3", 'a field name is expected, not "3"'),
    ("name: foo", "1:7: Expected string, got: foo", 'name takes a string in quotes, not "foo"'),
    ('name: "x" name: "y"', '1:15: Non-repeated field "name" is specified multiple times.',
     "name is given twice, first at 1:1"),
    ("state {} state {}", '1:16: Non-repeated field "state" is specified multiple times.',
     "state is given twice, first at 1:1"),
    ("layer { convolution_param { num_output: -3 } }", "1:41: Expected integer, got: -",
     "num_output cannot be negative"),
    ("layer { convolution_param { num_output: 3.5 } }", "1:41: Expected integer, got: 3.5",
     'num_output takes a whole number, not "3.5"'),
    ("input_dim: 2147483648", "1:12: Integer out of range (2147483648)",
     "2147483648 is too large for input_dim"),
    ("input_dim: -2147483649", "1:13: Integer out of range (2147483649)",
     "2147483649 is too large for input_dim"),
    ("force_backward: yes", '1:20: Invalid value for boolean field "force_backward". Value: "yes".',
     'force_backward takes true or false, not "yes"'),
    ("force_backward: 2", "1:17: Integer out of range (2)", 'force_backward takes true or false, not "2"'),
    ('force_backward: "true"', '1:17: Expected identifier, got: "true"',
     'force_backward takes true or false, not "true"'),
    ("layer { loss_weight: - x }", "1:24: Expected double, got: x", 'loss_weight takes a number, not "x"'),
    ("layer { loss_weight: [1, 2,] }", "1:28: Expected double, got: ]",
     'loss_weight takes a number, not "]"'),
    ('layer { top: ["a", "b" }', '1:24: Expected ",", found "}".',
     '"," or "]" is expected in the list, not "}"'),
    ("layer { pooling_param: MAX }", '1:24: Expected "{", found "MAX".',
     "pooling_param is a PoolingParameter: write pooling_param { ... }"),
    ("layer { pooling_param { kernel_size { } } }", '1:37: Expected ":", found "{".',
     '":" and a value must follow kernel_size, not "{"'),
    ('layer < name: "q" }', '1:19: Expected ">", found "}".', '">" is expected, not "}"'),
    ("name: “x”", "1:7: Interpreting non ascii codepoint 226.",
     '"“" outside of a string; quotes and signs must be plain ASCII'),
    ("\x01", "1:1: Invalid control characters encountered in text.",
     '"\\x01" outside of a string; quotes and signs must be plain ASCII'),
    ('name: "x\n', "1:9: String literals cannot cross line boundaries.",
     'the string "x is not closed on its line'),
    ("input_dim: 3abc", "1:13: Need space between number and identifier.", '"abc" directly after a number'),
    ("input_dim: 09", "1:13: Numbers starting with leading zero must be in octal.",
     "a number that begins with 0 is octal and has no digit above 7"),
    ("layer { loss_weight: 1e }", '1:24: "e" must be followed by exponent.',
     '"1e" is no number: its exponent is missing'),
    ('name: "ä" typo: 1', '1:16: Message type "caffe.NetParameter" has no field named "typo".',
     'no field named "typo" in NetParameter'),
]  # fmt: skip


#: What newer versions of protoc say, to what 21.5 says.
REWORDED = {
    'input:1:9: Multiline strings are not allowed. Did you miss a "?.':
        "input:1:9: String literals cannot cross line boundaries.",
}  # fmt: skip


@pytest.mark.parametrize(("text", "message", "reason"), ERRORS, ids=[text for text, _, _ in ERRORS])
def test_error(text, message, reason, logged):
    with pytest.raises(FatalError) as error:
        prototxt.parse(text, caffe_pb2.NetParameter, "net.prototxt")
    place = re.match(r"\d+:\d+: ", message).group()
    assert logged == [("error", f"Error parsing text-format caffe.NetParameter: {message}")]
    assert str(error.value) == (
        "Check failed: ReadProtoFromTextFile(param_file, param) Failed to parse NetParameter file:"
        f" net.prototxt (net.prototxt:{place}{reason})"
    )


@pytest.mark.parametrize(("text", "message", "reason"), ERRORS, ids=[text for text, _, _ in ERRORS])
def test_error_is_that_of_protoc(text, message, reason, tmp_path):
    protoc = pytest.importorskip("grpc_tools.protoc")
    import subprocess
    import sys

    root = GOLDEN.parents[1]
    command = [sys.executable, "-m", protoc.__name__, f"--proto_path={root}", "--encode=caffe.NetParameter"]
    run = subprocess.run(
        [*command, caffe_pb2.DESCRIPTOR.name], input=text.encode(), capture_output=True, cwd=tmp_path
    )
    said = run.stderr.decode("latin-1").splitlines()[0]
    assert run.returncode != 0
    assert REWORDED.get(said, said) == f"input:{message}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "layer { }",
            'no field named "layer" in SolverParameter; is this a net, where a solver is expected?',
        ),
        ("lr_polic: 3", 'no field named "lr_polic" in SolverParameter; did you mean "lr_policy"?'),
        ("solver_mode: gpu", 'solver_mode takes CPU or GPU, not gpu; did you mean "GPU"?'),
        ("train_state { stag: '' }", 'no field named "stag" in NetState; did you mean "stage"?'),
    ],
)
def test_error_in_solver(text, reason, logged):
    with pytest.raises(FatalError, match="Failed to parse SolverParameter file: s ") as error:
        prototxt.parse(text, caffe_pb2.SolverParameter, "s")
    assert str(error.value).endswith(f": {reason})")


def test_recorded_error(logged, monkeypatch):
    monkeypatch.chdir(FORMATS)
    with pytest.raises(FatalError) as error:
        prototxt.read("bad_syntax.prototxt", caffe_pb2.NetParameter)
    parser_line, fatal_line = (FORMATS / "log_bad_syntax.txt").read_text().splitlines()[5:7]
    assert parser_line.endswith("] " + logged[0][1])
    assert str(error.value).startswith(fatal_line.split("] ", 1)[1] + " (bad_syntax.prototxt:1:23: ")


def test_missing_required_field(logged):
    with pytest.raises(
        FatalError, match=r"f \(f: message missing required fields: layer\[0\].clip_param.max\)$"
    ):
        prototxt.parse("layer { clip_param { min: 1 } }", caffe_pb2.NetParameter, "f")
    missing = "Message missing required fields: layer[0].clip_param.max"
    assert logged == [("error", f"Error parsing text-format caffe.NetParameter: {missing}")]


def test_string_that_is_no_utf8(tmp_path, logged):
    (tmp_path / "f").write_bytes(b'name: "\xb0\xa1"')
    with pytest.raises(FatalError, match="f:1:7: this string is no UTF-8: save the file as UTF-8"):
        prototxt.read(tmp_path / "f", caffe_pb2.NetParameter)


def test_weights_in_place_of_a_prototxt(logged):
    with pytest.raises(FatalError, match="not a prototxt; a .caffemodel is given as weights"):
        prototxt.read(FORMATS / "small_iter_20.caffemodel", caffe_pb2.NetParameter)


def test_missing_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FatalError) as error:
        prototxt.read("nope.prototxt", caffe_pb2.SolverParameter)
    recorded = (FORMATS / "log_train_missing_solver.txt").read_text()
    assert f"] {error.value}\n" in recorded


def test_folder_in_place_of_a_file(tmp_path):
    with pytest.raises(FatalError, match=r"File not found: \S+ \(Is a directory\)"):
        prototxt.read(tmp_path, caffe_pb2.NetParameter)
