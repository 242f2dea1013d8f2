"""DetectionOutput, of SSD (Liu et al. 2016): from offsets and scores to detections.

Bottoms: offsets (N, 4 P), or (N, 4 P num_classes) without share_location, scores (N, P num_classes), and the P priors
of PriorBox layers (1, 2, 4 P). The top is (1, 1, D, 7), a detection a row: the item, the class, the score, and xmin,
ymin, xmax, ymax. Rows are in order of item, class and falling score; where nothing is found there is a row of -1 for
each item.

For each class but the background the boxes with a score above confidence_threshold, the nms_param.top_k best, are freed
of those that overlap a better one by more than nms_threshold; of all classes' the keep_top_k best stay. No gradient.
"""

from __future__ import annotations

import numpy as np

from caffetools.glog import check, check_eq, check_ge, check_gt
from caffetools.layer import Layer
from caffetools.parts.boxes import DECODE, suppress


class DetectionOutputLayer(Layer):
    refuses = {
        "detection_output_param": {
            "save_file": "Save the top, for example by an HDF5Output layer",
            **dict.fromkeys(("visualize", "visualize_threshold"), "Draw the boxes of the top instead"),
        }
    }
    exact_bottoms = 3
    exact_tops = 1
    backward_reads = ()
    reshape_every_forward = True

    def setup(self, bottom, top):
        param, where = self.param.detection_output_param, f"(layer '{self.name}')"
        check_gt(param.num_classes, 0, "num_classes > 0", f"Must specify num_classes {where}")
        self.classes, self.background = param.num_classes, param.background_label_id
        self.box_sets = 1 if param.share_location else self.classes
        self.decode, self.in_target = DECODE[param.code_type], param.variance_encoded_in_target
        self.threshold = param.confidence_threshold if param.HasField("confidence_threshold") else -np.inf
        nms = param.nms_param
        check_ge(nms.nms_threshold, 0, "nms_threshold >= 0", f"nms_threshold must be non negative. {where}")
        words = f"eta is a factor above 0, at most 1 {where}"
        check(0 < nms.eta <= 1, "eta > 0 && eta <= 1", words)
        self.nms_threshold, self.eta = nms.nms_threshold, nms.eta
        self.top_k = nms.top_k if nms.HasField("top_k") else -1
        self.keep_top_k = param.keep_top_k
        # Without a folder SSD saves nothing, whatever else the message says.
        words = f"it saves no detections. Save the top, for example by an HDF5Output layer {where}"
        check(not param.save_output_param.output_directory, "output_directory.empty()", words)

    def reshape(self, bottom, top):
        loc, conf, prior = bottom
        where = f"(layer '{self.name}')"
        self.priors = prior.count // 8
        check_eq(prior.shape[1], 2, "bottom[2]->channels() == 2", f"priors and variances {where}")
        words = f"Number of priors must match number of location predictions. {where}"
        check_eq(self.priors * self.box_sets * 4, loc.count_from(1), "num_priors_ * num_loc_classes_ * 4", words)
        words = f"Number of priors must match number of confidence predictions. {where}"
        check_eq(self.priors * self.classes, conf.count_from(1), "num_priors_ * num_classes_", words)
        top[0].reshape((1, 1, 1, 7))

    def forward(self, bottom, top):
        items = bottom[0].shape[0]
        offsets = bottom[0].data.reshape(items, self.priors, self.box_sets, 4)
        scores = bottom[1].data.reshape(items, self.priors, self.classes)
        priors, variances = bottom[2].data.reshape(2, self.priors, 4)
        found = []
        for item in range(items):
            moves = offsets[item] if self.in_target else offsets[item] * variances[:, None]
            boxes = [self.decode(priors, moves[:, i]) for i in range(self.box_sets)]
            found.append(self._detections(item, boxes, scores[item]))
        rows = np.concatenate(found)
        if not len(rows):
            rows = np.full((items, 7), -1, self.dtype)
            rows[:, 0] = np.arange(items)
        top[0].reshape((1, 1, len(rows), 7))
        top[0].data[0, 0] = rows

    def _detections(self, item, boxes, scores):
        """Return the rows of one item."""
        parts = [np.empty((0, 7), self.dtype)]
        for label in range(self.classes):
            if label == self.background:
                continue
            own, candidates = scores[:, label], boxes[label if self.box_sets > 1 else 0]
            chosen = np.flatnonzero(own > self.threshold)
            chosen = chosen[np.argsort(-own[chosen], kind="stable")]
            if self.top_k >= 0:
                chosen = chosen[: self.top_k]
            if not len(chosen):
                continue
            chosen = chosen[suppress(candidates[chosen], own[chosen], self.nms_threshold, self.eta)]
            rows = np.empty((len(chosen), 7), self.dtype)
            rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3:] = item, label, own[chosen], candidates[chosen]
            parts.append(rows)
        rows = np.concatenate(parts)
        if 0 <= self.keep_top_k < len(rows):
            rows = rows[np.sort(np.argsort(-rows[:, 2], kind="stable")[: self.keep_top_k])]
        return rows
