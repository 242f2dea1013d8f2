"""Decoupled weight decay: Adam with it against torch.optim.AdamW, the others against their formulas."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.formats import prototxt
from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2
from caffetools.solver import Solver

NET = """
net_param {
  layer { name: "in" type: "Input" top: "x" top: "y" input_param { shape { dim: 6 dim: 5 } shape { dim: 6 dim: 3 } } }
  layer { name: "ip" type: "InnerProduct" bottom: "x" top: "z" param { lr_mult: 1 decay_mult: 1 }
    param { lr_mult: 2 decay_mult: 0 } inner_product_param { num_output: 3 weight_filler { type: "gaussian" } } }
  layer { name: "loss" type: "EuclideanLoss" bottom: "z" bottom: "y" top: "loss" }
}
lr_policy: "step" stepsize: 10 gamma: 0.5 base_lr: 0.05 weight_decay: 0.25 decoupled_decay: true random_seed: 3
"""
STEPS = 25


def train(settings):
    """Return the first weights and biases, the data, and weights and biases after STEPS steps."""
    solver = Solver(prototxt.parse(NET + settings, caffe_pb2.SolverParameter))
    random = np.random.default_rng(5)
    x, y = random.standard_normal((6, 5)), random.standard_normal((6, 3))
    solver.net.blobs["x"].data[...], solver.net.blobs["y"].data[...] = x, y
    blobs = solver.net.layer_by_name["ip"].blobs
    blobs[1].data[...] = [0.5, -0.5, 1]
    first = [blob.data.copy() for blob in blobs]
    solver.step(STEPS)
    return first, x.astype(np.float32), y.astype(np.float32), [blob.data.copy() for blob in blobs]


def test_adamw_of_torch():
    torch = pytest.importorskip("torch")
    first, x, y, last = train('type: "Adam" momentum: 0.9 momentum2: 0.99 delta: 1e-8')
    w, b = (torch.from_numpy(array.copy()).requires_grad_() for array in first)
    groups = [{"params": [w], "weight_decay": 0.25, "lr": 0.05}, {"params": [b], "weight_decay": 0.0, "lr": 0.1}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), eps=1e-8)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 10, 0.5)
    for _ in range(STEPS):
        optimizer.zero_grad()
        (((torch.from_numpy(x) @ w.T + b - torch.from_numpy(y)) ** 2).sum() / 12).backward()
        optimizer.step()
        schedule.step()
    np.testing.assert_allclose(last[0], w.detach().numpy(), rtol=2e-4, atol=1e-6)
    np.testing.assert_allclose(last[1], b.detach().numpy(), rtol=2e-4, atol=1e-6)


def test_momentum_with_decay_beside_it():
    first, x, y, last = train("momentum: 0.9")
    w, b = (array.astype(np.float64) for array in first)
    hw, hb = np.zeros_like(w), np.zeros_like(b)
    for it in range(STEPS):
        rate = 0.05 * 0.5 ** (it // 10)
        difference = x @ w.T + b - y
        hw = 0.9 * hw + rate * difference.T @ x / 6
        hb = 0.9 * hb + 2 * rate * difference.sum(0) / 6
        w = w * (1 - rate * 0.25) - hw
        b = b - hb
    np.testing.assert_allclose(last[0], w, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(last[1], b, rtol=1e-4, atol=1e-6)


def test_l1_is_refused():
    with pytest.raises(FatalError, match="decoupled_decay goes with regularization_type L2, not L1"):
        train('regularization_type: "L1"')
