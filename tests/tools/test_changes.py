"""`--set`: what it changes in messages, and what it says where it cannot."""

from __future__ import annotations

import pytest

from caffetools.formats import prototxt
from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2
from caffetools.tools.changes import Changes

SOLVER = 'base_lr: 0.01 test_iter: 10 test_iter: 20 net: "a.prototxt" train_state { level: 1 }'
NET = """
layer { name: "data" type: "Data" top: "data" include { phase: TRAIN } data_param { batch_size: 4 } }
layer { name: "data" type: "Data" top: "data" include { phase: TEST } data_param { batch_size: 8 } }
layer { name: "a/3x3.b" type: "Convolution" convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "3" type: "ReLU" }
"""


def changed(text, message):
    changes = Changes([text])
    if isinstance(message, caffe_pb2.SolverParameter):
        changes.apply_to_solver(message)
    else:
        changes.apply_to_net(message)
    changes.check_done()
    return message


def solver():
    return prototxt.parse(SOLVER, caffe_pb2.SolverParameter)


def net():
    return prototxt.parse(NET, caffe_pb2.NetParameter)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("solver.base_lr=0.5", "base_lr: 0.5"),
        ("solver.base_lr = 1e-3", "base_lr: 0.001"),
        ("solver.max_iter=100", "max_iter: 100"),
        ("solver.test_iter=5", "test_iter: [5]"),
        ("solver.test_iter=5,6,7", "test_iter: [5, 6, 7]"),
        ("solver.test_iter=", "test_iter: []"),
        ("solver.test_iter[1]=5", "test_iter: [10, 5]"),
        ("solver.stepvalue=100,200", "stepvalue: [100, 200]"),
        ("solver.net=b.prototxt", 'net: "b.prototxt"'),
        ("solver.net='b=c.prototxt'", 'net: "b=c.prototxt"'),
        ("solver.solver_mode=CPU", "solver_mode: CPU"),
        ("solver.stop_on_nan=false", "stop_on_nan: false"),
        ("solver.train_state.level=7", "train_state { level: 7 }"),
        ("solver.train_state.stage=a,b", "train_state { level: 1 stage: 'a' stage: 'b' }"),
    ],
)
def test_solver(text, expected):
    wanted = solver()
    change = prototxt.parse(expected, caffe_pb2.SolverParameter)
    for name in {field.name for field, _ in change.ListFields()} | {expected.split(":")[0].split(" ")[0]}:
        wanted.ClearField(name)
    wanted.MergeFrom(change)
    assert changed(text, solver()) == wanted


def test_all_layers_of_a_name():
    result = changed("net.layer[data].data_param.batch_size=16", net())
    assert [layer.data_param.batch_size for layer in result.layer[:2]] == [16, 16]


def test_a_name_with_dots_and_slashes():
    result = changed("net.layer[a/3x3.b].convolution_param.kernel_size[0]=5", net())
    assert list(result.layer[2].convolution_param.kernel_size) == [5]


def test_a_name_goes_before_a_number():
    result = changed("net.layer[3].name=x", net())
    assert [layer.name for layer in result.layer] == ["data", "data", "a/3x3.b", "x"]


def test_a_layer_by_number():
    assert changed("net.layer[2].name=x", net()).layer[2].name == "x"


def test_missing_params_are_made():
    result = changed("net.layer[a/3x3.b].param[1].lr_mult=0", net())
    assert [param.lr_mult for param in result.layer[2].param] == [1, 0]


def test_only_the_change_is_made():
    before, after = net(), changed("net.layer[3].type=TanH", net())
    after.layer[3].type = "ReLU"
    assert after == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("base_lr=2", "did you mean solver.base_lr=2?"),
        ("solver.base_lr", "the form is solver.FIELD=VALUE or net.layer[NAME].FIELD=VALUE"),
        ("bogus.base_lr=2", "the form is solver.FIELD=VALUE"),
        ("solver.base-lr=2", "'base-lr' is no path"),
        ("solver.bas_lr=2", "solver (SolverParameter) has no field bas_lr; did you mean base_lr?"),
        ("solver.base_lr=fast", "solver.base_lr takes a number, not 'fast'"),
        ("solver.max_iter=1.5", "solver.max_iter takes a whole number, not '1.5'"),
        ("solver.debug_info=maybe", "solver.debug_info takes true or false, not 'maybe'"),
        ("solver.solver_mode=CPQ", "takes one of CPU, GPU, not 'CPQ'; did you mean CPU?"),
        ("solver.train_state=1", "solver.train_state is a message: name one of its fields (phase, level, stage)"),
        ("solver.base_lr.x=1", "solver.base_lr is a value and has no field x"),
        ("solver.base_lr[0]=1", "solver.base_lr has one value: leave [0] out"),
        ("solver.test_iter[2]=1", "solver.test_iter has 2 values, there is no [2]"),
    ],
)
def test_refused_for_a_solver(text, words):
    with pytest.raises(FatalError) as caught:
        changed(text, solver())
    assert str(caught.value).startswith(f"--set {text}: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("net.layer[dat].name=x", "no net has a layer 'dat'; did you mean data?"),
        ("net.layer[9].name=x", "no net has a layer '9'"),
        ("net.layer=x", "net.layer are several: name one, net.layer[NAME].FIELD"),
        ("net.layer[data].batch_size=3", "net.layer[data] (LayerParameter) has no field batch_size"),
        ("net.layer[data].data_param.batchsize=3", "has no field batchsize; did you mean batch_size?"),
        ("net.layer[a/3x3.b].param[bias].lr_mult=0", "net.layer[a/3x3.b].param are numbered from 0"),
    ],
)
def test_refused_for_a_net(text, words):
    with pytest.raises(FatalError) as caught:
        changed(text, net())
    assert words in str(caught.value)


def test_a_layer_may_be_in_one_of_several_nets():
    changes = Changes(["net.layer[3].name=x"])
    for layers in ('layer { name: "other" }', NET):
        changes.apply_to_net(prototxt.parse(layers, caffe_pb2.NetParameter))
    changes.check_done()
