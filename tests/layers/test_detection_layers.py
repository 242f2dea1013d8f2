"""The layers of SSD: PriorBox and DetectionOutput beside OpenCV, MultiBoxLoss beside PyTorch's own gradients."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools import upgrade
from caffetools.glog import FatalError
from caffetools.layer import TEST, Context
from caffetools.net import Net
from tests.layers.gradient import SingleLayer, uniform

# OpenCV needs `variance`, and has another default of `clip`.
PRIORS = [
    "min_size: 30 variance: 0.1 clip: false",
    "min_size: 30 max_size: 60 aspect_ratio: 2 variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 clip: false",
    "min_size: 30 max_size: 60 aspect_ratio: 2 aspect_ratio: 3 flip: false clip: true variance: 0.3",
    "min_size: 20 min_size: 40 max_size: 30 max_size: 70 aspect_ratio: 2 step: 16 offset: 0.25 variance: 0.1 "
    "clip: false",
]


@pytest.mark.parametrize("text", PRIORS)
def test_prior_box_is_that_of_opencv(text, tmp_path):
    cv2 = pytest.importorskip("cv2")
    net = f"""
input: "data" input_shape {{ dim: 1 dim: 3 dim: 96 dim: 128 }}
layer {{ name: "conv" type: "Pooling" bottom: "data" top: "features"
  pooling_param {{ pool: AVE kernel_size: 16 stride: 16 }} }}
