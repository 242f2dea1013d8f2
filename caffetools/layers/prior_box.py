"""PriorBox, of SSD (Liu et al. 2016): the boxes that detections start from, some around each pixel of a feature map.

Bottoms: the features (N, C, H, W), and the picture. Around the centre ((w + offset) step_w, (h + offset) step_h) of
every pixel lie, for each min_size s: the square s, the square sqrt(s max_size) if there is one, and for each other
aspect ratio r (and 1 / r with `flip`) the box s sqrt(r) x s / sqrt(r). The steps are those of the picture's size over
H and W unless they are given.

The top is (1, 2, 4 H W P): in channel 0 the corners xmin, ymin, xmax, ymax as shares of the picture's sides, in channel
1 the four variances of every box (0.1 unless given).
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from caffetools.glog import check, check_gt
from caffetools.layer import Layer


class PriorBoxLayer(Layer):
    exact_bottoms = 2
    exact_tops = 1
    backward_reads = ()

    def setup(self, bottom, top):
        param, where = self.param.prior_box_param, f"(layer '{self.name}')"
        check_gt(len(param.min_size), 0, "prior_box_param.min_size_size() > 0", f"must provide min_size. {where}")
        words = f"max_size goes with min_size, one for each {where}"
        check(len(param.max_size) in (0, len(param.min_size)), "max_size_size() == min_size_size()", words)
        for low, high in zip(param.min_size, param.max_size, strict=False):
            check_gt(high, low, "max_size > min_size", f"max_size must be greater than min_size. {where}")
        check_gt(min(param.min_size), 0, "min_size > 0", f"min_size must be positive. {where}")
        check(min(param.aspect_ratio, default=1) > 0, "aspect_ratio > 0", f"ratios are positive {where}")
        self.shapes = self._box_shapes(param)
        words = f"none, one or four {where}"
        check(len(param.variance) in (0, 1, 4), "variance_size() in (0, 1, 4)", words)
        check(min(param.variance, default=1) > 0, "variance > 0", f"variances are positive {where}")
        variance = list(param.variance) or [0.1]
        self.variances = variance * 4 if len(variance) == 1 else variance
        self.image = self._pair("img", "img_size", where)
        self.step = self._pair("step", "step", where)

    def _box_shapes(self, param):
        """Return width and height of the boxes around a pixel, in their order."""
        ratios = [1.0]
        for ratio in param.aspect_ratio:
            for r in (ratio, 1 / ratio)[: 1 + param.flip]:
                if all(abs(r - known) >= 1e-6 for known in ratios):
                    ratios.append(r)
        shapes = []
        for i, size in enumerate(param.min_size):
            shapes.append((size, size))
            if param.max_size:
                side = sqrt(size * param.max_size[i])
                shapes.append((side, side))
            shapes += [(size * sqrt(r), size / sqrt(r)) for r in ratios[1:]]
        return np.array(shapes)

    def _pair(self, stem, both, where):
        """Return what the settings say for height and width, or None."""
        param = self.param.prior_box_param
        names = [f"{stem}_{axis}" for axis in "hw"]
        given = [param.HasField(name) for name in names]
        check(given[0] == given[1], f"has_{names[0]}() == has_{names[1]}()", f"they go together {where}")
        check(not (param.HasField(both) and given[0]), f"!has_{both}()", f"{both} or {' and '.join(names)} {where}")
        if param.HasField(both):
            return (getattr(param, both),) * 2
        return tuple(getattr(param, name) for name in names) if given[0] else None

    def reshape(self, bottom, top):
        height, width = bottom[0].shape[2:]
        top[0].reshape((1, 2, height * width * len(self.shapes) * 4))
        sides = self.image or bottom[1].shape[2:]
        steps = self.step or tuple(side / size for side, size in zip(sides, (height, width), strict=True))
        offset = self.param.prior_box_param.offset
        y, x = ((np.arange(size) + offset) * step for size, step in zip((height, width), steps, strict=True))
        centres = np.stack(np.meshgrid(x, y), axis=-1)[:, :, None]  # (H, W, 1, 2)
        boxes = np.concatenate([centres - self.shapes / 2, centres + self.shapes / 2], axis=-1)
        boxes /= [sides[1], sides[0], sides[1], sides[0]]
        if self.param.prior_box_param.clip:
            np.clip(boxes, 0, 1, out=boxes)
        variances = np.broadcast_to(self.variances, boxes.shape)
        self.values = np.stack([boxes.reshape(-1), variances.reshape(-1)]).astype(self.dtype)

    def forward(self, bottom, top):
        top[0].data[0] = self.values
