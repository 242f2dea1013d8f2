"""A misspelt name in a solver's prototxt is answered with the one that was meant."""

from __future__ import annotations

import pytest

from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2
from caffetools.solver.policies import check_policy
from caffetools.solver.rules import rule_of


@pytest.mark.parametrize(
    ("check", "fields", "words"),
    [
        (check_policy, {"lr_policy": "stpe"}, "policy: stpe .*; did you mean step"),
        (check_policy, {"lr_policy": "Multistep"}, "policy: Multistep .*; did you mean multistep"),
        (rule_of, {"type": "adam"}, "solver type: adam .*; did you mean Adam"),
        (rule_of, {"type": "Nestorov"}, "solver type: Nestorov .*; did you mean Nesterov"),
        (rule_of, {"type": "AdamW"}, 'AdamW is type: "Adam" with decoupled_decay: true'),
        (rule_of, {"type": "SGDW"}, 'SGDW is type: "SGD" with decoupled_decay: true'),
        (rule_of, {"regularization_type": "l2"}, "regularization type: l2 .*; did you mean L2"),
        (rule_of, {"type": "Foo"}, "solver type: Foo [^;]*$"),
    ],
)
def test_did_you_mean(check, fields, words):
    with pytest.raises(FatalError, match=words):
        check(caffe_pb2.SolverParameter(**fields))
