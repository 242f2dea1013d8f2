"""Batches on their way to the device: the right ones, in time, never overwritten in use, and nobody waits."""

from __future__ import annotations

from dataclasses import asdict

import h5py
import numpy as np
import pytest
from PIL import Image

from caffetools.engine.cpu.rng import RandomSource
from caffetools.formats import datum, prototxt
from caffetools.formats.db import open_db
from caffetools.layer import TRAIN, Context
from caffetools.net import load_net
from caffetools.proto import caffe_pb2
from caffetools.solver import Solver
from tests.gpu.test_iteration import NOTHING

RECORDS, BATCH = 14, 2
PICTURES = np.random.default_rng(5).integers(0, 256, (RECORDS, 3, 4, 5), np.uint8)

REST = """
layer { name: "flip" type: "Power" bottom: "x" top: "x" power_param { scale: -1 } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "score"
        inner_product_param { num_output: 15 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
"""
SCALE = "transform_param { scale: 0.01 mirror: true }"


def lmdb(folder):
    with open_db("lmdb", folder / "db", "new") as db:
        for i, picture in enumerate(PICTURES):
            db.put(b"%03d" % i, datum.from_array(picture, i).SerializeToString())
    return f'type: "Data" data_param {{ source: "{folder}/db" backend: LMDB batch_size: {BATCH} }} {SCALE}'


def listed(folder):
    for i, picture in enumerate(PICTURES):
        Image.fromarray(picture.transpose(1, 2, 0)).save(folder / f"{i}.png")
    (folder / "list.txt").write_text("".join(f"{folder}/{i}.png {i}\n" for i in range(RECORDS)))
    return f'type: "ImageData" image_data_param {{ source: "{folder}/list.txt" batch_size: {BATCH} }} {SCALE}'


def windows(folder):
    listed(folder)
    lines = [f"# {i}\n{folder}/{i}.png\n3\n4\n5\n2\n{1 + i} 0.9 0 0 3 3\n0 0.1 1 0 4 3\n" for i in range(RECORDS)]
    (folder / "windows.txt").write_text("".join(lines))
    param = f'source: "{folder}/windows.txt" batch_size: {BATCH} fg_fraction: 0.5 fg_threshold: 0.5 bg_threshold: 0.5'
    return f'type: "WindowData" window_data_param {{ {param} }} transform_param {{ crop_size: 4 scale: 0.01 }}'


def hdf5(folder):
    with h5py.File(folder / "0.h5", "w") as file:
        file["x"] = PICTURES.astype(np.float32) / 100
        file["label"] = np.arange(RECORDS, dtype=np.float32)
    (folder / "list.txt").write_text(f"{folder}/0.h5\n")
    return f'type: "HDF5Data" hdf5_data_param {{ source: "{folder}/list.txt" batch_size: {BATCH} shuffle: true }}'


def memory(folder):
    return f'type: "MemoryData" memory_data_param {{ batch_size: {BATCH} channels: 3 height: 4 width: 5 }}'


SOURCES = {source.__name__: source for source in (lmdb, listed, windows, hdf5, memory)}
each_source = pytest.mark.parametrize("source", SOURCES)


def text_of(source, folder):
    text = SOURCES[source](folder)
    if source == "windows":  # its scale has a place of its own
        text = text.replace("scale: 0.01", "")
    return f'layer {{ name: "data" top: "x" top: "label" {text} }} {REST}'


def fill(net):
    layer = net.layers[0]
    if layer.type == "MemoryData":
        layer.reset(PICTURES.astype(np.float32) / 100, np.arange(RECORDS, dtype=np.float32))


@pytest.fixture
def make(tmp_path, engine):
    """Makes nets and solvers that read from a source, and closes them at the end."""
    made, texts = [], {}

    def make(source, on_device=True, solver=False):
        text = texts.setdefault(source, text_of(source, tmp_path) if source not in texts else "")
        where = engine if on_device else None
        if solver:
            param = caffe_pb2.SolverParameter(base_lr=0.01, lr_policy="fixed", max_iter=100, random_seed=1)
            prototxt_net = prototxt.parse(text, caffe_pb2.NetParameter)
            param.net_param.CopyFrom(prototxt_net)
            thing = Solver(param, engine=where)
            fill(thing.net)
        else:
            param = prototxt.parse(text, caffe_pb2.NetParameter)
            thing = load_net(param, TRAIN, Context(random=RandomSource(3), engine=where))
            fill(thing)
        made.append(thing)
        return thing

    yield make
    for thing in made:
        thing.close()


def until_ready(net):
    """Give the threads the time to make batches; a net that computes for long never waits for them."""
    prefetcher = getattr(net.layers[0], "prefetcher", None)
    if prefetcher is not None:
        pipe, wanted = prefetcher._pipe, {prefetcher._wanted, prefetcher._wanted + 1}
        with pipe.changed:
            assert pipe.changed.wait_for(lambda: wanted <= set(pipe.ready), timeout=60)


