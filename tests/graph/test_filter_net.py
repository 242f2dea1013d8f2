"""Which layers a state keeps, and what the log says about the others."""

from __future__ import annotations

import pytest
from google.protobuf import text_format

from caffetools.glog import FatalError
from caffetools.graph import filter_net
from caffetools.proto import caffe_pb2


def net_of(rules: str, state: str = "phase: TRAIN") -> caffe_pb2.NetParameter:
    text = f'state {{ {state} }} layer {{ name: "a" }} layer {{ name: "b" {rules} }} layer {{ name: "c" }}'
    return text_format.Parse(text, caffe_pb2.NetParameter())


def stays(rules: str, state: str) -> bool:
    names = [layer.name for layer in filter_net(net_of(rules, state)).layer]
    assert names in (["a", "b", "c"], ["a", "c"])
    return "b" in names


STAYING = [
    ("", "phase: TRAIN"),
    ("include { }", "phase: TRAIN"),
    ("include { phase: TRAIN }", "phase: TRAIN"),
    ("include { phase: TEST }", "phase: TEST"),
    ("include { phase: TEST }", ""),  # a state without phase is TEST
    ("include { phase: TEST } include { phase: TRAIN }", "phase: TRAIN"),
    ("include { min_level: 0 }", "phase: TRAIN"),
    ("include { min_level: 2 }", "level: 2"),
    ("include { max_level: 2 }", "level: 2"),
    ("include { min_level: 1 max_level: 3 }", "level: 2"),
    ("include { max_level: -1 }", "level: -1"),
    ('include { stage: "x" }', 'stage: "y" stage: "x"'),
    ('include { stage: "x" stage: "y" }', 'stage: "y" stage: "x"'),
    ('include { not_stage: "x" }', 'stage: "y"'),
    ('include { stage: "x" not_stage: "y" }', 'stage: "x"'),
    ('include { stage: "" }', 'stage: ""'),
    ("exclude { phase: TEST }", "phase: TRAIN"),
    ("exclude { min_level: 1 }", "level: 0"),
    ('exclude { stage: "x" stage: "y" }', 'stage: "x"'),
    ('exclude { not_stage: "x" }', 'stage: "x"'),
]
GOING = [
    (
        "include { phase: TEST }",
        "phase: TRAIN",
        "phase (0) differed from the phase (1) specified by a rule in",
    ),
    ("include { phase: TRAIN }", "", "phase (1) differed from the phase (0) specified by a rule in"),
    ("include { min_level: 3 }", "level: 2", "level (2) is above the min_level (3) specified by a rule in"),
    ("include { max_level: 1 }", "level: 2", "level (2) is above the max_level (1) specified by a rule in"),
    ("include { max_level: -1 }", "", "level (0) is above the max_level (-1) specified by a rule in"),
    ('include { stage: "x" }', "", "did not contain stage 'x' specified by a rule in"),
    ('include { stage: "x" stage: "y" }', 'stage: "x"', "did not contain stage 'y' specified by a rule in"),
    ('include { not_stage: "x" }', 'stage: "x"', "contained a not_stage 'x' specified by a rule in"),
    (
        'include { phase: TEST stage: "x" }',
        "phase: TRAIN",
        "phase (0) differed from the phase (1) specified by",
    ),
]
EXCLUDED = [
    ("exclude { }", "phase: TRAIN"),
    ("exclude { phase: TRAIN }", "phase: TRAIN"),
    ("exclude { phase: TRAIN } exclude { min_level: 5 }", "phase: TRAIN"),
    ("exclude { min_level: 1 max_level: 1 }", "level: 1"),
    ('exclude { stage: "x" }', 'stage: "x" stage: "y"'),
    ('exclude { not_stage: "x" }', 'stage: "y"'),
]


@pytest.mark.parametrize(("rules", "state"), STAYING)
def test_layer_stays(rules, state):
    assert stays(rules, state)


@pytest.mark.parametrize(("rules", "state", "reason"), GOING)
def test_layer_goes_with_a_reason(rules, state, reason, log):
    assert not stays(rules, state)
    (line,) = log()
    assert line.startswith(f"The NetState {reason}")
    assert line.endswith(" specified by a rule in layer b")


@pytest.mark.parametrize(("rules", "state"), EXCLUDED)
def test_layer_is_excluded(rules, state):
    assert not stays(rules, state)


def test_every_rule_is_logged_until_one_is_met(log):
    rules = 'include { phase: TEST } include { stage: "x" } include { } include { min_level: 9 }'
    assert stays(rules, "phase: TRAIN")
    assert [line.partition(" specified")[0] for line in log()] == [
        "The NetState phase (0) differed from the phase (1)",
        "The NetState did not contain stage 'x'",
    ]


def test_both_kinds_of_rules_are_refused():
    with pytest.raises(
        FatalError, match=r"Specify either include rules or exclude rules; not both\. \(layer 'b'\)"
    ):
        filter_net(net_of("include { phase: TRAIN } exclude { phase: TEST }"))


def test_all_else_is_kept_and_the_argument_too():
    net = net_of("include { phase: TEST }")
    net.name = "n"
    net.force_backward = True
    before = net.SerializeToString(deterministic=True)
    filtered = filter_net(net)
    assert net.SerializeToString(deterministic=True) == before
    del net.layer[1]
    assert filtered == net
