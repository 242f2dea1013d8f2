"""Layer types of installed packages: entry points of the group `caffetools.layers`.

A package that declares, in its `pyproject.toml`,

    [project.entry-points."caffetools.layers"]
    MyType = "my_package.my_module:MyClass"

adds the layer type `MyType`. MyClass is either a class like those in this folder (a `caffetools.layer.Layer`)
or one as Python layers have, which finds its settings in `python_param { param_str: "..." }`. The types of
this folder cannot be replaced; a line in the log says where a package tries to.
"""

from __future__ import annotations

import functools
from importlib.metadata import EntryPoint, entry_points

from caffetools import glog
from caffetools.glog import FatalError
from caffetools.layer import Layer
from caffetools.layers.python import UserLayer

GROUP = "caffetools.layers"


@functools.cache
def declared() -> tuple[EntryPoint, ...]:
    """Return the entry points of installed packages, looked for once."""
    return tuple(entry_points(group=GROUP))


def plugin_types() -> list[str]:
    """Return the types that installed packages add."""
    return sorted({entry.name for entry in declared()})


@functools.cache
def warn_of_replacement(layer_type: str) -> None:
    """Say, once, that a package adds a type that is here already, and is not asked for it."""
    for entry in declared():
        if entry.name == layer_type:
            words = f"The layer type {layer_type} of {entry.value} is not used: types of Caffe cannot be replaced"
            glog.warning(words)


@functools.cache
def plugin_class(layer_type: str) -> type[Layer] | None:
    """Return the class of a type that an installed package adds, or None.

    Errors: FatalError where two packages add it, where it cannot be imported, or is no class.
    """
    found = {entry.value: entry for entry in declared() if entry.name == layer_type}
    if not found:
        return None
    if len(found) > 1:
        glog.fatal(f"Several packages add the layer type {layer_type}: {', '.join(sorted(found))}")
    ((value, entry),) = found.items()
    loaded = _load(entry)
    if not isinstance(loaded, type):
        glog.fatal(f"The layer type {layer_type} ({value}) is no class")
    if issubclass(loaded, Layer):
        return loaded
    return type(f"{layer_type}Layer", (UserLayer,), {"user_class": loaded})


def _load(entry: EntryPoint):
    try:
        return entry.load()
    except Exception as err:
        raise FatalError(f"Cannot load the layer type {entry.name} from {entry.value}: {err!r}") from err
