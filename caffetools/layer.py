"""The base of all layers: what a net asks of one, and what it may rely on.

A net calls, in this order: `check_blob_counts`, `setup` once, `reshape` after it and whenever a bottom changed its
shape, then `forward` and `backward`. A layer reads its parameters from the prototxt in `setup` and keeps them
as typed values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from caffetools import filler
from caffetools.blob import Blob, FlatBuffer, shape_text
from caffetools.engine.cpu.kept import Kept, Packing
from caffetools.engine.cpu.rng import RandomSource
from caffetools.formats import blob as blob_format
from caffetools.glog import check, check_eq, check_ge, check_le, fatal, info
from caffetools.proto import caffe_pb2

if TYPE_CHECKING:
    from caffetools.engine.gpu.device import Engine

TRAIN, TEST = caffe_pb2.TRAIN, caffe_pb2.TEST


@dataclass
class Context:
    """What every layer of a net shares.

    phase: TRAIN or TEST. dtype: float32, or float64 in gradient checks. random: the run's source of randomness.
    rank, ranks: this process among those that train together; data layers take every `ranks`-th record.
    fill: whether parameters get their initial values; who only asks for shapes spares the memory. passes: how many
    passes of a net that learns an update is made of. engine: the GPU's Engine that computes, or None for the CPU.
    """

    phase: int = TRAIN
    dtype: np.dtype = np.dtype(np.float32)
    random: RandomSource = field(default_factory=RandomSource)
    rank: int = 0
    ranks: int = 1
    fill: bool = True
    passes: int = 1
    engine: Engine | None = None

    def blob(self, shape: Sequence[int] = ()) -> Blob:
        """Return a new blob of the net's type, whose memory is where the engine needs it."""
        return Blob(shape, self.dtype) if self.engine is None else Blob(shape, self.dtype, self.engine.storage)

    def flat_buffer(self, size: int):
        """Return a buffer for several storages, such as those of all parameters."""
        return (FlatBuffer if self.engine is None else self.engine.flat_buffer)(size, self.dtype)


@dataclass(frozen=True)
class Part:
    """That the numbers of one blob go to another, and that both may lie in the same place.

    The smaller of the two is a part of the larger, from its element `first` on. changes: whether they are not merely
    copied. Where the arrays do lie in one place, the layer finds its work done, in part or wholly.
    """

    source: Blob
    target: Blob
    first: int = 0
    changes: bool = False


