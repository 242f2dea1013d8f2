"""MultiBoxLoss, of SSD (Liu et al. 2016): loss = (loc_weight sum of the matches' offsets' losses + sum of the scores'
losses) / norm.

Bottoms: offsets (N, 4 P), scores (N, P num_classes), the P priors of PriorBox layers (1, 2, 4 P), and the true boxes
(1, 1, B, 8): item, label, instance, xmin, ymin, xmax, ymax, difficult.

Each true box is matched with the prior (or, without use_prior_for_matching, the predicted box) that it overlaps most,
in the order of the overlaps; with PER_PREDICTION every other prior as well with the true box that it overlaps most, if
by overlap_threshold. The offsets of a match should be those of its true box (smooth L1 or L2), its scores say the label
(softmax or logistic). Unmatched priors are the background: all of them, or with MAX_NEGATIVE the neg_pos_ratio times as
many as there are matches whose background's softmax is worst, of those that overlap less than neg_overlap.

norm: VALID (the default) the matches, FULL N P, BATCH_SIZE N, NONE 1; never below 1.
"""

from __future__ import annotations

import numpy as np

from caffetools.glog import check, check_eq, check_gt, fatal
from caffetools.layer import LossLayer
from caffetools.parts.boxes import DECODE, ENCODE, overlaps
from caffetools.parts.loss import SOFT_TARGETS, normalization
from caffetools.proto import caffe_pb2

Param = caffe_pb2.MultiBoxLossParameter
#: Overlaps below this are none.
TOUCH = 1e-6
LOG_MIN = float(np.finfo(np.float32).tiny)


