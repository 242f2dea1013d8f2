"""Where in the top of a Concat the values of one of its bottoms go; see `placing`."""

from __future__ import annotations

from caffetools.blob import Blob
from caffetools.layers.concat import extract_columns
from caffetools.net.fused.members import Member


class Place:
    """That of bottom number `bottom` of the Concat layer `concat`.

    masked: whether the bottom's diff is as a ReLU below would leave it.
    """

    def __init__(self, concat: Member, bottom: int):
        self.concat, self.bottom, self.masked = concat, bottom, False

    @property
    def used(self) -> bool:
        """Whether values are written there, with the shapes as they are: not where a bottom is a piece of the top."""
        return self.concat.layer.matrix[0] > 1

    @property
    def whole(self) -> Blob:
        """The top of the Concat."""
        return self.concat.tops[0]

    @property
    def channel(self) -> int:
        """The channel of the top that is the bottom's first."""
        return sum(blob.shape[1] for blob in self.concat.bottoms[: self.bottom])

    def copy_back(self) -> None:
        """Let the bottom have its values too."""
        layer, blob = self.concat.layer, self.concat.bottoms[self.bottom]
        extract_columns(self.whole.flat_data.reshape(layer.matrix), layer.firsts[self.bottom], blob.flat_data)
