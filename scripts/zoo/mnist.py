"""Two more nets for MNIST: a deep autoencoder and a siamese net. LeNet, the third, is written by hand."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.zoo.definition import Definition, Params, gaussian, solver

TRAIN_DB, TEST_DB = "models/lenet/mnist_train_lmdb", "models/lenet/mnist_test_lmdb"

AUTOENCODER = "models/mnist_autoencoder"
#: Units of the encoder's layers; the decoder mirrors them.
CODE_SIZES = (1000, 500, 250, 30)

SIAMESE = "models/mnist_siamese"


def files() -> Iterator[tuple[str, str]]:
    yield "mnist_autoencoder/mnist_autoencoder.prototxt", autoencoder(training=True)
    yield "mnist_autoencoder/deploy.prototxt", autoencoder(training=False)
    for name, (words, rule) in RULES.items():
        yield (
            f"mnist_autoencoder/mnist_autoencoder_solver{name}.prototxt",
            autoencoder_solver(name, words, rule),
        )
    yield "mnist_siamese/mnist_siamese_train_test.prototxt", siamese_train_test()
    yield "mnist_siamese/mnist_siamese.prototxt", siamese_deploy()
    yield "mnist_siamese/mnist_siamese_solver.prototxt", SIAMESE_SOLVER


def autoencoder(training: bool) -> str:
    """Encode a picture of 784 pixels as 30 numbers, and paint it again from these."""
    comment = (
        "A deep autoencoder: a digit becomes 30 numbers (encode4), these the digit again (decode1neuron)."
    )
    if training:
        comment += "\nTwo test nets measure the error, on training and on test pictures."
        comment += "\nPaths start at the checkout's root."
    net = Definition(
        "MNISTAutoencoder",
        comment,
        params=({"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 1, "decay_mult": 0}),
        # Sparse: a unit starts with about 15 inputs, however many there are.
        weights=gaussian(1, sparse=15),
    )
    if training:
        scale = 0.0039215684  # 1/255: grey levels become numbers from 0 to 1
        for source, phase, stages in (
            (TRAIN_DB, "TRAIN", ()),
            (TRAIN_DB, "TEST", ("test-on-train",)),
            (TEST_DB, "TEST", ("test-on-test",)),
        ):
            x = net.data(source, 100, phase, tops=["data"], stages=stages, scale=scale)
    else:
        x = net.input("data", 100, 1, 28, 28)
    flat = x = net.layer("Flatten", "flatdata", x)
    for i, units in enumerate(CODE_SIZES, 1):
        x = net.inner_product(f"encode{i}", x, units)
        if units != CODE_SIZES[-1]:  # the code itself is linear
            x = net.layer("Sigmoid", f"encode{i}neuron", x)
    for i, units in zip(range(len(CODE_SIZES), 0, -1), (*CODE_SIZES[-2::-1], 28 * 28), strict=True):
        x = net.inner_product(f"decode{i}", x, units)
        if i > 1:
            x = net.layer("Sigmoid", f"decode{i}neuron", x)
    if training:
        net.layer("SigmoidCrossEntropyLoss", "loss", (x, flat), "cross_entropy_loss", loss_weight=[1])
    x = net.layer("Sigmoid", "decode1neuron", x)
    if training:
        net.remark("Reported, not minimised.")
        net.layer("EuclideanLoss", "l2_error", (x, flat), loss_weight=[0])
    return net.text()


RULES = {
    "": (
        "Stochastic gradient descent; the rate falls to a tenth every 10,000 iterations.",
        {"base_lr": 0.01, "lr_policy": "step", "gamma": 0.1, "stepsize": 10_000, "momentum": 0.9},
    ),
    "_adadelta": (
        "AdaDelta finds its rates itself: base_lr is a plain factor.",
        {"type": "AdaDelta", "base_lr": 1, "lr_policy": "fixed", "momentum": 0.95, "delta": 1e-8},
    ),
    "_adagrad": (
        "AdaGrad: a weight's rate falls with the gradients that it has seen.",
        {"type": "AdaGrad", "base_lr": 0.01, "lr_policy": "fixed"},
    ),
    "_nesterov": (
        "Nesterov's momentum; the rate falls to a tenth every 10,000 iterations.",
        {
            "type": "Nesterov",
            "base_lr": 0.01,
            "lr_policy": "step",
            "gamma": 0.1,
            "stepsize": 10_000,
            "momentum": 0.95,
        },
    ),
}


def autoencoder_solver(name: str, words: str, rule: dict[str, object]) -> str:
    path = f"{AUTOENCODER}/mnist_autoencoder"
    return solver(
        (
            "Trains the MNIST autoencoder, from the checkout's root:\n"
            f"caffe train --solver={path}_solver{name}.prototxt",
            {"net": f"{path}.prototxt"},
        ),
        (
            "The first test net sees 50,000 training pictures, the second all 10,000 test pictures.",
            {
                "test_state": [{"stage": ["test-on-train"]}, {"stage": ["test-on-test"]}],
                "test_iter": [500, 100],
                "test_interval": 500,
                "test_compute_loss": True,
            },
        ),
        (words, {**rule, "weight_decay": 0.0005}),
        ("65,000 batches of 100: the 60,000 pictures about 108 times.", {"max_iter": 65_000, "display": 100}),
        ("", {"snapshot": 10_000, "snapshot_prefix": path + name, "solver_mode": "CPU"}),
    )


def branch(net: Definition, data: str, suffix: str, shared: bool) -> str:
    """Map a digit to a point of the plane, with LeNet's layers up to the last. suffix: of names.

    shared: give the parameters names, by which the two branches have them in common.
    """

    def params(name: str) -> Params:
        names = ({"name": f"{name}_w"}, {"name": f"{name}_b"}) if shared else ({}, {})
        return tuple({**own, "lr_mult": rate} for own, rate in zip(names, (1, 2), strict=True))

    x = net.convolution(f"conv1{suffix}", data, 20, 5, params=params("conv1"))
    x = net.max_pool(f"pool1{suffix}", x, 2, 2)
    x = net.convolution(f"conv2{suffix}", x, 50, 5, params=params("conv2"))
    x = net.max_pool(f"pool2{suffix}", x, 2, 2)
    x = net.relu(f"relu1{suffix}", net.inner_product(f"ip1{suffix}", x, 500, params=params("ip1")))
    x = net.inner_product(f"ip2{suffix}", x, 10, params=params("ip2"))
    return net.inner_product(f"feat{suffix}", x, 2, params=params("feat"))


def siamese_train_test() -> str:
    net = Definition(
        "mnist_siamese_train_test",
        "Two branches with the same weights, one for each picture of a pair: the loss pulls pairs of one\n"
        "digit together and pushes others apart. Paths start at the checkout's root.",
    )
    for part, phase, batch in (("train", "TRAIN", 64), ("test", "TEST", 100)):
        net.data(
            f"{SIAMESE}/mnist_siamese_{part}_leveldb",
            batch,
            phase,
            tops=("pair_data", "sim"),
            name="pair_data",
            backend="LEVELDB",
            scale=0.00390625,
        )
    net.layer(
        "Slice", "slice_pair", "pair_data", ("data", "data_p"), slice_param={"axis": 1, "slice_point": [1]}
    )
    features = branch(net, "data", "", shared=True), branch(net, "data_p", "_p", shared=True)
    net.layer("ContrastiveLoss", "loss", (*features, "sim"), contrastive_loss_param={"margin": 1})
    return net.text()


def siamese_deploy() -> str:
    net = Definition("mnist_siamese", "One branch, as it is used once trained: `feat` is a digit's place.")
    branch(net, net.input("data", 100, 1, 28, 28), "", shared=False)
    return net.text()


SIAMESE_SOLVER = solver(
    (
        "Trains the siamese net, from the checkout's root:\n"
        f"caffe train --solver={SIAMESE}/mnist_siamese_solver.prototxt",
        {"net": f"{SIAMESE}/mnist_siamese_train_test.prototxt"},
    ),
    (
        "All 10,000 test pairs (100 batches of 100), each 500 iterations.",
        {"test_iter": [100], "test_interval": 500},
    ),
    (
        "Stochastic gradient descent; the rate falls as base_lr * (1 + gamma * iteration) ^ -power.",
        {
            "base_lr": 0.01,
            "lr_policy": "inv",
            "gamma": 0.0001,
            "power": 0.75,
            "momentum": 0.9,
            "weight_decay": 0,
        },
    ),
    ("50,000 batches of 64: the 60,000 pairs about 53 times.", {"max_iter": 50_000, "display": 100}),
    ("", {"snapshot": 5000, "snapshot_prefix": f"{SIAMESE}/mnist_siamese", "solver_mode": "CPU"}),
)
