"""DummyData: tops filled by fillers, for trials without data.

Constant tops are filled once, the others anew in every forward pass. Shapes come from `shape`, or from the
legacy num, channels, height and width; each of these and of the fillers is given once, or once for each top.
"""

from __future__ import annotations

import numpy as np

from caffetools import filler
from caffetools.engine.cpu.rng import mix
from caffetools.glog import check, check_eq
from caffetools.layer import Layer
from caffetools.proto import caffe_pb2

LEGACY_SIZES = ("num", "channels", "height", "width")


class DummyDataLayer(Layer):
    exact_bottoms = 0
    min_tops = 1

    def setup(self, bottom, top):
        param = self.param.dummy_data_param
        for blob, shape in zip(top, self._shapes(param, len(top)), strict=True):
            blob.reshape(shape)
        fillers = list(param.data_filler)
        check(
            len(fillers) in (0, 1, len(top)),
            "num_data_filler == 0 || num_data_filler == 1 || num_data_filler == num_top",
            f"Number of data fillers must be 0, 1 or equal to the number of tops: {len(top)}; "
            f"you specified {len(fillers)} data fillers. (layer '{self.name}')",
        )
        if len(fillers) < len(top):
            fillers = (fillers or [caffe_pb2.FillerParameter()]) * len(top)
        self.fillers = fillers
        self.key = int(self.context.random.key())
        self.passes = 0
        self._fill(top, constant=True)

    def _shapes(self, param, tops):
        sizes = [list(getattr(param, field)) for field in LEGACY_SIZES]
        if any(sizes):
            check_eq(
                0,
                len(param.shape),
                "0 == param.shape_size()",
                f"Both shape and legacy fields were specified (layer '{self.name}')",
            )
            for field, given in zip(LEGACY_SIZES, sizes, strict=True):
                self._check_given(field, len(given), tops)
            return list(zip(*(given if len(given) == tops else given * tops for given in sizes), strict=True))
        self._check_given("shape", len(param.shape), tops)
        shapes = [tuple(shape.dim) for shape in param.shape]
        return shapes if len(shapes) == tops else shapes * tops

    def _check_given(self, field, given, tops):
        check(
            given in (1, tops),
            f"param.{field}_size() == 1 || param.{field}_size() == num_top",
            f"Must specify '{field}' once, or once per top blob ({tops}); specified {given}. "
            f"(layer '{self.name}')",
        )

    def _fill(self, top, constant):
        wanted = [
            pair for pair in zip(top, self.fillers, strict=True) if (pair[1].type == "constant") == constant
        ]
        if wanted:
            random = np.random.Generator(np.random.Philox(key=mix(self.key, self.passes)))
            for blob, how in wanted:
                filler.fill(how, blob.data, random)

    def reshape(self, bottom, top):
        """Nothing to do: the shapes are fixed by the prototxt."""

    def forward(self, bottom, top):
        self.passes += 1
        self._fill(top, constant=False)

    def backward(self, top, propagate_down, bottom):
        """Nothing to do: there is no bottom."""

    def get_state(self):
        return {"key": self.key, "passes": self.passes}

    def set_state(self, state):
        self.key, self.passes = state["key"], state["passes"]