class Layer:
    """One layer of a net.

    Subclasses say how many blobs they take and give (`exact_`, `min_`, `max_` bottoms and tops; None means free) and
    implement `reshape`, `forward` and `backward`. `blobs` holds the learnable parameters; `param_propagate_down[i]`
    says whether the gradient of parameter i is wanted. Gradients of parameters are ADDED to their diffs, those of
    bottoms overwrite.
    """

    exact_bottoms: int | None = None
    min_bottoms: int | None = None
    max_bottoms: int | None = None
    exact_tops: int | None = None
    min_tops: int | None = None
    max_tops: int | None = None
    equal_bottoms_tops = False
    auto_tops = False  # missing tops are made, as "(automatic)"
    is_loss = False  # the first top has the loss weight 1 unless the prototxt says otherwise
    reads: tuple[str, ...] | None = None  # the messages of settings that the type reads; None: that of its own name
    # fields of these messages that it has no use for, and what to do instead: refused before it is made
    refuses: Mapping[str, Mapping[str, str]] = MappingProxyType({})
    # The data that `backward` reads, of all bottoms and tops or of some ("bottom[1]"); others may lie in the memory of
    # what it does not read. The diffs of tops it may always read.
    backward_reads: tuple[str, ...] = ("bottom", "top")
    remembers_blobs = False  # may read its blobs at other times than during forward and backward
    first_gradient_of: int | None = None  # parameter whose gradient `backward` writes where `writes_gradient` is set
    writes_gradient = False  # set before the first backward pass of a step; `backward` takes it back
    reshape_every_forward = False  # the shape of a top depends on more than the shapes of the bottoms
    waited_seconds = 0.0  # how long forward has waited for data that were not ready

    def __init__(self, param: caffe_pb2.LayerParameter, context: Context):
        self.param = param
        self.name = param.name
        # A phase in the prototxt goes before the net's.
        own_phase = param.HasField("phase") and param.phase != context.phase
        self.context = replace(context, phase=param.phase) if own_phase else context
        self.phase = self.context.phase
        self.dtype = context.dtype
        self.blobs: list[Blob] = []
        self.param_propagate_down: list[bool] = []
        self._kept: dict[int, Kept] = {}

    @property
    def type(self) -> str:
        """The type as prototxts spell it."""
        return type(self).__name__.removesuffix("Layer")

    @classmethod
    def settings(cls) -> tuple[str, ...]:
        """Return the names of the messages in the prototxt that this type reads."""
        own = cls.__module__.rpartition(".")[2]
        return (f"{own}_param",) if cls.reads is None else cls.reads

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read the parameters and make the blobs of learnable ones."""

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Give the tops and all scratch memory the shapes that follow from the bottoms."""
        raise NotImplementedError

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Compute the tops' data from the bottoms' data."""
        raise NotImplementedError

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Compute the bottoms' diffs where `propagate_down` asks for it, and add to the parameters' diffs.

        A layer that leaves this out has no gradient, and asking for one is an error.
        """
        if any(propagate_down):
            fatal(f"{self.type} Layer has no gradient. (layer '{self.name}'; add propagate_down: false)")

    def kept(self) -> Sequence[Blob]:
        """Return the blobs beside bottoms and tops whose data `forward` writes and `backward` reads."""
        return ()

    def kept_of(self, index: int) -> Kept | None:
        """Return where packed forms of parameter `index` stay for the next pass, or None.

        They stay where nothing learns, or several passes make an update, unless somebody holds an array of the
        parameter and may write into it at any time. To be asked before the layer takes such an array itself.
        """
        version = self.blobs[index].data_version() if self._keeps_packed else None
        if version is None:
            return None
        kept = self._kept.get(index)
        if kept is None:
            kept = self._kept[index] = Kept()
        kept.version = version
        return kept

    def packings(self) -> Sequence[Packing]:
        """Return the packings of parameters that forward passes keep, where they keep any."""
        return ()

    def backward_packings(self, propagate_down: Sequence[bool]) -> Sequence[Packing]:
        """Return the packings that backward passes keep, where they give these bottoms their gradients."""
        return ()

    def kept_bytes(self, propagate_down: Sequence[bool] | None = None) -> int:
        """Return what packed forms of parameters take that passes leave for the next ones.

        propagate_down: to which bottoms gradients go, None where the layer needs no pass backward.
        """
        if not self._keeps_packed:
            return 0
        goes_back = self.phase == TRAIN and propagate_down is not None
        back = self.backward_packings(propagate_down) if goes_back else ()
        return sum(packing.packed_size * packing.dtype.itemsize for packing in (*self.packings(), *back))

    @property
    def _keeps_packed(self):
        return self.context.engine is None and (self.phase == TEST or self.context.passes > 1)

    def forget_kept(self) -> None:
        """Drop what was kept of parameters, for packings that there are no longer."""
        self._kept.clear()

    def data_parts(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> Sequence[Part]:
        """Return which data, those of bottoms, go to those of tops such that they may lie in the same place."""
        return ()

    def diff_parts(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> Sequence[Part]:
        """Return which diffs, those of tops, go to those of bottoms such that they may lie in the same place."""
        return ()

    def allow_force_backward(self, bottom_index: int) -> bool:
        """Say whether `force_backward` may ask for the gradient of this bottom (labels: no)."""
        return True

    def get_state(self) -> dict | None:
        """Return what an exact resume needs beyond the parameters, as JSON values, or None."""
        return None

    def set_state(self, state: dict) -> None:
        """Restore what `get_state` returned."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop threads and close files; called once when the net is dropped."""

    def add_param(self, shape: Sequence[int], filler_param: caffe_pb2.FillerParameter) -> Blob:
        """Append a learnable parameter of this shape and return it.

        Its values are those that the prototxt holds in `blobs`, if it does, else they are drawn as filler_param says.
        Errors: FatalError for `blobs` of other shapes, or too few of them.
        """
        blob = self.context.blob(shape)
        if self.context.fill:
            if self.param.blobs:
                self._take_over(blob, len(self.blobs))
            else:
                filler.fill(filler_param, blob.data, self.context.random.generator())
        self.blobs.append(blob)
        return blob

    def _take_over(self, blob, index):
        given = self.param.blobs
        if index == 0:
            info("Skipping parameter initialization")
        if index >= len(given):
            fatal(f"Incorrect number of weight blobs: there are only {len(given)} (layer '{self.name}')")
        if not blob_format.shapes_match(given[index], blob.shape):
            fatal(
                f"Incorrect weight shape: expected shape {blob.shape_string}; instead, shape was "
                f"{shape_text(blob_format.shape_of(given[index]))} (blobs[{index}] of layer '{self.name}')"
            )
        blob.data[...] = blob_format.to_array(given[index]).reshape(blob.shape)

    def refuse_in_place(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Refuse a top that is the bottom of the same index."""
        for i, (below, above) in enumerate(zip(bottom, top, strict=False)):
            words = f"{self.type} Layer does not allow in-place computation. (layer '{self.name}')"
            check(above is not below, f"top[{i}] != bottom[{i}]", words)

    def check_blob_counts(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Refuse a wrong number of bottoms or tops, in the original's words."""
        kind, b, t = self.type, len(bottom), len(top)
        rules = (
            (
                self.exact_bottoms,
                check_eq,
                b,
                "ExactNumBottomBlobs() == bottom.size()",
                "takes {} bottom blob(s) as input.",
            ),
            (
                self.min_bottoms,
                check_le,
                b,
                "MinBottomBlobs() <= bottom.size()",
                "takes at least {} bottom blob(s) as input.",
            ),
            (
                self.max_bottoms,
                check_ge,
                b,
                "MaxBottomBlobs() >= bottom.size()",
                "takes at most {} bottom blob(s) as input.",
            ),
            (
                self.exact_tops,
                check_eq,
                t,
                "ExactNumTopBlobs() == top.size()",
                "produces {} top blob(s) as output.",
            ),
            (
                self.min_tops,
                check_le,
                t,
                "MinTopBlobs() <= top.size()",
                "produces at least {} top blob(s) as output.",
            ),
            (
                self.max_tops,
                check_ge,
                t,
                "MaxTopBlobs() >= top.size()",
                "produces at most {} top blob(s) as output.",
            ),
        )
        for bound, rule, count, expression, words in rules:
            if bound is not None:
                rule(
                    bound,
                    count,
                    expression,
                    f"{kind} Layer {words.format(bound)} (layer '{self.name}' has {count})",
                )
        if self.equal_bottoms_tops:
            words = f"{kind} Layer produces one top blob as output for each bottom blob input. (layer '{self.name}')"
            check(b == t, f"bottom.size() == top.size() ({b} vs. {t})", words)


class LossLayer(Layer):
    """A layer that compares predictions (bottom 0) with labels (bottom 1) and gives one number."""

    exact_bottoms = 2
    exact_tops = 1
    auto_tops = True
    is_loss = True

    def reshape(self, bottom, top):
        self.refuse_in_place(bottom, top)
        first, second = bottom[0].shape[:1], bottom[1].shape[:1]
        check(
            first == second,
            f"bottom[0]->shape(0) == bottom[1]->shape(0) ({first[0] if first else 1} vs. {second[0] if second else 1})",
            f"The data and label should have the same first dimension. (layer '{self.name}')",
        )
        top[0].reshape(())

    def allow_force_backward(self, bottom_index):
        return bottom_index != 1

    def refuse_label_gradient(self, propagate_down):
        if propagate_down[1]:
            check(
                False,
                "!propagate_down[1]",
                f"{self.type} Layer cannot backpropagate to label inputs. (layer '{self.name}')",
            )