class MultiBoxLossLayer(LossLayer):
    reads = ("multibox_loss_param", "loss_param")
    refuses = {
        "multibox_loss_param": {
            **dict.fromkeys(("nms_param", "sample_size", "use_prior_for_nms"), "It is for mining_type HARD_EXAMPLE"),
            "bp_inside": "Leave it out: offsets are learnt wherever boxes lie",
        },
        "loss_param": dict.fromkeys((*SOFT_TARGETS, "ignore_label"), "It is for SoftmaxWithLoss"),
    }
    exact_bottoms = 4
    backward_reads = ()

    def setup(self, bottom, top):
        param, where = self.param.multibox_loss_param, f"(layer '{self.name}')"
        check_gt(param.num_classes, 0, "num_classes_ >= 1", f"num_classes should not be less than 1. {where}")
        self.classes, self.background = param.num_classes, param.background_label_id
        words = f"with share_location: false there would be boxes for each class, which are not learnt here {where}"
        check(param.share_location, "share_location_", words)
        mining = param.mining_type
        if param.HasField("do_neg_mining"):
            words = f"do_neg_mining and mining_type say different things {where}"
            agree = not param.HasField("mining_type") or param.do_neg_mining == (mining != Param.NONE)
            check(agree, "do_neg_mining == (mining_type != NONE)", words)
            mining = mining if param.do_neg_mining else Param.NONE
        words = f"HARD_EXAMPLE is not there; MAX_NEGATIVE chooses the hardest negatives {where}"
        check(mining != Param.HARD_EXAMPLE, "mining_type != HARD_EXAMPLE", words)
        self.mines = mining == Param.MAX_NEGATIVE
        words = f"objects of one kind and the background are 2 classes {where}"
        check(not param.map_object_to_agnostic or self.classes == 2, "num_classes_ == 2", words)
        self.encode, self.decode = ENCODE[param.code_type], DECODE[param.code_type]
        self.normalization = normalization(self.param.loss_param)
        self.softmax = param.conf_loss_type == Param.SOFTMAX
        self.smooth = param.loc_loss_type == Param.SMOOTH_L1

    def reshape(self, bottom, top):
        self.refuse_in_place(bottom, top)
        loc, conf, prior, truth = bottom
        where = f"(layer '{self.name}')"
        self.items, self.priors = loc.shape[0], prior.count // 8
        words = f"Number of priors must match number of location predictions. {where}"
        check_eq(self.priors * 4, loc.count_from(1), "num_priors_ * loc_classes_ * 4 == bottom[0]->channels()", words)
        words = f"Number of priors must match number of confidence predictions. {where}"
        check_eq(self.priors * self.classes, conf.count_from(1), "num_priors_ * num_classes_", words)
        check_eq(truth.shape[-1], 8, "bottom[3]->width() == 8", f"a true box has eight numbers {where}")
        top[0].reshape(())

    def allow_force_backward(self, bottom_index):
        return bottom_index < 2

    def forward(self, bottom, top):
        offsets = bottom[0].data.reshape(self.items, self.priors, 4)
        scores = bottom[1].data.reshape(self.items, self.priors, self.classes)
        priors, variances = bottom[2].data.reshape(2, self.priors, 4)
        # Gradients of the sums; the passes share what they find out about the matches.
        self.d_offsets, self.d_scores = np.zeros_like(offsets), np.zeros_like(scores)
        truth = self._true_boxes(bottom[3].data.reshape(-1, 8))
        total, matches = 0.0, 0
        for item in range(self.items):
            labels, boxes = truth[item]
            match, overlap = self._match(priors, variances, offsets[item], boxes)
            matched = np.flatnonzero(match >= 0)
            matches += len(matched)
            total += self._offset_loss(item, offsets[item], priors, variances, boxes[match[matched]], matched)
            total += self._score_loss(item, scores[item], labels, match, overlap)
        self.norm = self.normalization(self.items, self.priors, matches)
        top[0].flat_data[0] = total / self.norm

    def _true_boxes(self, rows):
        """Return labels and boxes for each item."""
        param = self.param.multibox_loss_param
        found = [([], []) for _ in range(self.items)]
        for row in rows:
            if row[0] == -1:
                continue  # a row that fills up the blob
            item, label = int(row[0]), int(row[1])
            if not 0 <= item < self.items or not 0 <= label < self.classes or label == self.background:
                fatal(
                    f"true box of item {row[0]:g} with label {row[1]:g}: there are {self.items} items, and classes 0 "
                    f"to {self.classes - 1} with the background {self.background} (layer '{self.name}')"
                )
            if param.use_difficult_gt or not row[7]:
                found[item][0].append(self.background + 1 if param.map_object_to_agnostic else label)
                found[item][1].append(row[3:7])
        return [(np.array(labels, int), np.array(boxes, self.dtype).reshape(-1, 4)) for labels, boxes in found]

    def _match(self, priors, variances, offsets, boxes):
        """Return the true box of each prior, -1 for none and -2 for priors left out, and its largest overlap."""
        param = self.param.multibox_loss_param
        predicted = priors
        if not param.use_prior_for_matching:
            predicted = self.decode(priors, self._moves(offsets, variances))
        match = np.full(self.priors, -1)
        if param.ignore_cross_boundary_bbox:
            match[(priors[:, :2] < 0).any(axis=1) | (priors[:, 2:] > 1).any(axis=1)] = -2
        if not len(boxes):
            return match, np.zeros(self.priors)
        table = overlaps(predicted, boxes).astype(np.float64)
        table[match == -2] = 0
        table[table <= TOUCH] = 0
        left = table.copy()
        for _ in range(len(boxes)):
            prior, box = np.unravel_index(np.argmax(left), left.shape)
            if left[prior, box] <= 0:
                break
            match[prior] = box
            left[prior] = left[:, box] = 0
        largest = table.max(axis=1)
        if param.match_type == Param.PER_PREDICTION:
            more = (match == -1) & (largest >= param.overlap_threshold) & (largest > 0)
            match[more] = np.argmax(table[more], axis=1)
        return match, largest

    def _moves(self, offsets, variances):
        return offsets if self.param.multibox_loss_param.encode_variance_in_target else offsets * variances

    def _offset_loss(self, item, offsets, priors, variances, boxes, matched):
        param = self.param.multibox_loss_param
        wanted = self.encode(priors[matched], boxes)
        if not param.encode_variance_in_target:
            wanted = wanted / variances[matched]
        d = offsets[matched] - wanted
        if self.smooth:
            near = np.abs(d) < 1
            losses, slopes = np.where(near, d * d / 2, np.abs(d) - 0.5), np.where(near, d, np.sign(d))
        else:
            losses, slopes = d * d / 2, d
        self.d_offsets[item, matched] = param.loc_weight * slopes
        return param.loc_weight * float(losses.sum(dtype=np.float64))

    def _score_loss(self, item, scores, labels, match, overlap):
        target = np.full(self.priors, self.background)
        positive = match >= 0
        target[positive] = labels[match[positive]]
        probability = _softmax(scores)
        counted = np.ones(self.priors, bool)
        if self.mines:
            param = self.param.multibox_loss_param
            worth = -np.log(np.maximum(probability[:, self.background], LOG_MIN))
            candidates = np.flatnonzero((match == -1) & (overlap < param.neg_overlap))
            count = min(len(candidates), int(positive.sum() * param.neg_pos_ratio))
            hardest = candidates[np.argsort(-worth[candidates], kind="stable")[:count]]
            counted = positive
            counted[hardest] = True
        rows = np.flatnonzero(counted)
        wanted = np.zeros((len(rows), self.classes), scores.dtype)
        wanted[np.arange(len(rows)), target[rows]] = 1
        if self.softmax:
            given = probability[rows]
            losses = -np.log(np.maximum(given[wanted > 0], LOG_MIN))
        else:
            x = scores[rows]
            given = 1 / (1 + np.exp(-x))
            losses = np.maximum(x, 0) - x * wanted + np.log1p(np.exp(-np.abs(x)))
        self.d_scores[item, rows] = given - wanted
        return float(losses.sum(dtype=np.float64))

    def backward(self, top, propagate_down, bottom):
        words = f"MultiBoxLoss cannot backpropagate to priors and true boxes (layer '{self.name}')"
        check(not any(propagate_down[2:]), "!propagate_down[2] && !propagate_down[3]", words)
        weight = top[0].flat_diff[0] / self.dtype.type(self.norm)
        for blob, wanted, gradient in zip(bottom, propagate_down, (self.d_offsets, self.d_scores), strict=False):
            if wanted:
                np.multiply(gradient.reshape(-1), weight, out=blob.flat_diff)


def _softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)
