"""Net: a net as scripts see it."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest

import numpy as np

from caffetools import net as engine
from caffetools.formats import binary
from caffetools.glog import fatal, warning
from caffetools.layer import Context
from caffetools.layers.memory_data import MemoryDataLayer
from caffetools.net import weights as weights_io
from caffetools.parts.views import Blob, BlobVec
from caffetools.pycaffe import layer_view, mode
from caffetools.pycaffe.batches import Collector, batches, length_of, need_arrays
from caffetools.pycaffe.mode import random_source
from caffetools.pycaffe.parallel import ranks

Arrays = dict[str, np.ndarray]
Path = str | os.PathLike


class Net:
    """A net that is built from a prototxt.

        Net(network_file, phase, level=0, stages=None, weights=None)

    phase: TRAIN or TEST. level, stages: what include and exclude rules are compared with. weights: a file to
    load by layer name. The old form Net(network_file, weights, phase) works, with a warning.

    Errors: FatalError, which is a RuntimeError.
    """

    def __init__(
        self,
        network_file: Path,
        phase: int | Path,
        level: int | Path = 0,
        stages: Sequence[str] | None = None,
        weights: Path | None = None,
    ):
        if isinstance(phase, (str, os.PathLike)):
            weights, phase, level = phase, level, 0
            warning("DEPRECATION WARNING - deprecated use of Python interface")
            warning('Use this instead (with the named "weights" parameter):')
            warning(f"Net('{network_file}', {phase}, weights='{weights}')")
        check_file(network_file)
        if weights is not None:
            check_file(weights)
        rank, count = ranks()
        context = Context(random=random_source(), rank=rank, ranks=count, engine=mode.engine())
        self._bind(engine.load_net(os.fspath(network_file), phase, context, level, list(stages or [])))
        if weights is not None:
            self.copy_from(weights)

    @classmethod
    def of(cls, net: engine.Net) -> Net:
        """Return the view of a net that is there already."""
        view = cls.__new__(cls)
        view._bind(net)
        return view

    def _bind(self, net):
        self._net = net
        self._layer_names: list[str] = net.layer_names
        self._blob_names: list[str] = net.blob_names
        self.inputs: list[str] = net.inputs
        self.outputs: list[str] = net.outputs
        self.layers = [layer_view.view(layer) for layer in net.layers]
        self.blobs: OrderedDict[str, Blob] = OrderedDict(
            (name, Blob(blob)) for name, blob in zip(net.blob_names, net.blob_list, strict=True)
        )
        self.blob_loss_weights: OrderedDict[str, float] = _named(net.blob_names, net.blob_loss_weights)
        self.layer_dict = _named(net.layer_names, self.layers)
        self.params: OrderedDict[str, BlobVec] = OrderedDict(
            (name, layer.blobs) for name, layer in self.layer_dict.items() if len(layer.blobs)
        )
        self.top_names: OrderedDict[str, list[str]] = _named(net.layer_names, net.top_names)
        self.bottom_names: OrderedDict[str, list[str]] = _named(net.layer_names, net.bottom_names)

    def forward(
        self,
        blobs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **inputs: np.ndarray,
    ) -> Arrays:
        """Run the layers from `start` to `end`, both included, by name; all of them by default.

        inputs: values for all input blobs, or none. Return the outputs (of the layer `end`, where it is
        given) and the blobs asked for, as arrays that the next pass overwrites.
        """
        first = 0 if start is None else self._index(start)
        last = len(self.layers) - 1 if end is None else self._index(end)
        if inputs:
            words = "Input blob arguments do not match net inputs."
            self._set(inputs, self.inputs, words, "Input is not batch sized", "data")
        self._net.forward(first, last)
        names = self.outputs if end is None else self.top_names[end]
        return {name: self.blobs[name].data for name in [*names, *(blobs or [])]}

    def backward(
        self,
        diffs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **top_diffs: np.ndarray,
    ) -> Arrays:
        """Run the layers from `start` down to `end`, both included, backward; all of them by default.

        top_diffs: gradients for all output blobs, or none. Return the gradients of the inputs (of the bottoms
        of `end`, where it is given) and of the blobs asked for, as arrays that the next pass overwrites.
        """
        first = len(self.layers) - 1 if start is None else self._index(start)
        last = 0 if end is None else self._index(end)
        if top_diffs:
            words = "Top diff arguments do not match net outputs."
            self._set(top_diffs, self.outputs, words, "Diff is not batch sized", "diff")
        self._net.backward(first, last)
        names = self.inputs if end is None else self.bottom_names[end]
        return {name: self.blobs[name].diff for name in [*names, *(diffs or [])]}

    def forward_all(self, blobs: Sequence[str] | None = None, **inputs: np.ndarray) -> Arrays:
        """Run arrays of any length forward, batch by batch, and return the joined outputs and `blobs`."""
        need_arrays(inputs, "forward_all")
        size = self._batch_size
        outputs = Collector(length_of(inputs), size)
        for batch in batches(inputs, size):
            outputs.add(self.forward(blobs=blobs, **batch))
        return outputs.joined()

    def forward_backward_all(
        self, blobs: Sequence[str] | None = None, diffs: Sequence[str] | None = None, **arrays: np.ndarray
    ) -> tuple[Arrays, Arrays]:
        """Run arrays of any length forward and backward, batch by batch.

        arrays: values of inputs and gradients of outputs. Return the joined outputs and `blobs`, and the
        joined gradients of the inputs and of `diffs`.
        """
        need_arrays(arrays, "forward_backward_all")
        size, length = self._batch_size, length_of(arrays)
        values, gradients = Collector(length, size), Collector(length, size)
        inputs = {name: arrays[name] for name in self.inputs if name in arrays}
        top_diffs = {name: arrays[name] for name in self.outputs if name in arrays}
        if len(inputs) + len(top_diffs) < len(arrays):
            fatal(f"{', '.join(arrays)} are not all inputs ({self.inputs}) or outputs ({self.outputs})")
        cut = [batches(part, size) if part else () for part in (inputs, top_diffs)]
        for batch, batch_diffs in zip_longest(*cut, fillvalue={}):
            values.add(self.forward(blobs=blobs, **batch))
            gradients.add(self.backward(diffs=diffs, **batch_diffs))
        return values.joined(), gradients.joined()

    def set_input_arrays(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Feed a net whose first layer is a MemoryData layer; it reads the arrays at every pass.

        data: float32 (n, channels, height, width). labels: float32 (n,) or (n, 1, 1, 1). n is a multiple of
        the batch size.
        """
        layer = self._net.layers[0]
        if not isinstance(layer, MemoryDataLayer):
            fatal("set_input_arrays may only be called if the first layer is a MemoryDataLayer")
        if labels.ndim == 1:
            labels = np.ascontiguousarray(labels[:, np.newaxis, np.newaxis, np.newaxis])
        _check_array("data array", data, layer.item_shape)
        _check_array("labels array", labels, (1, 1, 1))
        if len(data) != len(labels):
            fatal(f"data and labels must have the same first dimension ({len(data)} vs. {len(labels)})")
        if len(data) % layer.batch_size:
            words = "first dimensions of input arrays must be a multiple of batch size"
            fatal(f"{words} ({len(data)}, {layer.batch_size})")
        layer.reset(data, labels)

    def reshape(self) -> None:
        """Give all blobs the shapes that follow from those of the inputs."""
        self._net.reshape()

    def clear_param_diffs(self) -> None:
        """Set the gradients of all parameters to zero."""
        self._net.clear_param_diffs()

    def copy_from(self, file: Path) -> None:
        """Load weights by layer name, from a caffemodel or, where the name ends in .h5, an HDF5 file."""
        weights_io.copy_from(self._net, os.fspath(file))

    def share_with(self, other: Net) -> None:
        """Use the parameters of the layers of the same name in another net, without a copy."""
        self._net.share_weights_from(other._net)

    def save(self, file: Path) -> None:
        """Write a caffemodel."""
        binary.write(os.fspath(file), self._net.to_proto())

    def save_hdf5(self, file: Path) -> None:
        """Write the weights as HDF5."""
        weights_io.write_hdf5(self._net, os.fspath(file))

    def load_hdf5(self, file: Path) -> None:
        """Load weights by layer name from an HDF5 file."""
        weights_io.copy_from_hdf5(self._net, os.fspath(file))

    def before_forward(self, function: Callable[[int], None]) -> None:
        """Have a function called before the forward pass of each layer, with the layer's index."""
        self._net.before_forward.append(function)

    def after_forward(self, function: Callable[[int], None]) -> None:
        """Have a function called after the forward pass of each layer."""
        self._net.after_forward.append(function)

    def before_backward(self, function: Callable[[int], None]) -> None:
        """Have a function called before the backward pass of each layer."""
        self._net.before_backward.append(function)

    def after_backward(self, function: Callable[[int], None]) -> None:
        """Have a function called after the backward pass of each layer.

        What only wants to know which gradients are complete (an NCCL) lets layers run as one. Beside one, the
        gradients of a layer's own parameters are those of this process in the call for that layer; in later calls they
        may be the means over all processes, and asking for them waits for these.
        """
        only_gradients = getattr(function, "follows_gradients", False)
        (self._net.gradients_done if only_gradients else self._net.after_backward).append(function)

    @property
    def _batch_size(self):
        return next(iter(self.blobs.values())).shape[0]

    def _index(self, layer):
        if layer not in self._net.layer_index:
            fatal(f"The net has no layer '{layer}' (layers: {', '.join(self._layer_names)})")
        return self._net.layer_index[layer]

    def _set(self, arrays, names, mismatch, not_batch_sized, what):
        """Write arrays, one for each name, into the blobs' data or diff."""
        if set(arrays) != set(names):
            fatal(f"{mismatch} ({', '.join(arrays)} vs. {', '.join(names)})")
        for name, array in arrays.items():
            target = getattr(self.blobs[name], what)
            array = np.asarray(array)
            if array.shape[:1] != target.shape[:1]:
                fatal(f"{not_batch_sized} ('{name}': {array.shape} vs. {target.shape})")
            target[...] = array


def check_file(path: Path) -> None:
    """Refuse a file that cannot be read, in the original's words."""
    try:
        open(path, "rb").close()
    except OSError:
        fatal(f"Could not open file {os.fspath(path)}")


def _named(names: Iterable[str], values: Iterable) -> OrderedDict:
    return OrderedDict(zip(names, values, strict=True))


def _check_array(name, array, item_shape):
    if not array.flags.c_contiguous:
        fatal(f"{name} must be C contiguous")
    if array.ndim != 4:
        fatal(f"{name} must be 4-d, not {array.ndim}-d")
    if array.dtype != np.float32:
        fatal(f"{name} must be float32, not {array.dtype}")
    axes = ("number of channels", "height", "width")
    for axis, given, expected in zip(axes, array.shape[1:], item_shape, strict=True):
        if given != expected:
            fatal(f"{name} has wrong {axis} ({given} vs. {expected})")
