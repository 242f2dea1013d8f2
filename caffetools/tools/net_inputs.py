"""Passes that give a net inputs of known shapes, so that it can be built without its data."""

from __future__ import annotations

from caffetools.blob import Blob
from caffetools.glog import FatalError, fatal
from caffetools.layer import Context
from caffetools.layers import check_settings, create_layer
from caffetools.proto import caffe_pb2

Shapes = dict[str, tuple[int, ...]]

#: Where the layers that read data keep their batch size.
BATCH_SIZE_IN = {
    "AnnotatedData": "data_param",
    "Data": "data_param",
    "HDF5Data": "hdf5_data_param",
    "ImageData": "image_data_param",
    "MemoryData": "memory_data_param",
    "WindowData": "window_data_param",
}
#: Those that hold more batches than the net sees.
READ_AHEAD = ("AnnotatedData", "Data", "ImageData", "WindowData")


def parse_shapes(text: str) -> Shapes:
    """Read shapes from text such as `data:64,3,227,227,label:64`."""
    shapes: dict[str, list[int]] = {}
    name = ""
    for part in text.split(",") if text else ():
        before, colon, size = part.rpartition(":")
        name = before if colon else name
        if not name or not (size.isascii() and size.isdigit()) or int(size) == 0:
            fatal(
                f"--input={text}: cannot read '{part}'; names and sizes look like data:64,3,227,227,label:64"
            )
        shapes.setdefault(name, []).append(int(size))
    return {name: tuple(sizes) for name, sizes in shapes.items()}


def with_inputs(param: caffe_pb2.NetParameter, given: Shapes) -> caffe_pb2.NetParameter:
    """Return a filtered net with Input layers in place of all layers that bring data.

    given: shapes by the names of tops. A layer with no top among them is asked itself, which may open its
    database but reads a few records only. Errors: FatalError for names that are no such tops, for settings that
    a layer does not read, and for data that is not there, with the way out.
    """
    result = caffe_pb2.NetParameter()
    result.CopyFrom(param)
    sources = [layer for layer in result.layer if not layer.bottom and layer.type != "Parameter"]
    tops = [top for layer in sources for top in layer.top]
    for name in given:
        if name not in tops:
            fatal(f"--input: the net has no input '{name}' (it has {', '.join(tops) or 'none'})")
    for layer in sources:
        check_settings(layer)
        shapes = _shapes(layer, given, param.state.phase)
        known = caffe_pb2.LayerParameter(name=layer.name, type="Input", top=layer.top)
        known.input_param.shape.extend(caffe_pb2.BlobShape(dim=shape) for shape in shapes)
        layer.CopyFrom(known)
    return result


def batches_ahead(param: caffe_pb2.NetParameter) -> dict[str, int]:
    """Return how many batches the data layers of a net hold beyond the one that it sees, by their names."""
    # prefetch stands in data_param, whatever the type.
    return {layer.name: layer.data_param.prefetch for layer in param.layer if layer.type in READ_AHEAD}


def batch_size(param: caffe_pb2.NetParameter) -> int:
    """Return the first size of the first input; 0 where there is none."""
    for shape in _input_shapes(param):
        if shape.dim:
            return shape.dim[0]
    return 0


def with_batch(param: caffe_pb2.NetParameter, batch: int) -> caffe_pb2.NetParameter:
    """Return the net with another batch size: in all inputs that had the first one's."""
    result = caffe_pb2.NetParameter()
    result.CopyFrom(param)
    old = batch_size(param)
    for shape in _input_shapes(result):
        if shape.dim and shape.dim[0] == old:
            shape.dim[0] = batch
    return result


def _input_shapes(param):
    return [shape for layer in param.layer if layer.type == "Input" for shape in layer.input_param.shape]


def _shapes(layer, given, phase):
    known = [given.get(top) for top in layer.top]
    if not any(known):
        return _own_shapes(layer, phase)
    items = next(shape[0] for shape in known if shape)
    return [shape or (items,) for shape in known]


def _own_shapes(layer, phase):
    """Find out the shapes of a layer's tops, with batches of one item where it reads data."""
    place = BATCH_SIZE_IN.get(layer.type)
    if place is None:
        return _ask(layer, phase)
    batch = getattr(layer, place).batch_size
    transform = layer.transform_param
    if transform.crop_size and len(transform.mean_value) > 1:
        # The crop and a mean for each channel tell it all.
        classes = transform.augmentation.mixup.classes
        items = [(len(transform.mean_value), transform.crop_size, transform.crop_size), (classes,) * bool(classes)]
        return [(batch, *item) for item in items[: len(layer.top)]]
    probe = caffe_pb2.LayerParameter()
    probe.CopyFrom(layer)
    getattr(probe, place).batch_size = min(batch, 1)
    if layer.type in READ_AHEAD:
        probe.data_param.prefetch = 1
    try:
        return [(batch, *shape[1:]) for shape in _ask(probe, phase)]
    except FatalError as err:
        sides = f"{transform.crop_size},{transform.crop_size}" if transform.crop_size else "H,W"
        where = "" if f"'{layer.name}'" in str(err) else f" (layer '{layer.name}')"
        fatal(
            f"{err}{where}. To see the net without its data, say the shape: "
            f"--input={layer.top[0]}:{batch},C,{sides} with the numbers of channels and pixels"
        )


def _ask(layer_param, phase):
    """Set a layer up, and return the shapes of its tops."""
    layer_param.phase = phase
    layer = create_layer(layer_param, Context(phase, fill=False))
    tops = [Blob() for _ in layer_param.top]
    try:
        layer.check_blob_counts([], tops)
        layer.setup([], tops)
        layer.reshape([], tops)
    finally:
        layer.close()
    return [top.shape for top in tops]
