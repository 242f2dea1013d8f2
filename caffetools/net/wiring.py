"""From a NetParameter to layers and blobs: names resolved, shapes inferred, gradients traced.

The order of the steps and the words of the log are the original's; readers of its logs depend on both.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field

from caffetools.blob import Blob
from caffetools.glog import FatalError, check, check_eq, check_le, fatal, info
from caffetools.layer import Layer
from caffetools.layers import create_layer
from caffetools.proto import caffe_pb2

AUTOMATIC = "(automatic)"


@dataclass
class ParamUse:
    """One use of a parameter blob by a layer; users of the same non-empty name share one blob.

    owner: index of the use that owns the blob, or -1 for an owner. learnable: index among the owners.
    """

    layer: int
    index: int
    name: str
    display_name: str
    owner: int
    learnable: int


@dataclass
class Wiring:
    """What construction finds out; a Net takes its fields over."""

    layers: list[Layer] = field(default_factory=list)
    blob_names: list[str] = field(default_factory=list)
    blobs: list[Blob] = field(default_factory=list)
    bottom_ids: list[list[int]] = field(default_factory=list)
    top_ids: list[list[int]] = field(default_factory=list)
    loss_weights: list[float] = field(default_factory=list)
    blob_needs_backward: list[bool] = field(default_factory=list)
    bottom_needs_backward: list[list[bool]] = field(default_factory=list)
    layer_needs_backward: list[bool] = field(default_factory=list)
    input_ids: list[int] = field(default_factory=list)
    output_ids: list[int] = field(default_factory=list)
    params: list[ParamUse] = field(default_factory=list)
    param_ids: list[list[int]] = field(default_factory=list)
    lr_mults: list[float | None] = field(default_factory=list)
    decay_mults: list[float | None] = field(default_factory=list)
    memory_used: int = 0


def wire(param: caffe_pb2.NetParameter, context) -> Wiring:
    """Build the layers and blobs of a filtered net with splits inserted."""
    builder = _Builder(param, context)
    try:
        return builder.build()
    except BaseException:
        for layer in builder.wiring.layers:  # threads and files of those that were made before one failed
            layer.close()
        raise


class _Builder:
    def __init__(self, param, context):
        self.param = param
        self.context = context
        self.wiring = Wiring()
        self.blob_ids: dict[str, int] = {}
        self.available: set[str] = set()
        self.owners: dict[str, int] = {}

    def build(self) -> Wiring:
        for layer_param in self.param.layer:
            if not layer_param.HasField("phase"):
                layer_param.phase = self.context.phase
            self._add_layer(layer_param)
        self._trace_backward()
        if self.param.force_backward:
            self._force_backward()
        wiring = self.wiring
        for name in sorted(self.available):
            info(f"This network produces output {name}")
            wiring.output_ids.append(self.blob_ids[name])
        self._share_params()
        return wiring

    def _add_layer(self, layer_param):
        wiring = self.wiring
        bottoms = len(layer_param.bottom)
        if layer_param.propagate_down:
            check_eq(
                len(layer_param.propagate_down),
                bottoms,
                "layer_param.propagate_down_size() == layer_param.bottom_size()",
                f"propagate_down param must be specified either 0 or bottom_size times (layer '{layer_param.name}')",
            )
        with _naming(layer_param.name):
            layer = create_layer(layer_param, self.context)
        wiring.layers.append(layer)
        info(f"Creating Layer {layer_param.name}")
        bottom_ids, top_ids, bottom_needs = [], [], []
        wiring.bottom_ids.append(bottom_ids)
        wiring.top_ids.append(top_ids)
        wiring.bottom_needs_backward.append(bottom_needs)
        needs_backward = False
        for i in range(bottoms):
            blob_id = self._append_bottom(layer_param, i)
            bottom_ids.append(blob_id)
            needs_backward |= wiring.blob_needs_backward[blob_id]
            propagate = layer_param.propagate_down
            bottom_needs.append(propagate[i] if propagate else wiring.blob_needs_backward[blob_id])
        for i in range(len(layer_param.top)):
            top_ids.append(self._append_top(layer_param, i))
        if layer.auto_tops:
            while len(top_ids) < max(layer.min_tops or 0, layer.exact_tops or 0):
                top_ids.append(self._append_automatic_top(layer_param))
        if layer.type == "Input":
            wiring.input_ids += top_ids
        self._set_up(layer, bottom_ids, top_ids)
        needs_backward |= self._append_params(layer, len(wiring.layers) - 1)
        wiring.layer_needs_backward.append(needs_backward)
        if needs_backward:
            for blob_id in top_ids:
                wiring.blob_needs_backward[blob_id] = True

    def _new_blob(self, name):
        wiring = self.wiring
        wiring.blobs.append(self.context.blob())
        wiring.blob_names.append(name)
        wiring.loss_weights.append(0.0)
        wiring.blob_needs_backward.append(False)
        return len(wiring.blobs) - 1

    def _append_bottom(self, layer_param, i):
        name = layer_param.bottom[i]
        if name not in self.available:
            fatal(f"Unknown bottom blob '{name}' (layer '{layer_param.name}', bottom index {i})")
        info(f"{layer_param.name} <- {name}")
        self.available.discard(name)
        return self.blob_ids[name]

    def _append_top(self, layer_param, i):
        name = layer_param.top[i]
        if i < len(layer_param.bottom) and layer_param.bottom[i] == name:
            info(f"{layer_param.name} -> {name} (in-place)")
            self.available.add(name)
            return self.blob_ids[name]
        if name in self.blob_ids:
            fatal(f"Top blob '{name}' produced by multiple sources. (layer '{layer_param.name}')")
        info(f"{layer_param.name} -> {name}")
        self.blob_ids[name] = self._new_blob(name)
        self.available.add(name)
        return self.blob_ids[name]

    def _append_automatic_top(self, layer_param):
        info(f"{layer_param.name} -> {AUTOMATIC}")
        return self._new_blob(AUTOMATIC)

    def _set_up(self, layer, bottom_ids, top_ids):
        wiring = self.wiring
        bottom = [wiring.blobs[i] for i in bottom_ids]
        top = [wiring.blobs[i] for i in top_ids]
        weights = _loss_weights(layer, len(top))
        with _naming(layer.name):
            layer.check_blob_counts(bottom, top)
            layer.setup(bottom, top)
            layer.reshape(bottom, top)
        info(f"Setting up {layer.name}")
        for blob_id, blob, weight in zip(top_ids, top, weights, strict=True):
            if weight:
                wiring.loss_weights[blob_id] = weight
                # The weight is kept as the top's gradient: it is where the backward pass of a loss starts.
                blob.diff.fill(weight)
            info(f"Top shape: {blob.shape_string}")
            if weight:
                info(f"    with loss weight {weight:g}")
            wiring.memory_used += blob.count
        info(f"Memory required for data: {wiring.memory_used * self.context.dtype.itemsize}")

    def _append_params(self, layer, layer_index):
        wiring, specs = self.wiring, layer.param.param
        count = len(layer.blobs)
        check_le(
            len(specs),
            count,
            "param_size <= num_param_blobs",
            f"Too many params specified for layer {layer.name}",
        )
        words = f"Incorrect number of weight blobs. (layer '{layer.name}')"
        check_le(len(layer.param.blobs), count, "layer_param.blobs_size() <= num_param_blobs", words)
        wiring.param_ids.append([])
        layer.param_propagate_down = []
        for i in range(count):
            spec = specs[i] if i < len(specs) else caffe_pb2.ParamSpec()
            layer.param_propagate_down.append(spec.lr_mult != 0)
            self._append_param(layer, layer_index, i, spec)
        return any(layer.param_propagate_down)

    def _append_param(self, layer, layer_index, i, spec):
        wiring = self.wiring
        wiring.param_ids[layer_index].append(len(wiring.params))
        use = ParamUse(layer_index, i, spec.name, spec.name or str(i), -1, len(wiring.lr_mults))
        if spec.name and spec.name in self.owners:
            use.owner = self.owners[spec.name]
            use.learnable = wiring.params[use.owner].learnable
            self._check_sharing(layer, i, spec, wiring.params[use.owner])
        else:
            if spec.name:
                self.owners[spec.name] = len(wiring.params)
            wiring.lr_mults.append(None)
            wiring.decay_mults.append(None)
        for field_name, values in (("lr_mult", wiring.lr_mults), ("decay_mult", wiring.decay_mults)):
            if spec.HasField(field_name):
                value, known = getattr(spec, field_name), values[use.learnable]
                check(
                    known in (None, value),
                    f"param_spec->{field_name}() == params_{field_name.removesuffix('_mult')}_[learnable_param_id] "
                    f"({value:g} vs. {known})",
                    f"Shared param '{spec.name}' has mismatched {field_name}.",
                )
                values[use.learnable] = value
        wiring.params.append(use)

    def _check_sharing(self, layer, i, spec, owner):
        owner_layer = self.wiring.layers[owner.layer]
        info(
            f"Sharing parameters '{spec.name}' owned by layer '{owner_layer.name}', param index {owner.index}"
        )
        mine, theirs = layer.blobs[i], owner_layer.blobs[owner.index]
        permissive = spec.share_mode == caffe_pb2.ParamSpec.PERMISSIVE
        if (mine.count == theirs.count) if permissive else (mine.shape == theirs.shape):
            return
        what, expression = (
            ("count", "this_blob->count() == owner_blob->count()")
            if permissive
            else (
                "shape",
                "this_blob->shape() == owner_blob->shape()",
            )
        )
        check(
            False,
            expression,
            f"Cannot share param '{spec.name}' owned by layer '{owner_layer.name}' with layer '{layer.name}'; "
            f"{what} mismatch.  Owner layer param shape is {theirs.shape_string}; "
            f"sharing layer expects shape {mine.shape_string}",
        )

    def _trace_backward(self):
        """Walk from the losses to the data: only layers between a parameter and a loss run backward."""
        wiring = self.wiring
        under_loss: set[int] = set()
        skipped: set[int] = set()
        for index in reversed(range(len(wiring.layers))):
            tops, bottoms = wiring.top_ids[index], wiring.bottom_ids[index]
            contributes = any(wiring.loss_weights[t] or t in under_loss for t in tops)
            skip = all(t in skipped for t in tops)
            needs = wiring.layer_needs_backward
            if needs[index] and skip:
                needs[index] = False
                wiring.bottom_needs_backward[index] = [False] * len(bottoms)
            if not contributes:
                needs[index] = False
            name = wiring.layers[index].name
            info(
                f"{name} needs backward computation."
                if needs[index]
                else f"{name} does not need backward computation."
            )
            for i, blob_id in enumerate(bottoms):
                if contributes:
                    under_loss.add(blob_id)
                else:
                    wiring.bottom_needs_backward[index][i] = False
                if not wiring.bottom_needs_backward[index][i]:
                    skipped.add(blob_id)

    def _force_backward(self):
        wiring = self.wiring
        for index, layer in enumerate(wiring.layers):
            wiring.layer_needs_backward[index] = True
            wants = wiring.bottom_needs_backward[index]
            for i, blob_id in enumerate(wiring.bottom_ids[index]):
                wants[i] = wants[i] or layer.allow_force_backward(i)
                wiring.blob_needs_backward[blob_id] |= wants[i]
            layer.param_propagate_down = [True] * len(layer.blobs)

    def _share_params(self):
        wiring = self.wiring
        for use in wiring.params:
            if use.owner >= 0:
                owner = wiring.params[use.owner]
                blob = wiring.layers[use.layer].blobs[use.index]
                blob.share_data(wiring.layers[owner.layer].blobs[owner.index])
                blob.share_diff(wiring.layers[owner.layer].blobs[owner.index])


@contextmanager
def _naming(name):
    """Make sure that an error of the body names the layer it is about."""
    try:
        yield
    except FatalError as error:
        if f"'{name}'" not in str(error):
            error.args = (f"{error} (layer '{name}')",)
        raise


def _loss_weights(layer, tops):
    """Return a weight for each top; a loss layer without any gets 1 for its first, kept in its LayerParameter."""
    given = layer.param.loss_weight
    if layer.is_loss and not given:
        given.extend([1.0] + [0.0] * (tops - 1))
    if not given:
        return [0.0] * tops
    check_eq(
        tops,
        len(given),
        "top.size() == num_loss_weights",
        f"loss_weight must be unspecified or specified once per top blob. (layer '{layer.name}')",
    )
    return list(given)
