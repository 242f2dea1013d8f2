"""The flags that `classify` and `detect` share: the trained net, and how pictures are prepared for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from caffetools.cli.flags import flag

Function = TypeVar("Function", bound=Callable[..., Any])

_NET = (
    flag("model_def", "", "the net definition, a text file", pattern="*.prototxt"),
    flag("pretrained_model", "", "its weights", pattern="*.caffemodel*"),
    flag("gpu", False, "compute on the GPU"),
)
_PREPARATION = (
    flag("mean_file", "", "what to subtract: a .npy or .binaryproto file, or numbers for the net's channels"),
    flag("input_scale", "", "what to multiply values with, after the mean"),
    flag("raw_scale", "255.0", "what to multiply values with, before the mean; pictures have values in [0, 1]"),
    flag("channel_swap", "2,1,0", "the order of the channels; 2,1,0 makes RGB BGR"),
    flag("labels_file", "", "the names of the classes, a line each", pattern="*.txt"),
)


def net_flags(function: Function) -> Function:
    """Declare the files of the net, and where it computes."""
    return _declared(function, _NET)


def preparation_flags(function: Function) -> Function:
    """Declare what makes pictures values for the net, the fields of `PictureSettings`, and the names of its classes."""
    return _declared(function, _PREPARATION)


def _declared(function, flags):
    for declare in reversed(flags):
        function = declare(function)
    return function
