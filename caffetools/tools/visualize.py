"""`caffe visualize`: a layer's filters, and what it makes of a picture."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import numpy as np

from caffetools import graph, upgrade
from caffetools.formats import blob as blob_format
from caffetools.formats import hdf5, image
from caffetools.formats.files import read_bytes
from caffetools.glog import check_gt, fatal
from caffetools.layer import TEST, Context
from caffetools.net import Net, load_net
from caffetools.net import weights as net_weights
from caffetools.pictures import layer_view, style
from caffetools.pictures.layer_view import LayerView
from caffetools.proto import caffe_pb2
from caffetools.samples.resize import resize
from caffetools.samples.transform import read_mean
from caffetools.tools import net_inputs


def visualize(
    weights: str,
    layer: str,
    model: str = "",
    output: str = "",
    picture: str = "",
    mean: str = "",
    scale: str = "",
    by_norm: bool = False,
) -> Path:
    """Draw a layer of a trained net and return the picture's path.

    weights: a caffemodel, or .h5 file. output: by default the layer's name with .png, in the current folder.
    picture: a picture file; with it the net of the prototxt `model` is run on it, and the layer's activations are
    drawn. mean, scale: what is subtracted from the picture's values from 0 to 255 (numbers, comma-separated, for
    each channel in the order blue, green, red, or a .binaryproto file) and what they are multiplied by then; where
    they are empty, what the net's data layer says. by_norm: draw filters by their norms over the input channels.

    Errors: FatalError for a layer that is not there or has nothing to show, and for files that cannot be read.
    """
    check_gt(len(weights), 0, "FLAGS_weights.size() > 0", "Need model weights to visualize.")
    check_gt(len(layer), 0, "FLAGS_layer.size() > 0", "Need the name of a layer to visualize.")
    path = style.check_path(output or f"{layer.replace('/', '_')}.png")
    style.need_matplotlib()
    if picture and not model:
        fatal("--image needs the net to run on it: give its prototxt with --model")
    blobs = read_blobs(weights)
    view = LayerView(layer, by_norm=by_norm)
    parameters = blobs.get(layer, [])
    if parameters:
        view.weights = parameters[0]
        if len(parameters) == 2 and parameters[1].size == parameters[0].shape[0]:
            view.bias = parameters[1].reshape(-1)
    if picture:
        view.picture, view.activations = activations(model, weights, layer, picture, mean, scale)
    elif layer not in blobs:
        _refuse_name(layer, blobs, f"a layer of {weights}")
    elif not parameters:
        having = ", ".join(name for name, its in blobs.items() if its)
        fatal(f"layer '{layer}' has no weights; give --image to see its activations (with weights: {having})")
    with style.look():
        style.save(layer_view.draw(view), path)
    return path


def read_blobs(path: str) -> dict[str, list[np.ndarray]]:
    """Return the parameters of the layers of a caffemodel or an HDF5 file, in the order of the net.

    Matrices that old files keep as (1, 1, rows, columns) are matrices here.
    """
    if path.endswith(".h5"):
        layers = {name: [its[i] for i in sorted(its)] for name, its in hdf5.read_net(path).items()}
    else:
        param = upgrade.read_net_binary(path)
        layers = {layer.name: [blob_format.to_array(blob) for blob in layer.blobs] for layer in param.layer}
    return {name: [_without_legacy_axes(blob) for blob in blobs] for name, blobs in layers.items()}


def activations(
    model: str, weights: str, layer: str, picture: str, mean: str = "", scale: str = ""
) -> tuple[np.ndarray, np.ndarray]:
    """Run a net on a picture up to a layer.

    Return the picture as the net's input sizes it, uint8 (channels, height, width), and the layer's first top
    without the batch axis. Arguments and errors are those of `visualize`.
    """
    param = upgrade.read_net_text(model)
    param.state.phase = TEST
    filtered = graph.filter_net(param)
    known = net_inputs.with_batch(net_inputs.with_inputs(filtered, {}), 1)
    net = load_net(known, TEST, Context())
    try:
        if layer not in net.layer_index:
            _refuse_name(
                layer, (name for name in net.layer_names if "_split" not in name), f"a layer of {model}"
            )
        net_weights.copy_from(net, weights)
        blob = _input_blob(net, model)
        _, channels, height, width = blob.shape
        pixels = resize(_read_picture(picture, channels), height, width)
        blob.data[0] = _transform(pixels, _data_transform(filtered), mean, scale)
        index = net.layer_index[layer]
        net.forward(0, index)
        if not net.tops[index]:
            fatal(f"layer '{layer}' has no top, so it has no activations")
        values = net.tops[index][0].data
        return pixels, np.array(values[0] if values.ndim else values.reshape(1))
    finally:
        net.close()


def _without_legacy_axes(array: np.ndarray) -> np.ndarray:
    if array.ndim == 4 and array.shape[:2] == (1, 1):
        return array[0, 0, 0] if array.shape[2] == 1 else array[0, 0]
    return array


def _input_blob(net: Net, model: str):
    for index, layer in enumerate(net.layers):
        for blob in net.tops[index] if layer.type == "Input" else ():
            if len(blob.shape) == 4 and blob.shape[1] in (1, 3):
                return blob
    fatal(f"{model} has no input that takes a picture: one of 1×C×H×W with one or three channels")


def _data_transform(param: caffe_pb2.NetParameter) -> caffe_pb2.TransformationParameter:
    """Return the transform_param of the first layer that brings data."""
    for layer in param.layer:
        if not layer.bottom:
            return layer.transform_param
    return caffe_pb2.TransformationParameter()


def _read_picture(path: str, channels: int) -> np.ndarray:
    return image.decode(read_bytes(path), color=channels == 3)


def _transform(
    pixels: np.ndarray, param: caffe_pb2.TransformationParameter, mean: str, scale: str
) -> np.ndarray:
    """Return (pixels - mean) * scale, by the flags or else by the data layer."""
    values = pixels.astype(np.float32)
    if mean or param.mean_value or param.HasField("mean_file"):
        if mean:
            values -= _mean(mean, pixels.shape, "--mean")
        elif param.HasField("mean_file"):
            values -= _mean(param.mean_file, pixels.shape, "mean_file")
        else:
            values -= _channels(list(param.mean_value), len(pixels), "mean_value")
    return values * np.float32(_number(scale) if scale else param.scale)


def _mean(text: str, shape: tuple[int, ...], flag: str) -> np.ndarray:
    if not os.path.isfile(text):
        try:
            numbers = [float(part) for part in text.split(",")]
        except ValueError:
            fatal(f"{flag}={text}: neither a file nor numbers such as 104,117,123")
        return _channels(numbers, shape[0], flag)
    picture = read_mean(text, np.dtype(np.float32))
    channels, height, width = shape
    top, left = (picture.shape[1] - height) // 2, (picture.shape[2] - width) // 2
    if picture.shape[0] != channels or top < 0 or left < 0:
        fatal(f"{flag}={text}: a mean of shape {picture.shape} does not fit the net's input {shape}")
    return picture[:, top : top + height, left : left + width]


def _channels(numbers: list[float], channels: int, flag: str) -> np.ndarray:
    if len(numbers) not in (1, channels):
        fatal(f"{flag}: {len(numbers)} numbers for {channels} channels; give one, or one for each")
    return np.array(numbers, np.float32).reshape(-1, 1, 1)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        fatal(f"--scale={text} is no number")


def _refuse_name(name: str, names: Iterable[str], what: str) -> NoReturn:
    names = list(names)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(names)}"
    fatal(f"'{name}' is not {what}: {hint}")
