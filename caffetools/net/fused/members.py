"""What all fused steps have in common: their layers by type, and the numbers that these hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from caffetools.blob import Blob
from caffetools.layer import Layer
from caffetools.net.fusion import role_of


@dataclass(frozen=True)
class Member:
    """A layer of a step: its blobs, for which bottoms the net wants gradients, and whether it wants any."""

    layer: Layer
    bottoms: list[Blob]
    tops: list[Blob]
    propagate_down: list[bool]
    needs_backward: bool


class FusedStep:
    """The layers from index `first` to `last`, as one. Their shapes are those that their `reshape` has given.

    ran: whether the last forward pass ran them fused. goes_backward: whether the backward pass is fused then as well;
    if not, the layers go backward one by one. prepares: the last layer that must know its shapes before this step runs.
    """

    goes_backward = False

    def __init__(self, first: int, last: int, members: Sequence[Member]):
        self.first, self.last, self.members = first, last, members
        self.ran, self.prepares = False, last
        self.bottom, self.top = members[0].bottoms[0], members[-1].tops[0]
        self.dtype = members[0].layer.dtype
        by_role = {role_of(member.layer): member for member in members}
        self.convolution, self.batch_norm, self.scale, self.eltwise, self.relu = (
            by_role.get(name) for name in ("Convolution", "BatchNorm", "Scale", "Eltwise", "ReLU")
        )
        self.slope = 1.0 if self.relu is None else self.relu.layer.negative_slope
        #: Which bottom of the sum the chain does not bring.
        self.other = None
        if self.eltwise is not None and self.eltwise is not members[0]:
            chain_top = members[members.index(self.eltwise) - 1].tops[0]
            self.other = 1 if self.eltwise.bottoms[0] is chain_top else 0

    @property
    def residual(self) -> np.ndarray | None:
        """What the sum adds to the chain, flat."""
        return None if self.other is None else self.eltwise.bottoms[self.other].flat_data

    def unwritten(self) -> list[Blob]:
        """Return the blobs whose data fused passes leave out: those between the layers, and copies that these keep."""
        between = [top for member in self.members[:-1] for top in member.tops if top is not self.top]
        return between + [blob for member in self.members for blob in member.layer.kept()]

    def written(self) -> list[Blob]:
        """Return the tops of other layers that a fused pass writes data into."""
        return []

    def read_backward(self) -> list[Blob]:
        """Return the blobs whose data fused passes read backward, though no layer of the step says so."""
        return []

    def scale_and_shift(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the parameters of the Scale layer, for reading."""
        layer = self.scale.layer
        return layer.blobs[0].cpu_data, layer.blobs[1].cpu_data if layer.has_bias else layer.no_bias

    def forward(self) -> None:
        """Compute what the last layer gives from what the first one gets."""
        raise NotImplementedError

    def backward(self) -> None:
        """Compute the gradients of all layers, if the step `goes_backward`."""
        raise NotImplementedError

    def part(self) -> None:
        """Leave everything as if the layers had run forward one by one, so that they can go backward so."""
        raise NotImplementedError
