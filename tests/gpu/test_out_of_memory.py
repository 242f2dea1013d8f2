"""A device that is too small: what the error says, and what goes on working. A stand-in limits the memory."""

from __future__ import annotations

import gc
import re

import numpy as np
import pytest

from caffetools.engine.cpu.rng import RandomSource
from caffetools.engine.out_of_memory import OutOfMemory
from caffetools.formats import prototxt
from caffetools.glog import FatalError
from caffetools.layer import TRAIN, Context
from caffetools.net import device_memory, load_net
from caffetools.proto import caffe_pb2
from caffetools.solver import Solver
from tests.gpu.test_cudnn import CASES, compare, cudnn, passes

__all__ = ["cudnn"]

BATCH, ITEM = 64, 1000
TEXT = f"""
layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: {BATCH} dim: {ITEM} }} }} }}
layer {{ name: "label" type: "Input" top: "label" input_param {{ shape {{ dim: {BATCH} }} }} }}
layer {{ name: "first" type: "Power" bottom: "x" top: "a" power_param {{ scale: 2 }} }}
layer {{ name: "second" type: "TanH" bottom: "a" top: "b" }}
layer {{ name: "third" type: "Power" bottom: "b" top: "c" power_param {{ scale: 3 }} }}
layer {{ name: "ip" type: "InnerProduct" bottom: "c" top: "score" inner_product_param {{ num_output: 2 }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }}
"""
BLOB = 4 * BATCH * ITEM


@pytest.fixture
def limit(engine, monkeypatch):
    """Leaves a number of bytes on the device."""
    from caffetools.engine.gpu import memory
    from caffetools.engine.gpu.device import Engine

    allocate = memory._allocate
    room = [0]

    def limited(engine, count, dtype):
        if count * np.dtype(dtype).itemsize > room[0] - engine.held.bytes:
            raise RuntimeError("[2] Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY")
        return allocate(engine, count, dtype)

    def to(size):
        gc.collect()
        room[0] = engine.held.bytes + size

    monkeypatch.setattr(memory, "_allocate", limited)
    monkeypatch.setattr(Engine, "free_memory", lambda engine: room[0] - engine.held.bytes)
    room[0] = 1 << 40
    return to


def make(engine, batch=BATCH, more=""):
    param = prototxt.parse(more + TEXT.replace(f"dim: {BATCH}", f"dim: {batch}"), caffe_pb2.NetParameter)
    return load_net(param, TRAIN, Context(random=RandomSource(1), engine=engine))


def test_bytes_are_counted_while_they_are_held(engine):
    from caffetools.engine.gpu.memory import device_array

    before = engine.held.bytes
    array = device_array(engine, 100, np.float32)
    assert engine.held.bytes == before + 400
    del array
    assert engine.held.bytes == before


def test_the_layer_and_the_largest_batch_are_named(engine, limit):
    net = make(engine)
    limit(int(2.5 * BLOB))
    with pytest.raises(FatalError) as error:
        net.forward()
    words = (
        r"GPU 0 is out of memory: 0\.2 MiB are needed at once for the forward pass of layer 'second' \(TanH\), "
        r"0\.1 MiB are free\. A batch of about (\d+) would fit; it is 64 now\."
    )
    largest = int(re.fullmatch(words, str(error.value))[1])
    assert largest == pytest.approx(BATCH * 2.5 / 4, rel=0.05)  # of the blobs x, a, b and c
    # That is true: so many fit, and some more do not.
    del net, error
    for batch, fits in ((largest, True), (largest + 4, False)):
        net = make(engine, batch)
        limit(int(2.5 * BLOB))
        if fits:
            net.forward()
        else:
            with pytest.raises(OutOfMemory):
                net.forward()
        del net


