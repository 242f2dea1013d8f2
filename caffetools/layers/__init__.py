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
from caffetools.layers.unread import refuse_unread_settings
from caffetools.proto import caffe_pb2, forks

# A word starts where a capital follows a small letter or a digit, or where a capitalised word follows an acronym of
# two letters or more: InnerProduct, LSTMUnit and HDF5Data have two words; ReLU, PReLU and TanH have one.
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z][a-z0-9])|(?<=[A-Z]{2})(?=[A-Z][a-z])")
_CLASS = re.compile(r"^class (\w+)Layer\(", re.MULTILINE)


def module_name(layer_type: str) -> str:
    """Return the name of the file (without .py) that holds a layer type."""
    return _WORD.sub("_", layer_type).lower()


def built_in_types() -> list[str]:
    """Return the types of this folder, sorted as the original lists them."""
    types = []
    for path in Path(__file__).parent.glob("[a-z]*.py"):
        types += [t for t in _CLASS.findall(path.read_text(encoding="utf-8")) if module_name(t) == path.stem]
    return sorted(types)


def known_types() -> list[str]:
    """Return the types that a prototxt may name: those of this folder and of installed packages."""
    from caffetools.layers.plugins import plugin_types

    return sorted({*built_in_types(), *plugin_types()})


def layer_class(layer_type: str, layer: str = "") -> type[Layer]:
    """Return the class of a layer type. layer: the name of the one that has it, for messages.

    Errors: FatalError for an unknown type, with the nearest known one, or the fork that has it.
    """
    name = f"{__name__}.{module_name(layer_type)}"
    found = None
    if layer_type.isidentifier() and find_spec(name) is not None:
        found = getattr(import_module(name), f"{layer_type}Layer", None)
    if found is None:
        return _plugin(layer_type) or _refuse(layer_type, layer)
    _warn_of_replacement(layer_type)
    return found


def create_layer(param: caffe_pb2.LayerParameter, context: Context) -> Layer:
    """Make the layer that `param` describes; its `setup` is still to be called.

    Errors: FatalError for an unknown type, and for settings that this type does not read.
    """
    glog.info(f"Creating layer {param.name}")
    check_settings(param)
    return layer_class(param.type, param.name)(param, context)


def check_settings(param: caffe_pb2.LayerParameter) -> None:
    """Refuse settings that the layer's type does not read. Errors: FatalError, for an unknown type as well."""
    refuse_unread_settings(layer_class(param.type, param.name), param, types_that_read)


def types_that_read(message: str) -> list[str]:
    """Return the types that a message of settings, such as "convolution_param", is for."""
    return [name for name in built_in_types() if message in layer_class(name).settings()]


def _warn_of_replacement(layer_type: str):
    from caffetools.layers.plugins import warn_of_replacement

    warn_of_replacement(layer_type)


def _plugin(layer_type: str):
    from caffetools.layers.plugins import plugin_class

    return plugin_class(layer_type)


def _refuse(layer_type: str, layer: str):
    types = known_types()
    hint = forks.layer_type_hint(layer_type)
    if hint is None:
        by_lower_case = {known.lower(): known for known in types}
        near = difflib.get_close_matches(layer_type.lower(), by_lower_case, n=1)
        hint = f"did you mean {by_lower_case[near[0]]}?" if near else ""
    # The original's types in its own list, as readers of its logs know it.
    own = [known for known in types if not forks.is_of_a_fork(known)]
    others = [known for known in types if forks.is_of_a_fork(known)]
    glog.fatal(
        f"Check failed: registry.count(type) == 1 (0 vs. 1) Unknown layer type: {layer_type} "
        f"(known types: {', '.join(own)}) (of forks: {', '.join(others)})"
        + (f" {hint}" if hint else "")
        + (f" (layer '{layer}')" if layer else "")
    )
