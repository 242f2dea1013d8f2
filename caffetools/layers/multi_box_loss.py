"""MultiBoxLoss, of SSD (Liu et al. 2016): loss = (loc_weight sum of the matches' offsets' losses + sum of the scores'
losses) / norm.

Bottoms: offsets (N, 4 P), or (N, 4 P num_classes) without share_location, scores (N, P num_classes), the P priors of
PriorBox layers (1, 2, 4 P), and the true boxes (1, 1, B, 8): item, label, instance, xmin, ymin, xmax, ymax, difficult.

Each true box is matched with the prior (or, without use_prior_for_matching, the predicted box) that it overlaps most,
in the order of the overlaps; with PER_PREDICTION every other prior as well with the true box that it overlaps most, if
by overlap_threshold. The offsets of a match should be those of its true box (smooth L1 or L2), its scores say the label
(softmax or logistic). Unmatched priors are the background, of which mining_type says which count:

    NONE          all of them
    MAX_NEGATIVE  neg_pos_ratio times as many as there are matches: of those that overlap less than neg_overlap the ones
                  whose scores have the largest losses
    HARD_EXAMPLE  the sample_size priors with the largest losses of offsets and scores, be they matched or not; other
                  matches are given up

With nms_param the priors that overlap one with a larger loss are passed over: the predicted boxes, or with
use_prior_for_nms the priors themselves. Without share_location, which goes with NONE alone, each class has offsets.

norm: VALID (the default) the matches, FULL N P, BATCH_SIZE N, NONE 1; never below 1.
"""

from __future__ import annotations

import numpy as np

