"""The original's Python interface: `import caffetools.pycaffe as caffe`.

    caffe.set_mode_cpu()
    net = caffe.Net("deploy.prototxt", caffe.TEST, weights="net.caffemodel")
    net.blobs["data"].data[...] = pictures
    probabilities = net.forward()["prob"]

    solver = caffe.get_solver("solver.prototxt")
    solver.step(100)

It shows the nets and solvers of this package as scripts for the original know them. A check that fails, at
which the original ended the process, is an exception here: FatalError, which is a RuntimeError.

`install()` makes `import caffe` mean this package; `python -m caffetools.pycaffe SCRIPT ARGS` runs a script so.
"""

from caffetools import proto
from caffetools.glog import FatalError
from caffetools.layers import known_types as layer_type_list
from caffetools.parts.views import Blob, BlobVec, Layer
from caffetools.proto.caffe_pb2 import TEST, TRAIN
from caffetools.pycaffe import coord_map, draw, io, net_spec
from caffetools.pycaffe.classifier import Classifier
from caffetools.pycaffe.detector import Detector
from caffetools.pycaffe.install import install
from caffetools.pycaffe.logging import init_log, log
from caffetools.pycaffe.mode import set_device, set_mode_cpu, set_mode_gpu, set_random_seed
from caffetools.pycaffe.nccl import NCCL, has_nccl
from caffetools.pycaffe.net import Net
from caffetools.pycaffe.net_spec import NetSpec, layers, params, to_proto
from caffetools.pycaffe.parallel import (
    set_multiprocess,
    set_solver_count,
    set_solver_rank,
    solver_count,
    solver_rank,
)
from caffetools.pycaffe.solver import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    get_solver,
)
from caffetools.pycaffe.timer import Timer

__version__ = "1.0.0"  # of the interface: scripts ask for it

__all__ = [
    "NCCL",
    "TEST",
    "TRAIN",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Blob",
    "BlobVec",
    "Classifier",
    "Detector",
    "FatalError",
    "Layer",
    "NesterovSolver",
    "Net",
    "NetSpec",
    "RMSPropSolver",
    "SGDSolver",
    "Timer",
    "coord_map",
    "draw",
    "get_solver",
    "has_nccl",
    "init_log",
    "install",
    "io",
    "layer_type_list",
    "layers",
    "log",
    "net_spec",
    "params",
    "proto",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
    "to_proto",
]
