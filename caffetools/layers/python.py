"""Python: a layer whose class a user wrote, in a module of their own.

    layer { type: "Python" python_param { module: "my_layers" layer: "MyLayer" param_str: "..." } }

`module` is looked for as by any import (PYTHONPATH), and at last in the current directory. `layer` is a class
in it: a subclass of `caffetools.pycaffe.Layer`, or any class with setup, reshape, forward and backward (it
has no gradient without backward). It works on NumPy arrays, and may hand them to kernels compiled by numba.
A loss needs `loss_weight: 1`.

Code of a module that a prototxt names runs for this layer type only, when the net is built. Whoever runs a
prototxt with Python layers runs the code that it names.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback

import caffetools
from caffetools import glog
from caffetools.glog import FatalError
from caffetools.layer import Layer
from caffetools.parts import views

# Where frames of a traceback lie that say nothing about a user's code: here, and in the machinery of imports.
NOT_USERS = (os.path.dirname(caffetools.__file__) + os.sep, importlib.__path__[0] + os.sep, "<frozen ")

METHODS = ("setup", "reshape", "forward")


class UserLayer(Layer):
    """Runs an object of `user_class`, and shows it the blobs as `caffetools.parts.views` does."""

    reads = ("python_param",)
    reshape_every_forward = True
    remembers_blobs = True
    user_class: type

    def __init__(self, param, context):
        super().__init__(param, context)
        missing = [name for name in METHODS if not callable(getattr(self.user_class, name, None))]
        if missing:
            glog.fatal(f"The {self._class} of layer '{self.name}' lacks the method {missing[0]}")
        self.user = self._call(self._make)

    def _make(self):
        user = self.user_class(self.param) if issubclass(self.user_class, views.Layer) else self.user_class()
        user.param_str = self.param.python_param.param_str
        user.phase = self.phase
        user.type = self.type
        user.blobs = views.BlobVec(self.blobs, self.context.blob)
        return user

    def setup(self, bottom, top):
        if self.param.python_param.share_in_parallel and self.context.ranks > 1:
            glog.fatal(
                f"share_in_parallel would have no effect: each of the {self.context.ranks} processes has a layer of "
                f"its own. Remove it (layer '{self.name}')"
            )
        self.bottom_views = [views.Blob(blob) for blob in bottom]
        self.top_views = [views.Blob(blob) for blob in top]
        self._call(self.user.setup, self.bottom_views, self.top_views)

    def reshape(self, bottom, top):
        self._call(self.user.reshape, self.bottom_views, self.top_views)

    def forward(self, bottom, top):
        self._call(self.user.forward, self.bottom_views, self.top_views)

    def backward(self, top, propagate_down, bottom):
        if hasattr(self.user, "backward"):
            self._call(self.user.backward, self.top_views, list(propagate_down), self.bottom_views)
        else:
            super().backward(top, propagate_down, bottom)

    def _call(self, method, *arguments):
        try:
            return method(*arguments)
        except Exception as err:
            name = "__init__" if method == self._make else method.__name__
            words = f"Layer '{self.name}' ({self._class}) failed in {name}: {_user_part(err)}"
            raise FatalError(words) from err

    @property
    def _class(self):
        return f"class {self.user_class.__name__} of module {self.user_class.__module__}"


class PythonLayer(UserLayer):
    def __init__(self, param, context):
        self.user_class = find_class(param.python_param.module, param.python_param.layer, param.name)
        super().__init__(param, context)


def find_class(module: str, name: str, layer: str) -> type:
    """Import a module and return a class of it, for the layer of the name `layer`.

    Errors: FatalError for fields that are not given, a module that is not there or fails when it is imported,
    and a class that is not in it.
    """
    if not (module and name):
        glog.fatal(f"python_param needs a module and a layer, a class in it (layer '{layer}')")
    here = os.getcwd()
    if here not in sys.path:
        # At the end, so that a file here takes no other module's place.
        sys.path.append(here)
    try:
        found = importlib.import_module(module)
    except Exception as err:
        words = f"Cannot import module {module} of layer '{layer}': {_user_part(err)}"
        if isinstance(err, ModuleNotFoundError) and err.name == module.partition(".")[0]:
            words += f" (it must lie in {here} or in a folder of PYTHONPATH)"
        raise FatalError(words) from err
    user_class = getattr(found, name, None)
    if not isinstance(user_class, type):
        classes = [key for key, value in vars(found).items() if isinstance(value, type)]
        near = difflib.get_close_matches(name, classes, n=1)
        hint = f", did you mean {near[0]}?" if near else ""
        glog.fatal(f"Module {module} ({found.__file__}) has no class {name}{hint} (layer '{layer}')")
    return user_class


def _user_part(err: Exception) -> str:
    """Return the text of an error and the lines of its traceback that are a user's."""
    frames = [
        frame for frame in traceback.extract_tb(err.__traceback__) if not frame.filename.startswith(NOT_USERS)
    ]
    text = "".join(traceback.format_exception_only(type(err), err)).strip()
    return "\n".join([text, *(line.rstrip() for line in traceback.format_list(frames))])