from caffetools.glog import check, check_eq, check_gt, fatal
from caffetools.layer import LossLayer
from caffetools.parts.boxes import DECODE, ENCODE, overlaps, suppress
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
        self.box_sets = 1 if param.share_location else self.classes
        mining = param.mining_type
        if param.HasField("do_neg_mining"):
            words = f"do_neg_mining and mining_type say different things {where}"
            agree = not param.HasField("mining_type") or param.do_neg_mining == (mining != Param.NONE)
            check(agree, "do_neg_mining == (mining_type != NONE)", words)
            mining = mining if param.do_neg_mining else Param.NONE
        self.mining = mining
        self._check_mining(param, where)
        words = f"objects of one kind and the background are 2 classes {where}"
        check(not param.map_object_to_agnostic or self.classes == 2, "num_classes_ == 2", words)
        self.encode, self.decode = ENCODE[param.code_type], DECODE[param.code_type]
        self.normalization = normalization(self.param.loss_param)
        self.softmax = param.conf_loss_type == Param.SOFTMAX
        self.smooth = param.loc_loss_type == Param.SMOOTH_L1

    def _check_mining(self, param, where):
        if self.mining != Param.NONE:
            words = f"Currently only support negative mining if share_location is true. {where}"
            check(param.share_location, "share_location_", words)
        else:
            words = f"boxes of each class are matched by their priors {where}"
            check(param.share_location or param.use_prior_for_matching, "use_prior_for_matching", words)
        is_hard = self.mining == Param.HARD_EXAMPLE
        words = f"sample_size counts the examples of HARD_EXAMPLE {where}"
        check(is_hard or not param.HasField("sample_size"), "mining_type == HARD_EXAMPLE", words)
        check_gt(param.sample_size, 0, "sample_size > 0", where)
        nms, words = param.nms_param, f"nms_param is for examples that are chosen {where}"
        check(not param.HasField("nms_param") or self.mining != Param.NONE, "mining_type != NONE", words)
        check(not nms.HasField("eta"), "!has_eta()", f"the threshold for examples does not shrink {where}")
        words = f"use_prior_for_nms needs an nms_param with a threshold {where}"
        self.nms_threshold = nms.nms_threshold if param.HasField("nms_param") else 0
        check(not param.use_prior_for_nms or self.nms_threshold > 0, "nms_threshold > 0", words)

    def reshape(self, bottom, top):
        self.refuse_in_place(bottom, top)
        loc, conf, prior, truth = bottom
        where = f"(layer '{self.name}')"
        self.items, self.priors = loc.shape[0], prior.count // 8
        words = f"Number of priors must match number of location predictions. {where}"
        expression = "num_priors_ * loc_classes_ * 4 == bottom[0]->channels()"
        check_eq(self.priors * self.box_sets * 4, loc.count_from(1), expression, words)
        words = f"Number of priors must match number of confidence predictions. {where}"
        check_eq(self.priors * self.classes, conf.count_from(1), "num_priors_ * num_classes_", words)
        check_eq(truth.shape[-1], 8, "bottom[3]->width() == 8", f"a true box has eight numbers {where}")
        top[0].reshape(())

    def allow_force_backward(self, bottom_index):
        return bottom_index < 2

    def forward(self, bottom, top):
        offsets = bottom[0].data.reshape(self.items, self.priors, self.box_sets, 4)
        scores = bottom[1].data.reshape(self.items, self.priors, self.classes)
        priors, variances = bottom[2].data.reshape(2, self.priors, 4)
        # Gradients of the sums; the passes share what they find out about the matches.
        self.d_offsets, self.d_scores = np.zeros_like(offsets), np.zeros_like(scores)
        truth = self._true_boxes(bottom[3].data.reshape(-1, 8))
        total, matches = 0.0, 0
        for item in range(self.items):
            labels, boxes = truth[item]
            match, overlap = self._match(priors, variances, offsets[item, :, 0], boxes)
            matched = np.flatnonzero(match >= 0)
            target = np.full(self.priors, self.background)
            target[matched] = labels[match[matched]]
            sets = target[matched] if self.box_sets > 1 else np.zeros(len(matched), int)
            moves = offsets[item, matched, sets]
            offset_losses, slopes = self._offset_losses(moves, priors, variances, boxes[match[matched]], matched)
            score_losses, errors = self._score_losses(scores[item], target)
            losses = score_losses.copy()
            if self.mining == Param.HARD_EXAMPLE:
                losses[matched] += offset_losses
            stays, counted = self._mined(losses, match, overlap, priors, variances, offsets[item, :, 0])
            kept = stays[matched]
            weight = self.param.multibox_loss_param.loc_weight
            self.d_offsets[item, matched[kept], sets[kept]] = weight * slopes[kept]
            self.d_scores[item, counted] = errors[counted]
            total += weight * float(offset_losses[kept].sum(dtype=np.float64))
            total += float(score_losses[counted].sum(dtype=np.float64))
            matches += int(kept.sum())
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

    def _offset_losses(self, moves, priors, variances, boxes, matched):
        """Return the loss of each match's offsets, and the gradients of these."""
        wanted = self.encode(priors[matched], boxes)
        if not self.param.multibox_loss_param.encode_variance_in_target:
            wanted = wanted / variances[matched]
        d = moves - wanted
        losses, slopes = d * d / 2, d
        if self.smooth:
            near = np.abs(d) < 1
            losses, slopes = np.where(near, losses, np.abs(d) - 0.5), np.where(near, d, np.sign(d))
        return losses.sum(axis=1), slopes

    def _score_losses(self, scores, target):
        """Return the loss of each prior's scores for the class that it should be, and the gradients of these."""
        wanted = np.zeros_like(scores)
        wanted[np.arange(self.priors), target] = 1
        if self.softmax:
            given = _softmax(scores)
            return -np.log(np.maximum(given[wanted > 0], LOG_MIN)), given - wanted
        given = 1 / (1 + np.exp(-scores))
        losses = np.maximum(scores, 0) - scores * wanted + np.log1p(np.exp(-np.abs(scores)))
        return losses.sum(axis=1), given - wanted

    def _mined(self, losses, match, overlap, priors, variances, offsets):
        """Return which matches stay, and which priors' scores count, as masks of the priors."""
        param, positive = self.param.multibox_loss_param, match >= 0
        if self.mining == Param.NONE:
            return positive, np.full(self.priors, True)
        if self.mining == Param.HARD_EXAMPLE:
            candidates, count = np.arange(self.priors), param.sample_size
        else:
            candidates = np.flatnonzero((match == -1) & (overlap < param.neg_overlap))
            count = int(positive.sum() * param.neg_pos_ratio)
        order = candidates[np.argsort(-losses[candidates], kind="stable")]
        if self.nms_threshold > 0:
            boxes = priors if param.use_prior_for_nms else self.decode(priors, self._moves(offsets, variances))
            if param.nms_param.HasField("top_k"):
                order = order[: max(0, param.nms_param.top_k)]
            order = order[suppress(boxes[order], losses[order], self.nms_threshold)]
        chosen = np.full(self.priors, False)
        chosen[order[:count]] = True
        stays = positive & chosen if self.mining == Param.HARD_EXAMPLE else positive
        return stays, stays | (chosen & (match == -1))

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