def test_the_backward_pass_is_named(engine, limit):
    net = make(engine, more="force_backward: true")
    net.forward()
    limit(BLOB // 2)
    with pytest.raises(FatalError, match=r"for the backward pass of layer 'ip' .* about \d+ would fit; it is 64 now"):
        net.backward()


def test_not_even_one(engine, limit):
    net = make(engine)
    limit(1000)
    with pytest.raises(FatalError, match="layer 'first' .* Not even one item would fit, of the 64 of a batch"):
        net.forward()


def test_the_history_of_a_solver_is_named(engine, limit):
    param = caffe_pb2.SolverParameter(base_lr=0.1, lr_policy="fixed", max_iter=9, type="Adam", momentum=0.9)
    param.net_param.MergeFrom(prototxt.parse(TEXT, caffe_pb2.NetParameter))
    solver = Solver(param, engine=engine)
    solver.net.forward()
    solver.net.backward()
    limit(1000)
    with pytest.raises(FatalError, match=r"for the solver's history, .* about 6\d would fit; it is 64 now"):
        solver.step(1)


def test_what_nobody_has_any_longer_is_let_go_first(engine, limit):
    net = make(engine)
    net.forward()
    net.itself = net  # only the collector finds it now
    limit(BLOB)
    gc.disable()
    try:
        del net
        make(engine).forward()
    finally:
        gc.enable()


def test_other_errors_stay_what_they_are(engine, monkeypatch):
    from caffetools.engine.gpu import memory

    def broken(*args):
        raise RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS")

    monkeypatch.setattr(memory, "_allocate", broken)
    with pytest.raises(RuntimeError, match="ILLEGAL_ADDRESS"):
        memory.device_array(engine, 1, np.float32)


def test_host_memory_that_cannot_be_page_locked(engine, monkeypatch):
    from caffetools.engine.gpu import memory

    def refused(*args):
        raise RuntimeError("CUDA_ERROR_OUT_OF_MEMORY")

    monkeypatch.setattr(memory.cuda, "pinned_array", refused)
    with pytest.raises(MemoryError, match="does not page-lock 4.0 MiB"):
        engine.host_array(1 << 20, np.float32)


def test_a_net_without_data_has_no_batch(engine):
    param = prototxt.parse('layer { name: "n" type: "DummyData" top: "x" dummy_data_param { shape { } } }',
                           caffe_pb2.NetParameter)  # fmt: skip
    net = load_net(param, TRAIN, Context(random=RandomSource(1), engine=engine))
    assert device_memory.batch_size(net) == 0 and device_memory.largest_batch(net, 100) is None


PLANS = [([50_000, 1000], "smaller"), ([50_000], "ours"), ([2_000_000, 900_000, 0], "none")]


@pytest.mark.parametrize(("workspaces", "taken"), PLANS)
def test_cudnn_takes_a_plan_with_less_scratch(workspaces, taken, engine, cudnn, limit, monkeypatch, capfd):
    from caffetools.engine.gpu.workspace import Workspace

    module = cudnn(workspaces=workspaces)
    monkeypatch.setattr("caffetools.engine.gpu.cudnn_conv.WORKSPACES", (1 << 20, 2000, 0))
    monkeypatch.setattr(engine, "workspace", Workspace(engine))
    expected = passes("Convolution", *CASES[0], None)
    limit(30_000)
    compare(passes("Convolution", *CASES[0], engine), expected, rtol=1e-4, atol=1e-5)
    ours = "kernels of our own do (GPU 0 is out of memory" in capfd.readouterr().err
    used = {graph.workspace for graph in module.graphs if hasattr(graph, "workspace") and graph.workspace < 30_000}
    assert (ours, used) == {"smaller": (False, {1000}), "ours": (False, set()), "none": (False, {0})}[taken]


def test_a_workspace_that_cannot_grow_keeps_its_room(engine, limit):
    from caffetools.engine.gpu.workspace import Workspace

    workspace = Workspace(engine)
    workspace.reserve(1000, np.uint8)
    limit(2000)
    with pytest.raises(OutOfMemory):
        workspace.reserve(100_000, np.uint8)
    assert workspace.size == 1024 and workspace.array(np.float32).size == 256
