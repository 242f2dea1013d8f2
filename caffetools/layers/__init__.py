"""The layer types: one file each, found by name. To add a type, add a file.

Type `InnerProduct` is class `InnerProductLayer` in `inner_product.py`. Only the types that a net uses are imported.
Types that no file here has are looked for among those that installed packages add (`plugins.py`).
"""

from __future__ import annotations

import difflib
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from caffetools import glog
from caffetools.layer import Context, Layer
from caffetools.proto import caffe_pb2, forks

# A word starts where a capital follows a small letter or a digit, or where a capitalised word follows an acronym of
# two letters or more: InnerProduct, LSTMUnit and HDF5Data have two words; ReLU, PReLU and TanH have one.
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z][a-z0-9])|(?<=[A-Z]{2})(?=[A-Z][a-z])")
_CLASS = re.compile(r"^class (\w+)Layer\(", re.MULTILINE)


def module_name(layer_type: str) -> str:
    """Return the name of the file (without .py) that holds a layer type."""
    return _WORD.sub("_", layer_type).lower()


def known_types() -> list[str]:
    """Return the types that a prototxt may name, sorted as the original lists them."""
    from caffetools.layers.plugins import plugin_types

    types = plugin_types()
    for path in Path(__file__).parent.glob("[a-z]*.py"):
        types += [t for t in _CLASS.findall(path.read_text(encoding="utf-8")) if module_name(t) == path.stem]
    return sorted(set(types))


def layer_class(layer_type: str) -> type[Layer]:
    """Return the class of a layer type.

    Errors: FatalError for an unknown type, with the nearest known one, or the fork that has it.
    """
    name = f"{__name__}.{module_name(layer_type)}"
    found = None
    if layer_type.isidentifier() and find_spec(name) is not None:
        found = getattr(import_module(name), f"{layer_type}Layer", None)
    return found or _plugin(layer_type) or _refuse(layer_type)


def create_layer(param: caffe_pb2.LayerParameter, context: Context) -> Layer:
    """Make the layer that `param` describes; its `setup` is still to be called."""
    glog.info(f"Creating layer {param.name}")
    return layer_class(param.type)(param, context)


def _plugin(layer_type: str):
    from caffetools.layers.plugins import plugin_class

    return plugin_class(layer_type)


def _refuse(layer_type: str):
    types = known_types()
    hint = forks.layer_type_hint(layer_type)
    if hint is None:
        by_lower_case = {known.lower(): known for known in types}
        near = difflib.get_close_matches(layer_type.lower(), by_lower_case, n=1)
        hint = f"did you mean {by_lower_case[near[0]]}?" if near else ""
    glog.fatal(
        f"Check failed: registry.count(type) == 1 (0 vs. 1) Unknown layer type: {layer_type} "
        f"(known types: {', '.join(types)})" + (f" {hint}" if hint else "")
    )