@each_source
def test_batches_are_those_of_the_cpu(source, make):
    here, there = make(source), make(source, on_device=False)
    for _ in range(9):
        losses = [float(net.forward()) for net in (here, there)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
        for name in ("x", "label"):
            np.testing.assert_allclose(here.blobs[name].cpu_data, there.blobs[name].cpu_data, rtol=1e-6)


@each_source
def test_steady_steps_cost_nothing_else(source, make, engine):
    solver = make(source, solver=True)
    for _ in range(4):
        until_ready(solver.net)
        solver.step(1)
    engine.counters.reset()
    for _ in range(6):
        until_ready(solver.net)
        solver.step(1)
    assert asdict(engine.counters) == NOTHING


def run_watched(source, make, engine, monkeypatch, late):
    from tests.gpu.order import Order

    solver = make(source, solver=True)
    order = Order(engine, monkeypatch, late)
    for _ in range(8):
        until_ready(solver.net)
        solver.step(1)
    return order


@pytest.mark.parametrize("late", [False, True], ids=["in_time", "late"])
@each_source
def test_no_batch_is_overwritten_in_use(source, late, make, engine, monkeypatch):
    order = run_watched(source, make, engine, monkeypatch, late)
    assert len(order.copied) == 4  # two places for each of two tops
    # The copies of the next batch stand before the kernels of the present one.
    if source not in ("hdf5", "memory"):
        calls = order.calls
        second = [i for i, call in enumerate(calls) if call == "copy on copy"][2]
        assert second < next(i for i, call in enumerate(calls) if call.startswith("kernel"))


@pytest.mark.parametrize("missing", ["used", "there"])
@pytest.mark.parametrize("source", ["lmdb", "hdf5"])
def test_the_watch_sees_what_goes_wrong(source, missing, make, engine, monkeypatch):
    from caffetools.samples import feed_cu

    class Careless:
        """An event that nobody waits for."""

        def record(self, stream):
            pass

        hold = record

    class Place(feed_cu._Place):
        def __init__(self, *args):
            super().__init__(*args)
            setattr(self, missing, Careless())

    monkeypatch.setattr(feed_cu, "_Place", Place)
    with pytest.raises(AssertionError, match="may disturb"):
        run_watched(source, make, engine, monkeypatch, late=True)


def test_the_watch_sees_a_batch_given_back_too_early(make, engine, monkeypatch):
    from caffetools.samples import ahead_cu

    monkeypatch.setattr(ahead_cu, "wait_for", lambda engine, event: None)
    with pytest.raises(AssertionError, match="host may disturb copy"):
        run_watched("lmdb", make, engine, monkeypatch, late=True)


@pytest.mark.parametrize("source", ["lmdb", "listed"])
def test_a_run_goes_on_at_a_state(source, make):
    net = make(source)
    for _ in range(3):
        net.forward()
    state = net.layers[0].get_state()
    seen = []
    for _ in range(2):
        net.layers[0].set_state(state)
        net.forward()
        seen.append((net.blobs["x"].cpu_data.copy(), net.blobs["label"].cpu_data.tolist()))
        net.forward()
    np.testing.assert_array_equal(seen[0][0], seen[1][0])
    assert seen[0][1] == seen[1][1] == [6, 7]


def test_batches_of_changing_shapes(tmp_path, engine):
    sizes = [(3, 4), (6, 5), (2, 2), (6, 6), (3, 4)]
    with open_db("lmdb", tmp_path / "db", "new") as db:
        for i, size in enumerate(sizes):
            db.put(b"%03d" % i, datum.from_array(np.full((1, *size), i + 1, np.uint8), i).SerializeToString())
    text = f'name: "d" type: "Data" top: "x" data_param {{ source: "{tmp_path}/db" backend: LMDB batch_size: 1 }}'
    param = prototxt.parse(f"layer {{ {text} }}", caffe_pb2.NetParameter)
    net = load_net(param, TRAIN, Context(random=RandomSource(3), engine=engine))
    for i in range(12):
        net.forward()
        x = net.blobs["x"]
        assert x.shape == (1, 1, *sizes[i % 5])
        assert (x.cpu_data == i % 5 + 1).all()
    net.close()


def test_errors_of_the_threads_come_when_their_batch_is_asked_for(tmp_path, engine):
    from caffetools.glog import FatalError

    with open_db("lmdb", tmp_path / "db", "new") as db:
        for i in range(3):
            db.put(b"%03d" % i, datum.from_array(PICTURES[i], i).SerializeToString())
        db.put(b"003", b"\xff")
    text = f'name: "d" type: "Data" top: "x" data_param {{ source: "{tmp_path}/db" backend: LMDB batch_size: 1 }}'
    net = load_net(
        prototxt.parse(f"layer {{ {text} }}", caffe_pb2.NetParameter), TRAIN, Context(engine=engine)
    )
    for _ in range(3):
        net.forward()
    with pytest.raises(FatalError, match="record '003'"):
        net.forward()
    net.close()
