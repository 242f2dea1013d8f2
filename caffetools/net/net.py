"""The net: runs its layers forward and backward.

param = upgrade.read_net_text("train_test.prototxt")
net = load_net(param, TRAIN, Context(...))
loss = net.forward()
net.backward()
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from caffetools import graph, upgrade
from caffetools.blob import Blob
from caffetools.engine.cpu.one_thread import SMALL, Team
from caffetools.engine.out_of_memory import OutOfMemory
from caffetools.formats import prototxt
from caffetools.glog import info
from caffetools.layer import Context, Layer
from caffetools.net import debug_info, device_memory, planning, twins, weights
from caffetools.net.gradients import Gradients
from caffetools.net.memory_plan import MemoryPlan
from caffetools.net.wiring import wire
from caffetools.proto import caffe_pb2

# Parameters lie one after another in one buffer, each at a multiple of this many elements (a cache line of floats).
ALIGNMENT = 16


def load_net(
    source: str | caffe_pb2.NetParameter,
    phase: int,
    context: Context,
    level: int = 0,
    stages: Sequence[str] | None = None,
    plan: bool = False,
    keep: Sequence[str] = (),
) -> Net:
    """Read a prototxt (or take a NetParameter), set the state that filters its layers, and build the net.

    phase: TRAIN or TEST. level, stages: the state that include and exclude rules are compared with; with `stages`
    None the state holds the phase alone. plan, keep: see `Net`.
    """
    param = caffe_pb2.NetParameter()
    param.CopyFrom(source if isinstance(source, caffe_pb2.NetParameter) else upgrade.read_net_text(source))
    param.state.phase = phase
    if stages is not None:
        param.state.level = level
        param.state.stage.extend(stages)
    return Net(param, context, plan, keep)


class Net:
    """Layers in the order of the prototxt, their blobs, and the parameters that are learnt.

    param: a NetParameter whose `state` says which layers it has here. context: what the layers share; its phase is
    replaced by the state's.

    Parameters (owners only; a shared parameter counts once) are `params`, in layer order; `flat_data` and `flat_diff`
    are the flat buffers that hold all of them, `param_offsets[i]` says where parameter i starts.

    With a GPU engine in the context the layers' `_cu.py` twins compute, and `forward` returns a loss that is on its way
    to the host (`engine.gpu.lag.Loss`): a number that waits for the device when its value is asked for.

    Functions in `before_forward`, `after_forward`, `before_backward` and `after_backward` are called with the index of
    each layer that a pass comes to; layers do not run as one then. Those in `gradients_done` are called during a
    backward pass with the index of a layer from which on all gradients of parameters are complete.

    plan: whether arrays that are not needed at the same time share memory (see `memory_plan`). After a pass only
    inputs, outputs, parameters and the data of the blobs named in `keep` are right then, passes begin at the first
    layer, and there is no backward pass in the TEST phase. Nets whose blobs others look into are not planned, nor is
    one with debug_info. On a GPU no memory is shared, the rest holds. `memory_plan` is the plan, or None.
    """

    def __init__(
        self, param: caffe_pb2.NetParameter, context: Context, plan: bool = False, keep: Sequence[str] = ()
    ):
        unfiltered, param = param, graph.filter_net(param)
        info(f"Initializing net from parameters: \n{prototxt.dumps(param).rstrip()}")
        param = graph.insert_splits(param, unfiltered)
        self.name = param.name
        self.phase = param.state.phase
        self.context = replace(context, phase=self.phase)
        self.debug_info = param.debug_info
        wiring = wire(param, self.context)
        self.layers: list[Layer] = wiring.layers
        self.layer_names = [layer.name for layer in self.layers]
        self.blob_names = wiring.blob_names
        self.blob_list: list[Blob] = wiring.blobs
        self.blobs: dict[str, Blob] = dict(zip(wiring.blob_names, wiring.blobs, strict=True))
        self.bottoms = [[wiring.blobs[i] for i in ids] for ids in wiring.bottom_ids]
        self.tops = [[wiring.blobs[i] for i in ids] for ids in wiring.top_ids]
        self.bottom_names = [[wiring.blob_names[i] for i in ids] for ids in wiring.bottom_ids]
        self.top_names = [[wiring.blob_names[i] for i in ids] for ids in wiring.top_ids]
        self.blob_loss_weights = wiring.loss_weights
        self.layer_needs_backward = wiring.layer_needs_backward
        self.bottom_needs_backward = wiring.bottom_needs_backward
        self.inputs = [wiring.blob_names[i] for i in wiring.input_ids]
        self.outputs = [wiring.blob_names[i] for i in wiring.output_ids]
        self.output_loss_weights = [wiring.loss_weights[i] for i in wiring.output_ids]
        self.memory_used = wiring.memory_used
        self.param_uses = wiring.params
        # The first of several layers of one name is the one that weights go to, as in the original.
        self.layer_index = {name: i for i, name in reversed(list(enumerate(self.layer_names)))}
        self.layer_by_name = {name: self.layers[i] for name, i in self.layer_index.items()}
        self._losses = [
            [(wiring.blobs[i], wiring.loss_weights[i]) for i in ids if wiring.loss_weights[i]]
            for ids in wiring.top_ids
        ]
        self._loss_of = _weighted
        # What the passes call for each layer; on a GPU the functions of the layers' twins.
        self._forward = [layer.forward for layer in self.layers]
        self._backward = [layer.backward for layer in self.layers]
        self._reshape = [layer.reshape for layer in self.layers]
        self._around = [[*bottom, *top] for bottom, top in zip(self.bottoms, self.tops, strict=True)]
        self._shapes: list[list[tuple]] = [[] for _ in self.layers]
        # `Blob.reshapes` when the shapes around a layer were seen last: as long as it stays, they stay.
        self._seen = [-1] * len(self.layers)
        self._alone = [self._works_alone(i) for i in range(len(self.layers))]
        self.before_forward: list[Callable[[int], None]] = []
        self.after_forward: list[Callable[[int], None]] = []
        self.before_backward: list[Callable[[int], None]] = []
        self.after_backward: list[Callable[[int], None]] = []
        self.gradients_done: list[Callable[[int], None]] = []
        self._place_params(wiring)
        if self.context.engine is not None:
            twins.equip(self)
        plan = plan and not self.debug_info
        self._hides = plan
        if self.context.engine is None:
            self._fused = planning.fuse(wiring, self.phase, plan, keep)
        else:
            self._fused = planning.fuse_on_device(wiring, self.phase, plan, keep, self._forward)
            plan = False  # a GPU has none
        self.memory_plan: MemoryPlan | None = None
        if plan:
            self.memory_plan = planning.plan_memory(wiring, self.phase, self._fused, keep)
            self.memory_plan.apply()
        info("Network initialization done.")

    @property
    def runs_fused(self) -> bool:
        """Whether `forward` runs some layers as one."""
        return bool(self._fused.steps)

    def unplan(self) -> bool:
        """Give every blob memory of its own; return whether values of the last pass are lost."""
        if self.memory_plan is not None:
            self.memory_plan.drop()
            self.memory_plan = None
        return self._hides

    def _place_params(self, wiring):
        owners = [use for use in wiring.params if use.owner < 0]
        self.params = [self.layers[use.layer].blobs[use.index] for use in owners]
        self.param_names = [(self.layers[use.layer].name, use.index) for use in owners]
        self.lr_mults = [1.0 if m is None else m for m in wiring.lr_mults]
        self.decay_mults = [1.0 if m is None else m for m in wiring.decay_mults]
        sizes = [-(-blob.count // ALIGNMENT) * ALIGNMENT for blob in self.params]
        ends = np.cumsum([0, *sizes])
        self.param_offsets = ends[:-1]
        self.flat_data = self.context.flat_buffer(int(ends[-1]))
        self.flat_diff = self.context.flat_buffer(int(ends[-1]))
        for blob, start, size in zip(self.params, self.param_offsets.tolist(), sizes, strict=True):
            blob.place(self.flat_data.piece(start, size), self.flat_diff.piece(start, size))
        shared = {use.owner for use in wiring.params}
        written = []
        for use, start, size in zip(owners, self.param_offsets.tolist(), sizes, strict=True):
            layer, alone = self.layers[use.layer], wiring.params.index(use) not in shared
            wanted = self.layer_needs_backward[use.layer] and layer.param_propagate_down[use.index]
            if alone and wanted and use.index == layer.first_gradient_of and self.context.engine is None:
                written.append((layer, start, start + size))
        self._gradients = Gradients(self.flat_diff, written)

    @property
    def param_data(self) -> np.ndarray:
        """The values of all parameters in one array."""
        return self.flat_data.array

    @property
    def param_diff(self) -> np.ndarray:
        """The gradients of all parameters in one array."""
        return self.flat_diff.array

    def forward(self, start: int = 0, end: int | None = None) -> float:
        """Run the layers `start` to `end` (inclusive; all by default) and return the weighted sum of their losses."""
        if self.memory_plan is not None and start == 0 and not self.memory_plan.renew():
            self.memory_plan = None
        loss = 0.0
        stop = len(self.layers) if end is None else end + 1
        unseen = not (self.debug_info or self.before_forward or self.after_forward)
        if self.context.engine is not None and (self.before_backward or self.after_backward):
            # The backward pass will not run fused, and to part there what ran fused here waits for the device.
            unseen = False
        with Team() as team:
            for i, step in self._fused.way(start, stop, unseen):
                if step is not None:
                    self._forward_step(step, team)
                    continue
                _call(self.before_forward, i)
                loss += self._forward_one(i, team)
                _call(self.after_forward, i)
        return loss

    def _forward_step(self, step, team):
        for i in range(step.first, step.prepares + 1):
            if self._seen[i] != Blob.reshapes:
                self._prepare(i)
        team.work_alone(self._step_alone(step))
        self._run(step.first, "forward pass", step.forward)
        step.ran = True

    def forward_layer(self, i: int) -> float:
        """Run one layer by itself and return its loss."""
        with Team() as team:
            return self._forward_one(i, team)

    def _forward_one(self, i, team):
        try:
            if self._seen[i] != Blob.reshapes:
                self._prepare(i)
            self._fused.forget(i)
            team.work_alone(self._alone[i])
            self._forward[i](self.bottoms[i], self.tops[i])
        except OutOfMemory as err:
            raise device_memory.explained(self, i, "forward pass", err) from None
        if self.debug_info:
            debug_info.report_forward(self, i)
        losses = self._losses[i]
        return sum(self._loss_of(blob) for blob, _ in losses) if losses else 0.0

    def _prepare(self, i):
        """Let a layer know where its shapes have changed."""
        if self.layers[i].reshape_every_forward or self._shapes_of(i) != self._shapes[i]:
            self._reshape[i](self.bottoms[i], self.tops[i])
            self._shapes[i] = self._shapes_of(i)
            self._alone[i] = self._works_alone(i)
            if self.memory_plan is not None:
                self.memory_plan.check(i)
        self._seen[i] = -1 if self.layers[i].reshape_every_forward else Blob.reshapes

    def _shapes_of(self, i):
        return [blob.shape for blob in self._around[i]]

    def _works_alone(self, i):
        """Say whether a layer has so few elements that it runs on one thread."""
        return sum(blob.count for blob in (*self._around[i], *self.layers[i].blobs)) < SMALL

    def _step_alone(self, step):
        return all(self._alone[step.first : step.last + 1])

    def backward(self, start: int | None = None, end: int = 0) -> None:
        """Run the layers from `start` (the last by default) down to `end` backward, where a gradient is needed."""
        last = len(self.layers) - 1 if start is None else start
        unseen = not (self.debug_info or self.before_backward or self.after_backward)
        with Team() as team:
            for i, step in self._fused.way_back(last, end, unseen):
                if step is not None:
                    team.work_alone(self._step_alone(step))
                    self._run(step.first, "backward pass", step.backward)
                    _call(self.gradients_done, step.first)
                    continue
                _call(self.before_backward, i)
                if self.layer_needs_backward[i]:
                    self._backward_one(i, team)
                    if self.debug_info:
                        debug_info.report_backward(self, i)
                _call(self.after_backward, i)
                _call(self.gradients_done, i)
        if self.debug_info and start is None:
            debug_info.report_params(self)

    def backward_layer(self, i: int) -> None:
        """Run one layer backward by itself, whether or not its gradient is needed."""
        self._fused.part(i)
        with Team() as team:
            self._backward_one(i, team)

    def _backward_one(self, i, team):
        team.work_alone(self._alone[i])
        blobs = self.tops[i], self.bottom_needs_backward[i], self.bottoms[i]
        self._run(i, "backward pass", self._backward[i], *blobs)

    def _run(self, i, what, function, *args):
        try:
            function(*args)
        except OutOfMemory as err:
            raise device_memory.explained(self, i, what, err) from None

    def reshape(self) -> None:
        """Propagate changed shapes of the inputs to every blob."""
        for reshape, bottom, top in zip(self._reshape, self.bottoms, self.tops, strict=True):
            reshape(bottom, top)

    def clear_param_diffs(self) -> None:
        """Set the gradients of all parameters to zero."""
        self._gradients.clear()

    def begin_param_diffs(self) -> None:
        """Start new sums of gradients for a backward pass of the whole net, before which nobody looks at them."""
        self._gradients.begin()

    def update(self) -> None:
        """Subtract the diffs, which hold the step to take, from the parameters."""
        if self.context.engine is None:
            np.subtract(self.param_data, self.param_diff, out=self.param_data)
        else:
            twins.update(self)

    def output_values(self) -> list[tuple[str, float, float]]:
        """Return (blob name, value, loss weight) of every element of every output, in the order of the log."""
        values = []
        for name, weight in zip(self.outputs, self.output_loss_weights, strict=True):
            values += [(name, value, weight) for value in self.blobs[name].cpu_data.ravel().tolist()]
        return values

    def share_weights_from(self, other: Net) -> None:
        """Use the parameters of the layers of the same name in another net, without a copy."""
        weights.share_from(self, other)

    def copy_from(self, names: str) -> None:
        """Copy weights from files (a comma list) by layer name."""
        weights.load_list(self, weights.split_list(names))

    def to_proto(self, diffs: bool = False) -> caffe_pb2.NetParameter:
        """Return the net and its weights as a caffemodel holds them."""
        return weights.to_proto(self, diffs)

    def memory(self) -> dict[str, int]:
        """Return the bytes of data, diffs and parameters (with their gradients), and of the packed weights that layers
        keep, in the TEST phase or where several passes make an update.

        With a plan, data and diffs, and the layers' copies of data, are one number: they share memory.
        """
        size = self.context.dtype.itemsize
        parameters = {"parameters": (self.flat_data.size + self.flat_diff.size) * size}
        kept = weights.packed_bytes(self)
        if kept:
            parameters["packed weights"] = kept
        if self.memory_plan is not None:
            return {"data and diffs": self.memory_plan.bytes + self.memory_plan.fixed_bytes} | parameters
        needed = [
            blob
            for i, layer_needs in enumerate(self.layer_needs_backward)
            for blob, wanted in zip(self.bottoms[i], self.bottom_needs_backward[i], strict=True)
            if wanted and layer_needs
        ]
        return {
            "data": self.memory_used * size,
            "diffs": sum({id(blob): blob.count for blob in needed}.values()) * size,
        } | parameters

    def close(self) -> None:
        """Stop the layers' threads and close their files."""
        for layer in self.layers:
            layer.close()


def _call(functions, i):
    for function in functions:
        function(i)


def _weighted(blob):
    """Return the loss of a top: its values times their weights, which its diff holds."""
    if blob.count == 1:
        return float(blob.flat_data[0] * blob.flat_diff[0])
    # Not the BLAS's product, whose rounding depends on its threads.
    return float(np.multiply(blob.flat_data, blob.flat_diff).sum())
