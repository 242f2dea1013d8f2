"""`caffe warm`: compile the kernels that nets need ahead, so that their first runs do not wait for them.

A net is trained for one step and tested on one batch, of zeros in the shape of its data. Kernels depend on the
types and shapes that a net has, and hardly on the size of a batch: batches of more than MOST_ITEMS are cut to that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from google.protobuf import text_format

from caffetools import glog, graph, upgrade
from caffetools.engine.cpu.jit import compile_notice
from caffetools.formats import prototxt
from caffetools.glog import FatalError, check, info
from caffetools.layer import TEST, TRAIN, Context
from caffetools.layers import layer_class
from caffetools.net import Net
from caffetools.proto import caffe_pb2
from caffetools.samples.boxes import Boxed, BoxTransformer, Draws
from caffetools.samples.transform import WITH_BOXES, Transformer
from caffetools.solver import Solver
from caffetools.tools import net_inputs, summary
from caffetools.tools.free_memory import free_memory
from caffetools.tools.net_inputs import Shapes

#: More items make no difference to the choice of kernels: they fill two vectors of any processor.
MOST_ITEMS = 32
#: The types whose pictures go through a transformer's kernels.
TRANSFORMED = ("AnnotatedData", "Data", "ImageData", "MemoryData")

LENET = """
type: "SGD" base_lr: 0.01 momentum: 0.9 weight_decay: 0.0005 lr_policy: "fixed" test_iter: 1 test_interval: 1
net_param { name: "LeNet"
layer { name: "data" type: "MemoryData" top: "data" top: "label"
  memory_data_param { batch_size: 64 channels: 1 height: 28 width: 28 } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 20 kernel_size: 5 weight_filler { type: "xavier" } } }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
  convolution_param { num_output: 50 kernel_size: 5 weight_filler { type: "xavier" } } }
