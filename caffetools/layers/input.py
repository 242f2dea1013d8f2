"""Input: tops of given shapes that the program fills; a forward pass leaves them as they are.

At first they are zero.
"""

from __future__ import annotations

from caffetools.glog import check
from caffetools.layer import Layer


class InputLayer(Layer):
    exact_bottoms = 0
    min_tops = 1

    def setup(self, bottom, top):
        shapes = self.param.input_param.shape
        check(
            len(shapes) in (0, 1, len(top)),
            "num_shape == 0 || num_shape == 1 || num_shape == num_top",
            f"Must specify 'shape' once, once per top blob, or not at all: {len(top)} tops vs. "
            f"{len(shapes)} shapes. (layer '{self.name}')",
        )
        for i, blob in enumerate(top):
            if shapes:
                blob.reshape(shapes[i if len(shapes) > 1 else 0].dim)

    def reshape(self, bottom, top):
        """Nothing to do: whoever fills the tops may give them other shapes."""

    def forward(self, bottom, top):
        """Nothing to do: the tops are filled from outside."""

    def backward(self, top, propagate_down, bottom):
        """Nothing to do: there is no bottom."""
