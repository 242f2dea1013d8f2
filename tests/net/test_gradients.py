"""Gradients that are written instead of cleared and added to give the same steps, and are never seen stale."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf import text_format

from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2
from caffetools.solver import Solver

# ip1 and ip2 share their weights, ip4's are not learnt, ip3 and ip5 are on their own.
NET = """
layer { name: "in" type: "Input" top: "x" top: "t" input_param { shape { dim: 3 dim: 4 } shape { dim: 3 dim: 2 } } }
layer { name: "ip1" type: "InnerProduct" bottom: "x" top: "a" param { name: "w" }
  inner_product_param { num_output: 4 bias_term: false weight_filler { type: "xavier" } } }
layer { name: "ip2" type: "InnerProduct" bottom: "a" top: "b" param { name: "w" }
  inner_product_param { num_output: 4 bias_term: false weight_filler { type: "xavier" } } }
layer { name: "ip3" type: "InnerProduct" bottom: "b" top: "c"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "ip4" type: "InnerProduct" bottom: "c" top: "d" param { lr_mult: 0 }
  inner_product_param { num_output: 6 weight_filler { type: "xavier" } } }
layer { name: "ip5" type: "InnerProduct" bottom: "d" top: "e"
  inner_product_param { num_output: 2 transpose: true weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "e" bottom: "t" top: "loss" }
"""


def solver(iter_size=1, watched=False):
    param = caffe_pb2.SolverParameter(
        base_lr=0.1, momentum=0.9, lr_policy="fixed", random_seed=3, iter_size=iter_size
    )
    text_format.Parse(NET, param.net_param)
    made = Solver(param)
    random = np.random.default_rng(1)
    for name in ("x", "t"):
        made.net.blobs[name].data[...] = random.standard_normal(made.net.blobs[name].shape)
    if watched:  # callbacks may look at gradients, which are cleared then
        made.add_callback(lambda: None, lambda: None)
    return made


@pytest.mark.parametrize("iter_size", [1, 2])
def test_steps_are_the_same(iter_size):
    fast, plain = solver(iter_size), solver(iter_size, watched=True)
    for _ in range(3):
        fast.step(1)
        plain.step(1)
        assert np.array_equal(fast.net.param_data, plain.net.param_data)
        assert np.array_equal(fast.net.param_diff, plain.net.param_diff)
    assert np.abs(fast.net.param_diff).max() > 0


def test_only_gradients_of_ones_own_are_written():
    made = solver()
    made.net.param_diff[...] = 7
    made.net.begin_param_diffs()
    kept = {
        name for (name, _), blob in zip(made.net.param_names, made.net.params, strict=True) if blob.diff.any()
    }
    assert kept == {"ip3", "ip5"}
    made.net.clear_param_diffs()
    assert not made.net.param_diff.any()
    made.net.forward()
    made.net.backward()
    once = made.net.param_diff.copy()
    made.net.backward()  # whoever calls passes himself has gradients added up
    np.testing.assert_allclose(made.net.param_diff, 2 * once, rtol=1e-6)


def test_a_loss_that_is_not_finite_leaves_cleared_gradients():
    made = solver()
    made.step(1)
    made.net.blobs["x"].data[0, 0] = np.inf
    with pytest.raises(FatalError):
        made.step(1)
    assert not made.net.param_diff.any()
