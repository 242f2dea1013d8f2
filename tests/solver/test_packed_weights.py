"""With `iter_size` weights stay packed between the passes of an update, and whatever changes them is seen."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.formats import prototxt
from caffetools.layer import TRAIN, Context, Layer
from caffetools.net import Net
from caffetools.proto import caffe_pb2
from caffetools.solver import Solver

PASSES = 3
FILLERS = 'weight_filler { type: "gaussian" std: 0.1 } bias_filler { type: "gaussian" std: 0.1 }'
NET = f"""
layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: 1 dim: 16 dim: 12 dim: 12 }} }} }}
layer {{ name: "cont" type: "Input" top: "cont" input_param {{ shape {{ dim: 6 dim: 1 }} }} }}
layer {{ name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param {{ num_output: 24 kernel_size: 1
  {FILLERS} }} }}
layer {{ name: "b" type: "Convolution" bottom: "a" top: "b" convolution_param {{ num_output: 32 kernel_size: 3 pad: 1
  {FILLERS} }} }}
layer {{ name: "c" type: "Convolution" bottom: "b" top: "c" convolution_param {{ num_output: 8 kernel_size: 5 stride: 2
  group: 2 {FILLERS} }} }}
layer {{ name: "d" type: "Deconvolution" bottom: "c" top: "d" convolution_param {{ num_output: 6 kernel_size: 4
  stride: 2 {FILLERS} }} }}
layer {{ name: "rows" type: "Reshape" bottom: "d" top: "rows" reshape_param {{ shape {{ dim: 6 dim: 1 dim: -1 }} }} }}
layer {{ name: "e" type: "LSTM" bottom: "rows" bottom: "cont" top: "e" recurrent_param {{ num_output: 7
  {FILLERS} }} }}
layer {{ name: "zero" type: "Input" top: "zero" input_param {{ shape {{ dim: 6 dim: 1 dim: 7 }} }} }}
layer {{ name: "loss" type: "EuclideanLoss" bottom: "e" bottom: "zero" top: "loss" }}
"""
# What each pass packs: forward all but LSTM's second weights once; backward not that of the first convolution, whose
# bottom wants no gradient.
FORWARD, BACKWARD = 6, 4


def solver_of(folder, passes=PASSES):
    text = (
        f'base_lr: 0.05 lr_policy: "fixed" momentum: 0.9 iter_size: {passes} max_iter: 100 random_seed: 7 '
        f'snapshot_prefix: "{folder}/run" net_param {{ {NET} }}'
    )
    solver = Solver(prototxt.parse(text, caffe_pb2.SolverParameter), plan=True)
    solver.net.blobs["x"].data[...] = np.random.default_rng(3).standard_normal((1, 16, 12, 12))
    solver.net.blobs["cont"].data[...] = 1
    solver.net.blobs["zero"].data[...] = 0.5
    return solver


def test_weights_are_packed_once_for_each_update(tmp_path, packings):
    solver = solver_of(tmp_path)
    for update in range(1, 4):
        solver.step(1)
        assert len(packings) == update * (FORWARD + BACKWARD)


def test_nothing_is_kept_where_a_pass_makes_an_update(tmp_path, packings):
    solver = solver_of(tmp_path, passes=1)
    solver.step(2)
    assert not packings and "packed weights" not in solver.net.memory()


def test_memory_counts_what_is_kept(tmp_path):
    solver = solver_of(tmp_path)
    solver.step(1)
    kept = [
        packed.nbytes
        for layer in solver.net.layers
        for kept in layer._kept.values()
        for _, packed in kept.arrays.values()
    ]
    assert len(kept) == FORWARD + BACKWARD
    assert solver.net.memory()["packed weights"] == sum(kept)


def nothing(solver, folder):
    pass


def written(solver, folder):
    for param in solver.net.params:
        param.data[...] *= 0.5


def written_as_one(solver, folder):
    solver.net.param_data[...] *= 0.5


def written_in_each_pass(solver, folder):
    """Somebody who holds an array writes while passes run."""
    array, forward = solver.net.params[0].data, solver.net.forward

    def changing():
        array[...] += 0.01
        return forward()

    solver.net.forward = changing


def restored(solver, folder):
    solver.snapshot()
    solver.step(2)
    solver.restore(str(folder / "run_iter_2.solverstate"))


def copied(solver, folder):
    path = folder / "half.caffemodel"
    net = solver.net.to_proto()
    for layer in net.layer:
        for blob in layer.blobs:
            blob.data[:] = [0.5 * value for value in blob.data]
    path.write_bytes(net.SerializeToString())
    solver.net.copy_from(str(path))


def shared(solver, folder):
    """Another net of the same weights learns them, too."""
    other = Net(prototxt.parse(NET, caffe_pb2.NetParameter), Context(TRAIN))
    other.share_weights_from(solver.net)
    solver.step(1)
    for param in other.params:
        param.data[...] *= 0.5


WAYS = [nothing, written, written_as_one, written_in_each_pass, restored, copied, shared]


@pytest.mark.parametrize("change", WAYS)
def test_kept_or_not_the_same_is_learnt(tmp_path, monkeypatch, change):
    def run():
        solver = solver_of(tmp_path)
        solver.step(2)
        change(solver, tmp_path)
        solver.step(2)
        return solver.net.param_data.copy()

    kept = run()
    monkeypatch.setattr(Layer, "_keeps_packed", False)
    np.testing.assert_array_equal(kept, run())
