"""Settings that are legal and hardly meant are warned of once, before the first iteration; usual ones are not."""

from __future__ import annotations

import re

import h5py
import numpy as np
import pytest

from caffetools.formats.db import open_db
from caffetools.solver.settings import advice
from tests.solver.small_run import NET, lay_out, make_solver


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    return tmp_path


def advice_for(more="", without=()):
    solver = make_solver(more)
    for name in without:
        solver.param.ClearField(name)
    try:
        return list(advice(solver.param, solver.net, solver.test_nets))
    finally:
        solver.close()


@pytest.mark.parametrize(
    "more",
    [
        "",
        'lr_policy: "step" gamma: 0.1 stepsize: 10',
        'lr_policy: "multistep" gamma: 0.1 stepvalue: 10 stepvalue: 20',
        'lr_policy: "poly" power: 1',
        'lr_policy: "cosine" warmup_iter: 5',
        'type: "Adam" momentum2: 0.999',
        "snapshot: 10 clip_gradients: 35 test_iter: 5",
        'early_stop: "accuracy" early_stop_patience: 3 min_delta: 0.1 ema_decay: 0.9 ema_test: false',
        "early_stop_patience: 5 min_lr: 0 ema_test: true",
    ],
)
def test_nothing_to_say(more):
    assert advice_for(more) == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("base_lr: 0", "base_lr is 0: nothing learns"),
        ("base_lr: -1", "a negative rate climbs the loss"),
        ('lr_policy: "step" stepsize: 10', 'lr_policy "step" computes with gamma, which is not set and counts as 0'),
        ('lr_policy: "inv" gamma: 0.1', 'lr_policy "inv" computes with power'),
        ('lr_policy: "multistep" gamma: 0.1', 'lr_policy "multistep" computes with stepvalue'),
        ('lr_policy: "multistep" gamma: 0.1 stepvalue: 20 stepvalue: 10', "the stepvalues do not rise (20, 10)"),
        ('lr_policy: "multistep" gamma: 0.1 stepvalue: 20 stepvalue: 20', "the stepvalues do not rise (20, 20)"),
        ('lr_policy: "multistep" gamma: 0.1 stepvalue: 10 stepvalue: 40', "stepvalue 40 is not below max_iter 40"),
        ('lr_policy: "multistep" gamma: 0.1 stepvalue: 50 stepvalue: 60', "stepvalue 50, 60 are not below max_iter"),
        ('lr_policy: "step" gamma: 0.1 stepsize: 40', "stepsize 40 is not below max_iter 40"),
        ('lr_policy: "step" gamma: 10 stepsize: 4', "gamma is 10: with lr_policy step the learning rate grows"),
        ("warmup_iter: 40", "warmup_iter 40 is not below max_iter 40"),
        ('lr_policy: "cosine" min_lr: 0.1', "min_lr 0.1 is above base_lr 0.05"),
        ("max_iter: 0", "max_iter is 0: no iteration is done"),
        ("snapshot: 100", "snapshot 100 is above max_iter 40: it never comes"),
        ("test_interval: 41", "test_interval 41 is above max_iter 40: it never comes"),
        ("momentum: 1", "momentum is 1: values from 0 to below 1 make sense"),
        ("momentum: -0.9", "momentum is -0.9"),
        ('type: "Adam" momentum2: 1.5', "momentum2 is 1.5"),
        ("weight_decay: -1", "weight_decay is -1: a negative one lets the weights grow"),
        ('ap_version: "11point"', 'ap_version does nothing without eval_type: "detection"'),
        ("clip_gradients: 0", "clip_gradients is 0: all gradients are scaled to nothing"),
        ("decoupled_decay: true weight_decay: 0", "decoupled_decay without weight_decay: nothing decays"),
        ("early_stop_patience: 3", "early_stop_patience does nothing without early_stop"),
        ("min_delta: 0.1", 'min_delta does nothing without early_stop or lr_policy "plateau"'),
        ("warmup_start_lr: 0.01", "warmup_start_lr does nothing without warmup_iter"),
        ("min_lr: 0.001", 'min_lr does nothing without lr_policy "cosine", "plateau" or "poly"'),
        ("plateau_patience: 2", 'plateau_patience does nothing without lr_policy "plateau"'),
        ("ema_test: false", "ema_test does nothing without ema_decay"),
        ("ema_snapshot: false", "ema_snapshot does nothing without ema_decay"),
        ("loss_scale_window: 10", "loss_scale_window does nothing without loss_scale: 0 and half precision"),
        ("log_gradient_norm: true display: 0", "log_gradient_norm does nothing without display"),
        ("stepvalue: 10", 'stepvalue does nothing without lr_policy "multistep"'),
        (
            "test_iter: 3",
            "test_iter 3 of test net #0 sees 24 of the 32 samples of layer 'mnist' (batches of 8): each test takes "
            "others of them; test_iter: 4 covers them",
        ),
    ],
)
def test_said(more, words):
    said = advice_for(more)
    assert len(said) == 1, said
    assert words in said[0]