layer {{ name: "prior" type: "PriorBox" bottom: "features" bottom: "data" top: "prior" prior_box_param {{ {text} }} }}
"""
    path = tmp_path / "net.prototxt"
    path.write_text(net)
    other = cv2.dnn.readNetFromCaffe(str(path))
    other.setInput(np.zeros((1, 3, 96, 128), np.float32))
    expected = other.forward("prior")
    (y,) = SingleLayer(
        f'type: "PriorBox" prior_box_param {{ {text} }}', np.zeros((1, 3, 6, 8)), np.zeros((1, 3, 96, 128))
    ).forward()
    np.testing.assert_allclose(y.reshape(2, -1), expected.reshape(2, -1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must provide min_size"),
        ("min_size: 3 max_size: 2", "greater than min_size"),
        ("min_size: 3 variance: 1 variance: 2", "one or four"),
        ("min_size: 3 step_h: 3", "go together"),
        ("min_size: 3 step: 2 step_h: 3 step_w: 3", "step or step_h and step_w"),
    ],
)
def test_priors_that_are_none(text, message):
    with pytest.raises(FatalError, match=message):
        SingleLayer(f'type: "PriorBox" prior_box_param {{ {text} }}', np.zeros((1, 3, 2, 2)), np.zeros((1, 3, 9, 9)))


CODES = ["CORNER", "CENTER_SIZE"]


def priors(count, seed=5):
    random = np.random.default_rng(seed)
    low = random.uniform(0, 0.6, (count, 2))
    boxes = np.concatenate([low, low + random.uniform(0.1, 0.4, (count, 2))], axis=1)
    variances = np.tile([0.1, 0.1, 0.2, 0.2], (count, 1))
    return np.stack([boxes, variances]).reshape(1, 2, count * 4).astype(np.float32)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("more", ["", "keep_top_k: 5", "confidence_threshold: 0.4", "variance_encoded_in_target: true"])
@pytest.mark.parametrize("share", ["true", "false"])
def test_detection_output_is_that_of_opencv(code, more, share, tmp_path):
    cv2 = pytest.importorskip("cv2")
    count, classes = 24, 3
    sets = 1 if share == "true" else classes
    random = np.random.default_rng(3)
    loc = random.normal(scale=0.5, size=(1, count * sets * 4)).astype(np.float32)
    conf = random.uniform(size=(1, count, classes))
    conf = (conf / conf.sum(axis=2, keepdims=True)).reshape(1, -1).astype(np.float32)
    prior = priors(count)
    confidence = "" if "confidence" in more else "confidence_threshold: 0.05"
    text = (
        f"num_classes: {classes} share_location: {share} background_label_id: 0 code_type: {code} {more} {confidence} "
        "nms_param { nms_threshold: 0.45 top_k: 15 }" + ("" if "keep" in more else " keep_top_k: 100")
    )
    inputs = "".join(
        f'input: "{name}" input_shape {{ {" ".join(f"dim: {size}" for size in array.shape)} }}\n'
        for name, array in (("loc", loc), ("conf", conf), ("prior", prior[:, :1] if "in_target" in more else prior))
    )
    bottoms = " ".join(f'bottom: "{name}"' for name in ("loc", "conf", "prior"))
    layer = f'type: "DetectionOutput" {bottoms} top: "out" detection_output_param {{ {text} }}'
    path = tmp_path / "net.prototxt"
    path.write_text(f'{inputs}layer {{ name: "detect" {layer} }}')
    ours = path.read_text().replace(f"dim: 1 dim: 1 dim: {count * 4}", f"dim: 1 dim: 2 dim: {count * 4}")
    other = cv2.dnn.readNetFromCaffe(str(path))
    # OpenCV wants no variances where they are in the target.
    seen = prior[:, :1] if "in_target" in more else prior
    for name, array in (("loc", loc), ("conf", conf), ("prior", seen)):
        other.setInput(array, name)
    expected = other.forward("detect").reshape(-1, 7)
    expected = expected[expected[:, 2] > 0]  # it fills up to keep_top_k rows
    path.write_text(ours)
    param = upgrade.read_net_text(str(path))
    param.state.phase = TEST
    net = Net(param, Context(TEST))
    for name, array in (("loc", loc), ("conf", conf), ("prior", prior)):
        net.blobs[name].data[...] = array
    net.forward()
    actual = net.blobs["out"].data.reshape(-1, 7)
    assert len(actual) == len(expected) > 0

    def in_order(rows):
        return rows[np.lexsort((-rows[:, 2], rows[:, 1]))]

    np.testing.assert_allclose(in_order(actual), in_order(expected), rtol=1e-4, atol=1e-5)


def test_nothing_found_is_a_row_for_each_item():
    text = 'type: "DetectionOutput" detection_output_param { num_classes: 2 confidence_threshold: 2 }'
    (y,) = SingleLayer(text, np.zeros((2, 12)), np.zeros((2, 6)), priors(3)).forward()
    np.testing.assert_array_equal(y.reshape(-1, 7), [[0] + [-1] * 6, [1] + [-1] * 6])


TRUTH = np.array(
    [[0, 1, 0, 0.1, 0.1, 0.5, 0.4, 0], [0, 2, 0, 0.4, 0.5, 0.8, 0.9, 0], [1, 1, 0, 0.3, 0.2, 0.6, 0.7, 1], [-1] * 8]
).reshape(1, 1, 4, 8)


def iou(a, b):
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    common = np.prod(np.maximum(high - low, 0))
    return common / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - common)


def matches(boxes, truth, threshold, per_prediction):
    """The true box of each prior by the rules, one pair after the other."""
    found = {}
    pairs = sorted(((iou(p, t), i, j) for i, p in enumerate(boxes) for j, t in enumerate(truth)), reverse=True)
    for overlap, i, j in pairs:
        if overlap > 1e-6 and i not in found and j not in found.values():
            found[i] = j
    if per_prediction:
        for i, p in enumerate(boxes):
            best = max(range(len(truth)), key=lambda j: iou(p, truth[j]), default=None)
            if i not in found and best is not None and iou(p, truth[best]) >= threshold:
                found[i] = best
    return found


@pytest.mark.parametrize("normalization", ["VALID", "FULL", "BATCH_SIZE", "NONE"])
@pytest.mark.parametrize("loc_loss", ["SMOOTH_L1", "L2"])
@pytest.mark.parametrize("conf_loss", ["SOFTMAX", "LOGISTIC"])
@pytest.mark.parametrize("match_type", ["PER_PREDICTION", "BIPARTITE"])
@pytest.mark.parametrize("mining", ["MAX_NEGATIVE", "NONE"])
def test_multi_box_loss(normalization, loc_loss, conf_loss, match_type, mining):
    compare_multi_box_loss(normalization, loc_loss, conf_loss, match_type, mining)


@pytest.mark.parametrize("conf_loss", ["SOFTMAX", "LOGISTIC"])
@pytest.mark.parametrize("mining", ["MAX_NEGATIVE", "HARD_EXAMPLE"])
@pytest.mark.parametrize(
    "more",
    ["", "nms_param { nms_threshold: 0.3 top_k: 12 }", "nms_param { nms_threshold: 0.2 } use_prior_for_nms: true"],
)
def test_multi_box_loss_of_hard_examples(conf_loss, mining, more):
    compare_multi_box_loss("VALID", "SMOOTH_L1", conf_loss, "PER_PREDICTION", mining, more)


@pytest.mark.parametrize("match_type", ["PER_PREDICTION", "BIPARTITE"])
def test_multi_box_loss_with_boxes_for_each_class(match_type):
    compare_multi_box_loss("VALID", "SMOOTH_L1", "SOFTMAX", match_type, "NONE", "share_location: false")


def hardest(losses, candidates, boxes, more, top_k, threshold):
    """Candidates by falling loss, without those that overlap one before them."""
    order = sorted(candidates, key=lambda i: -losses[i])
    if not more:
        return order
    kept = []
    for i in order[:top_k]:
        if all(iou(boxes[i], boxes[j]) <= threshold for j in kept):
            kept.append(i)
    return kept


def compare_multi_box_loss(normalization, loc_loss, conf_loss, match_type, mining, more=""):
    """Compare loss and gradients with those of torch."""
    torch = pytest.importorskip("torch")
    count, classes, items = 20, 3, 2
    sets = classes if "share_location" in more else 1
    sample_size = 7
    loc = uniform(items, count * sets * 4, low=-2, high=2)
    conf = uniform(items, count * classes, low=-2, high=2, seed=8)
    prior = priors(count)
    boxes, variances = prior.reshape(2, count, 4).astype(np.float64)
    text = (
        f"num_classes: {classes} loc_loss_type: {loc_loss} conf_loss_type: {conf_loss} match_type: {match_type} "
        f"mining_type: {mining} overlap_threshold: 0.3 neg_pos_ratio: 2 neg_overlap: 0.4 code_type: CENTER_SIZE "
        f"loc_weight: 1.5 {more} " + (f"sample_size: {sample_size}" if mining == "HARD_EXAMPLE" else "")
    )
    rig = SingleLayer(
        f'type: "MultiBoxLoss" multibox_loss_param {{ {text} }} loss_param {{ normalization: {normalization} }}',
        loc, conf, prior, TRUTH,
    )  # fmt: skip
    (actual,) = rig.forward()
    x = torch.tensor(loc.reshape(items, count, sets, 4), dtype=torch.float64, requires_grad=True)
    s = torch.tensor(conf.reshape(items, count, classes), dtype=torch.float64, requires_grad=True)
    total, pairs = 0, 0
    for item in range(items):
        rows = [row for row in TRUTH.reshape(-1, 8) if row[0] == item]
        truth = [row[3:7] for row in rows]
        found = matches(boxes, truth, 0.3, match_type == "PER_PREDICTION")
        labels = {i: int(rows[j][1]) for i, j in found.items()}
        offset_losses, decoded = {}, {}
        for i in range(count):
            size = boxes[i, 2:] - boxes[i, :2]
            own = x[item, i, labels.get(i, 0) if sets > 1 else 0]
            moved = own.detach().numpy() * variances[i]
            centre, half = (boxes[i, 2:] + boxes[i, :2]) / 2 + moved[:2] * size, np.exp(moved[2:]) * size / 2
            decoded[i] = np.concatenate([centre - half, centre + half])
            if i in found:
                wanted = truth[found[i]][2:] - truth[found[i]][:2]
                centre = (truth[found[i]][2:] + truth[found[i]][:2] - boxes[i, 2:] - boxes[i, :2]) / 2
                target = torch.tensor(np.concatenate([centre / size, np.log(wanted / size)]) / variances[i])
                smooth = torch.nn.functional.smooth_l1_loss
                offset_losses[i] = (
                    ((own - target) ** 2).sum() / 2 if loc_loss == "L2" else smooth(own, target, reduction="sum")
                )
        score_losses = []
        for i in range(count):
            label = labels.get(i, 0)
            if conf_loss == "SOFTMAX":
                score_losses.append(-torch.log_softmax(s[item, i], dim=0)[label])
            else:
                target = torch.zeros(classes, dtype=torch.float64)
                target[label] = 1
                logistic = torch.nn.functional.binary_cross_entropy_with_logits
                score_losses.append(logistic(s[item, i], target, reduction="sum"))
        losses = [score_losses[i].item() for i in range(count)]
        nms = more if "nms" in more else ""
        suppressed = boxes if "use_prior" in more else decoded
        how = (suppressed, nms, 12 if "top_k" in more else count, 0.3 if "0.3" in more else 0.2)
        kept, chosen = list(found), list(range(count))
        if mining == "MAX_NEGATIVE":
            largest = [max((iou(p, t) for t in truth), default=0) for p in boxes]
            free = [i for i in range(count) if i not in found and largest[i] < 0.4]
            chosen = kept + hardest(losses, free, *how)[: len(found) * 2]
        elif mining == "HARD_EXAMPLE":
            for i, loss in offset_losses.items():
                losses[i] += loss.item()
            chosen = hardest(losses, range(count), *how)[:sample_size]
            kept = [i for i in found if i in chosen]
        pairs += len(kept)
        total = total + 1.5 * sum(offset_losses[i] for i in kept) + sum(score_losses[i] for i in chosen)
    norm = {"VALID": pairs, "FULL": items * count, "BATCH_SIZE": items, "NONE": 1}[normalization]
    expected = total / norm
    assert pairs >= (2 if mining == "HARD_EXAMPLE" else 3)
    np.testing.assert_allclose(actual, expected.item(), rtol=1e-5)
    (expected * 0.7).backward()
    d_loc, d_conf, *_ = rig.backward(0.7, propagate_down=[True, True, False, False])
    np.testing.assert_allclose(d_loc.reshape(x.shape), x.grad.numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(d_conf.reshape(s.shape), s.grad.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("share_location: false", "only support negative mining if share_location is true"),
        ("share_location: false mining_type: NONE use_prior_for_matching: false", "matched by their priors"),
        ("mining_type: HARD_EXAMPLE sample_size: 0", "sample_size > 0"),
        ("sample_size: 9", "counts the examples of HARD_EXAMPLE"),
        ("mining_type: NONE nms_param { }", "examples that are chosen"),
        ("nms_param { eta: 0.5 }", "does not shrink"),
        ("use_prior_for_nms: true", "needs an nms_param"),
        ("do_neg_mining: false mining_type: MAX_NEGATIVE", "say different things"),
    ],
)
def test_multi_box_losses_that_are_none(text, message):
    with pytest.raises(FatalError, match=message):
        SingleLayer(
            f'type: "MultiBoxLoss" multibox_loss_param {{ num_classes: 3 {text} }}',
            np.zeros((2, 12)), np.zeros((2, 9)), priors(3), TRUTH,
        )  # fmt: skip


def test_a_label_that_is_no_class_is_named():
    truth = TRUTH.copy()
    truth[0, 0, 1, 1] = 3
    rig = SingleLayer(
        'type: "MultiBoxLoss" multibox_loss_param { num_classes: 3 }',
        np.zeros((2, 12)), np.zeros((2, 9)), priors(3), truth,
    )  # fmt: skip
    with pytest.raises(FatalError, match="true box of item 0 with label 3"):
        rig.forward()