layer { name: "pool2" type: "Pooling" bottom: "conv2" top: "pool2" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "ip1" type: "InnerProduct" bottom: "pool2" top: "ip1"
  inner_product_param { num_output: 500 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
  inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip2" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }
}
"""


def warm(model: str = "", solver: str = "", models: str = "", shapes: str = "") -> int:
    """Compile what the nets named need, say how long each took, and return how many kernels that were.

    model: a net's prototxt. solver: a solver file, whose update rule and test nets count as well. models: a
    folder whose solvers and other nets are all taken. shapes: those of inputs whose data is not at hand, such as
    "data:64,1,28,28". Without model, solver and models it is LeNet.
    """
    given = net_inputs.parse_shapes(shapes)
    jobs: list[tuple[str, Callable[[], None]]] = []
    if model:
        jobs.append((model, lambda: warm_net(model, given)))
    if solver:
        jobs.append((solver, lambda: warm_solver(upgrade.read_solver(solver), given)))
    for name, job in jobs or ([] if models else [("LeNet", _warm_lenet)]):
        _run(name, job)
    if models:
        _warm_folder(Path(models))
    info(f"Compiled {compile_notice.count} kernels ({compile_notice.place})")
    return compile_notice.count


def _run(name, job):
    before, start = compile_notice.count, time.perf_counter()
    with _quietly():
        job()
    info(f"{name}: {compile_notice.count - before} kernels compiled in {time.perf_counter() - start:.1f} s")


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep what nets tell about themselves out of the log."""
    level = glog.flags.minloglevel
    glog.flags.minloglevel = max(level, glog.ERROR)
    try:
        yield
    finally:
        glog.flags.minloglevel = level


def _warm_lenet():
    warm_solver(text_format.Parse(LENET, caffe_pb2.SolverParameter()), {"data": (64, 1, 28, 28)})


def _warm_folder(folder):
    """Take every solver below a folder and every net that no solver names; go on after one that cannot be built."""
    files = sorted(folder.rglob("*.prototxt"))
    check(files, "files.size() > 0", f"--models={folder}: there is no prototxt in this folder")
    solvers = [path for path in files if "solver" in path.name]
    trained = {Path(upgrade.read_solver(path).net).name for path in solvers}
    for path in files:
        try:
            if path in solvers:
                given = _shapes_beside(path)
                _run(path, lambda path=path, given=given: warm_solver(upgrade.read_solver(path), given))
            elif path.name not in trained:
                _run(path, lambda path=path: warm_net(path, {}))
        except FatalError as err:
            glog.warning(f"{path}: left out. {err}")


def _shapes_beside(path):
    """Return the shapes of the inputs of the nets in a file's folder: those for use have no data layers."""
    shapes: Shapes = {}
    for other in sorted(path.parent.glob("*.prototxt")):
        if "solver" not in other.name:
            for layer in prototxt.read(other, caffe_pb2.NetParameter).layer:
                if layer.type == "Input":
                    dims = [tuple(shape.dim) for shape in layer.input_param.shape]
                    shapes |= dict(zip(layer.top, dims, strict=False))
    return shapes


def warm_net(path: str | Path, given: Shapes) -> None:
    """Train a net that has a loss for a step of SGD, and run it in the TEST phase.

    given: shapes of inputs that are not at hand.
    """
    param = upgrade.read_net_text(path)
    if any(layer.loss_weight or layer_class(layer.type).is_loss for layer in param.layer):
        solver = caffe_pb2.SolverParameter(
            type="SGD", base_lr=0.01, momentum=0.9, lr_policy="fixed", test_iter=[1], test_interval=1
        )
        solver.net_param.CopyFrom(param)
        warm_solver(solver, given)
    else:
        net = Net(_made_up(param, TEST, caffe_pb2.NetState(), given), Context(), plan=True)
        net.forward()
        net.close()


def warm_solver(param: caffe_pb2.SolverParameter, given: Shapes) -> None:
    """Test and train one step of what a solver file describes. given: as in `warm_net`."""
    name = next(
        (name for name in ("net", "train_net", "net_param", "train_net_param") if param.HasField(name)), ""
    )
    check(name, "num_train_nets >= 1", "The solver file names no net to train.")
    made_up = caffe_pb2.SolverParameter()
    made_up.CopyFrom(param)
    for field in ("net", "net_param", "train_net", "test_net", "test_net_param", "train_state", "test_state",
                  "weights", "snapshot", "snapshot_prefix", "test_iter", "display"):  # fmt: skip
        made_up.ClearField(field)
    made_up.train_net_param.CopyFrom(_made_up(_read(getattr(param, name)), TRAIN, param.train_state, given))
    for i, source in enumerate(_test_sources(param)):
        state = param.test_state[i] if param.test_state else caffe_pb2.NetState()
        made_up.test_net_param.append(_made_up(_read(source), TEST, state, given))
        made_up.test_iter.append(1)
    made_up.test_initialization = True
    made_up.stop_on_nan = False
    made_up.random_seed = 1
    solver = Solver(made_up, plan=True)  # as `caffe train` does
    try:
        solver.step(1)
    finally:
        solver.close()


def _test_sources(param):
    explicit = [*param.test_net_param, *param.test_net]
    generic = param.net if param.HasField("net") else param.net_param if param.HasField("net_param") else None
    return explicit + [generic] * max(0, len(param.test_iter) - len(explicit))


def _read(source):
    return (
        upgrade.read_net_text(source) if isinstance(source, str) else upgrade.upgrade_net(source, "net_param")
    )


def _made_up(param, phase, state, given) -> caffe_pb2.NetParameter:
    """Return the net of a phase with zeros for data; the kernels that would have made its data are compiled here."""
    net = caffe_pb2.NetParameter()
    net.CopyFrom(param)
    merged = caffe_pb2.NetState(phase=phase)
    merged.MergeFrom(param.state)
    merged.MergeFrom(state)
    net.state.CopyFrom(merged)
    net = graph.filter_net(net)
    tops = {top for layer in net.layer if not layer.bottom for top in layer.top}
    known = net_inputs.with_inputs(net, {top: shape for top, shape in given.items() if top in tops})
    for layer, source in zip(known.layer, net.layer, strict=True):
        if source.type in TRANSFORMED:
            _transform(source, tuple(layer.input_param.shape[0].dim), phase)
    batch, free = min(MOST_ITEMS, net_inputs.batch_size(known)), free_memory()
    largest = summary.largest_batch(summary.Definition(known), free // 2) if free else None
    known = net_inputs.with_batch(known, max(1, min(batch, largest or batch)))
    for layer, source in zip(known.layer, net.layer, strict=True):
        if source.type == "AnnotatedData":
            _leave_out_boxes(layer)
    return known


def _leave_out_boxes(layer):
    """Fill the second input with -1, which stands for no boxes: zeros would be some of the background."""
    param = caffe_pb2.DummyDataParameter(shape=layer.input_param.shape)
    param.data_filler.add(value=0)
    param.data_filler.add(value=-1)
    layer.ClearField("input_param")
    layer.type = "DummyData"
    layer.dummy_data_param.CopyFrom(param)


def _transform(layer, shape, phase):
    """Transform some made-up pictures as a data layer would, into items of this shape."""
    param = caffe_pb2.TransformationParameter()
    param.CopyFrom(layer.transform_param)
    param.ClearField("mean_file")  # the same kernel subtracts numbers
    if layer.type == "AnnotatedData":
        _vary(layer)
        for name in WITH_BOXES:
            param.ClearField(name)
    transformer = Transformer(param, phase, np.float32, np.uint64(1))
    channels, height, width = shape[1:]
    out = np.empty((2, channels, height, width), np.float32)
    pictures = [np.zeros((channels, height, width), np.uint8)] * len(out)
    shapes = [picture.shape for picture in pictures]
    transformer.transform(shapes, pictures, np.dtype(np.uint8), np.arange(len(out), dtype=np.uint64), out)


def _vary(layer):
    """Vary a made-up picture with a box, often enough that every step has its turn."""
    picture = np.arange(3 * 24 * 24, dtype=np.uint8).reshape(3, 24, 24)
    boxed = Boxed(picture, np.array([[0.2, 0.2, 0.7, 0.7]]), np.zeros((1, 3)))
    transformer = BoxTransformer(layer.transform_param, layer.annotated_data_param.batch_sampler, layer.name)
    for seed in range(16):
        transformer.apply(boxed, Draws(seed))
