"""`import caffe` for scripts that were written for the original."""

from __future__ import annotations

import sys
from importlib import import_module

from caffetools.glog import fatal

#: Modules that scripts import, and where they are here.
MODULES = {
    "caffe": "caffetools.pycaffe",
    "caffe._caffe": "caffetools.pycaffe",
    "caffe.pycaffe": "caffetools.pycaffe",
    "caffe.classifier": "caffetools.pycaffe.classifier",
    "caffe.coord_map": "caffetools.pycaffe.coord_map",
    "caffe.detector": "caffetools.pycaffe.detector",
    "caffe.draw": "caffetools.pycaffe.draw",
    "caffe.io": "caffetools.pycaffe.io",
    "caffe.net_spec": "caffetools.pycaffe.net_spec",
    "caffe.proto": "caffetools.proto",
    "caffe.proto.caffe_pb2": "caffetools.proto.caffe_pb2",
}


def install() -> None:
    """Make `import caffe`, and all that scripts import from it, mean this package, in this process.

    Errors: FatalError where another package of the name has been imported already.
    """
    other = sys.modules.get("caffe")
    modules = {name: import_module(target) for name, target in MODULES.items()}
    if other not in (None, modules["caffe"]):
        place = getattr(other, "__file__", None) or "the running program"
        fatal(f"Another module caffe has been imported already, from {place}: call install() before it is")
    sys.modules.update(modules)
