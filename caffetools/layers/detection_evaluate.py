"""DetectionEvaluate, of SSD (Liu et al. 2016): which detections are right.

Bottoms: detections as DetectionOutput has them (1, 1, D, 7), and true boxes (1, 1, B, 8) as MultiBoxLoss takes them.
The top is (1, 1, rows, 5). A row for each class but the background comes first: -1, the class, the number of its true
boxes, -1, -1. Then one for each detection, in order of item, class and falling score: item, class, score, 1 if it is
right, 1 if it is wrong. Both are 0 for detections that do not count. A solver with `eval_type: "detection"` makes
mean average precisions of these.

A detection is right if the true box of its class that it overlaps most is overlapped by overlap_threshold or more,
and no better detection has had that box. Without evaluate_difficult_gt difficult boxes are not counted, nor are
detections of them. With name_size_file, lines of "name height width" in the order of the pictures, overlaps are those
of whole pixels: a box of one pixel has the width 1.
"""

from __future__ import annotations

import numpy as np

from caffetools.formats.files import read_bytes
from caffetools.glog import check, check_eq, check_gt, fatal
from caffetools.layer import Layer
from caffetools.parts.boxes import overlaps
from caffetools.proto import caffe_pb2


class DetectionEvaluateLayer(Layer):
    exact_bottoms = 2
    exact_tops = 1
    backward_reads = ()
    reshape_every_forward = True

    def setup(self, bottom, top):
        param, where = self.param.detection_evaluate_param, f"(layer '{self.name}')"
        check_gt(param.num_classes, 0, "num_classes > 0", f"Must provide num_classes. {where}")
        check_gt(param.overlap_threshold, 0, "overlap_threshold_ > 0", f"overlap_threshold must be positive. {where}")
        words = f"pictures that were padded or cut have other boxes: only WARP {where}"
        is_warp = param.resize_param.resize_mode == caffe_pb2.ResizeParameter.WARP
        check(not param.HasField("resize_param") or is_warp, "resize_mode == WARP", words)
        self.labels = [label for label in range(param.num_classes) if label != param.background_label_id]
        self.sizes = read_sizes(param.name_size_file) if param.name_size_file else []
        self.picture = 0  # of those in name_size_file

    def reshape(self, bottom, top):
        where = f"(layer '{self.name}')"
        check_eq(bottom[0].shape[-1], 7, "bottom[0]->width() == 7", f"a detection has seven numbers {where}")
        check_eq(bottom[1].shape[-1], 8, "bottom[1]->width() == 8", f"a true box has eight numbers {where}")
        top[0].reshape((1, 1, len(self.labels) + bottom[0].count // 7, 5))

    def forward(self, bottom, top):
        found = bottom[0].data.reshape(-1, 7)
        found, truth = found[found[:, 1] != -1], bottom[1].data.reshape(-1, 8)
        truth = truth[truth[:, 0] != -1]
        self._check_labels(np.concatenate([found[:, 1], truth[:, 1]]))
        hard = truth[:, 7] != 0
        counted = np.full(len(truth), True) if self._all_count else ~hard
        rows = [(-1, label, np.sum(counted & (truth[:, 1] == label)), -1, -1) for label in self.labels]
        for item in np.unique(found[:, 0]):
            size = self._next_size()
            for label in self.labels:
                of_class = (found[:, 0] == item) & (found[:, 1] == label)
                is_true = (truth[:, 0] == item) & (truth[:, 1] == label)
                rows += self._judged(found[of_class], truth[is_true, 3:7], hard[is_true], size)
        top[0].reshape((1, 1, len(rows), 5))
        top[0].data[0, 0] = rows

    @property
    def _all_count(self):
        return self.param.detection_evaluate_param.evaluate_difficult_gt

    def _check_labels(self, labels):
        wrong = labels[~np.isin(labels, self.labels)]
        if len(wrong):
            param = self.param.detection_evaluate_param
            fatal(
                f"A box of class {wrong[0]:g}: there are classes 0 to {param.num_classes - 1}, and "
                f"{param.background_label_id} is the background (layer '{self.name}')"
            )

    def _next_size(self):
        """Return height and width of the next picture. SSD counts those alone in which something was detected."""
        if not self.sizes:
            return None
        size = self.sizes[self.picture]
        self.picture = (self.picture + 1) % len(self.sizes)
        return size

    def _judged(self, found, boxes, hard, size):
        """Return the rows of the detections of one class in one picture."""
        found = found[np.argsort(-found[:, 2], kind="stable")]
        table = overlaps(_in_pixels(found[:, 3:], size), _in_pixels(boxes, size))
        had = np.full(len(boxes), False)
        rows = []
        for detection, line in zip(found, table, strict=True):
            best = int(np.argmax(line)) if len(line) else -1
            meets = best >= 0 and line[best] >= self.param.detection_evaluate_param.overlap_threshold
            right = meets and not had[best]
            counts = not meets or self._all_count or not hard[best]
            if meets and counts:
                had[best] = True
            rows.append((*detection[:3], float(counts and right), float(counts and not right)))
        return rows


def _in_pixels(boxes, size):
    """Return boxes within the picture, in pixels of which the last belongs to the box, if sizes are known."""
    if size is None:
        return boxes
    height, width = size
    boxes = np.clip(boxes, 0, 1) * np.array([width, height, width, height], boxes.dtype)
    return boxes + np.array([0, 0, 1, 1], boxes.dtype)


def read_sizes(path: str) -> list[tuple[int, int]]:
    """Read heights and widths from lines of "name height width". Errors: FatalError that names file and line."""
    sizes = []
    for number, line in enumerate(read_bytes(path).decode("utf-8", "replace").splitlines(), 1):
        try:
            _, height, width = line.rsplit(maxsplit=2)
            sizes.append((int(height), int(width)))
        except ValueError:
            fatal(f'{path}:{number}: a line is "name height width", not "{line}"')
    if not sizes:
        fatal(f"{path} has no lines")
    return sizes