@pytest.mark.parametrize("without", ["base_lr", "max_iter"])
def test_missing(without):
    assert re.match(f"{without} is (not set|0)", advice_for(without=[without])[0])


def test_prefix_for_the_end_of_the_time():
    said = advice_for('time_limit: "1h" snapshot_after_train: false', without=["snapshot_prefix"])
    assert said == ["time_limit without snapshot_prefix: what is learnt until then is written as _iter_N.caffemodel"]


def test_net_that_does_not_learn(folder):
    frozen = NET.replace('type: "Convolution"', 'type: "Convolution" param { lr_mult: 0 } param { lr_mult: 0 }')
    frozen = frozen.replace('type: "InnerProduct"', 'type: "InnerProduct" param { lr_mult: 0 } param { lr_mult: 0 }')
    (folder / "net.prototxt").write_text(frozen)
    assert "every lr_mult of the net is 0: nothing learns" in advice_for()


def leveldb(count):
    pytest.importorskip("plyvel")
    with open_db("lmdb", "mnist_t10k_lmdb") as source, open_db("leveldb", "t10k_leveldb", "new") as target:
        for key, value in source:
            target.put(key, value)
        target.commit()
    lmdb = 'source: "mnist_t10k_lmdb" batch_size: 8 backend: LMDB'
    return NET.replace(lmdb, 'source: "t10k_leveldb" batch_size: 8 backend: LEVELDB')


def rows(count):
    for name, size in (("a.h5", 20), ("b.h5", count - 20)):
        with h5py.File(name, "w") as file:
            file["data"], file["label"] = np.zeros((size, 1, 24, 24), "f4"), np.zeros(size, "f4")
    with open("list.txt", "w") as file:
        file.write("a.h5\nb.h5\n")
    start = NET.index('layer { name: "mnist" type: "Data" top: "data" top: "label" include { phase: TEST')
    end = NET.index('layer { name: "conv1"')
    layer = """layer { name: "rows" type: "HDF5Data" top: "data" top: "label" include { phase: TEST }
      hdf5_data_param { source: "list.txt" batch_size: 8 } }"""
    return NET[:start] + layer + NET[end:]


@pytest.mark.parametrize(("make", "some"), [(leveldb, "25 or more"), (rows, "32")])
@pytest.mark.parametrize("batches", [3, 4])
def test_other_sources(folder, make, some, batches):
    (folder / "net.prototxt").write_text(make(32))
    said = advice_for(f"test_iter: {batches}")
    assert len(said) == (batches == 3)
    assert all(f"sees 24 of the {some} samples" in sentence for sentence in said)


def test_warned_before_the_first_iteration(capfd):
    solver = make_solver("momentum: 1 test_iter: 3 snapshot_after_train: false max_iter: 5")
    solver.solve()
    solver.close()
    log = capfd.readouterr().err
    warnings = re.findall(r"^W.*\] (.*)", log, re.M)
    assert len(warnings) == 2
    assert log.index(warnings[-1]) < log.index("Iteration 0")
