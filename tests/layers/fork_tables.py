"""Layer types of forks: their lines of `gradient_table.py` (GRADIENTS) and of `settings_table.py` (TYPES, LINES)."""

from __future__ import annotations

import numpy as np

from tests.layers.gradient import distinct, uniform
from tests.layers.gradient_table import ANY, PLANES, ROWS, Case, apart, settings, several, values
from tests.layers.settings_table import (
    ENGINES,
    FILTERS,
    GAUSS,
    IMAGES,
    MOVED,
    WINDOW,
    Line,
    Type,
    changes,
    leaves,
    refused,
)


def attention(shape):
    """A factor for each channel, and two more bottoms."""
    return [uniform(*shape[:2], seed=5), *several(2)(shape)]


def regions(shape):
    """Pictures, and three regions in them."""
    height, width = shape[2:]
    boxes = [[0, 0, 0, width - 1, height - 1], [shape[0] - 1, 1, 0, 2, 3], [0, 0, 0, 0, 0]]
    return [distinct(*shape) + 12, np.array(boxes, float)]


def with_places(shape):
    """Values, and where each of them goes in a plane of twice the size, less a row and a column."""
    n, c, height, width = shape
    random = np.random.default_rng(4)
    places = [random.permutation((2 * height - 1) * (2 * width - 1))[: height * width] for _ in range(n * c)]
    return [uniform(*shape), np.reshape(places, shape).astype(float)]


CLASSES = 3


def boxes(count):
    """Corners xmin, ymin, xmax, ymax of boxes that overlap; the last reaches beyond the picture."""
    random = np.random.default_rng(7)
    low, size = random.uniform(0, 0.4, (count, 2)), random.uniform(0.3, 0.5, (count, 2))
    low[-1] = 0.7
    return np.concatenate([low, low + size], axis=1)


def predictions(shape):
    """Offsets and scores for items and priors, and the priors with their variances."""
    items, count = shape
    priors = np.stack([boxes(count).ravel(), np.tile([0.1, 0.1, 0.2, 0.2], count)])[None]
    return [uniform(items, 4 * count), uniform(items, CLASSES * count, seed=1, low=-2, high=2), priors]


def with_truth(shape):
    """The same, and a true box for each item, one of them difficult, and one near the last prior."""
    items, count = shape
    truth = [[i, 1 + i % 2, 0, *(boxes(count)[i % count] + 0.03), i % 2] for i in range(items)]
    truth.append([0, 2, 1, *(boxes(count)[-1] - 0.02), 0])
    return [*predictions(shape), np.array(truth)[None, None]]


# Detections of the boxes of `with_truth`, the last too small.
FOUND = np.array([[i % 2, 1 + i % 2, 0.5 - 0.1 * i, *(boxes(8)[i % 2] + 0.02 * i)] for i in range(4)])[None, None]


# Few matches, and many priors that may be negatives.
FEW = "neg_overlap: 0.9 match_type: BIPARTITE"
THREE_CHANNELS = (PLANES[0], (3, 3, 1, 1), (1, 3, 4, 3))
RESIZED = ("height: 8 width: 5", "zoom_factor: 2", "shrink_factor: 2", "pad_beg: 0 pad_end: 0 height: 4 width: 6")


# What a layer with one filter for each of four channels cannot do.
ONE_FILTER = ("num_output: 2", "axis: 0", "group: 2")


def depthwise(*texts):
    return settings("convolution_param", *(f"num_output: 3 kernel_size: 3 pad: 1 {text} {GAUSS}" for text in texts))


GRADIENTS: dict[str, Case] = {
    "Axpy": Case(attention, check=(0, 1, 2)),
    "BN": Case(
        values(0, 3),
        settings(
            "bn_param", "slope_filler { type: 'gaussian' } bias_filler { type: 'gaussian' } eps: 0.1",
            "scale_filler { type: 'gaussian' }", "bn_mode: INFERENCE",
        ),
        in_place=ANY, learns=True, tolerance=1e-6,
    ),
    "ConvolutionDepthwise": Case(
        variants=depthwise("", "bias_term: false"), shapes=THREE_CHANNELS, more=(several(3), 3), more_check=(0, 1, 2),
        learns=True,
    ),
    "DepthwiseConvolution": Case(
        variants=depthwise("group: 3", ""), shapes=THREE_CHANNELS, more=(several(2), 2), learns=True
    ),
    "Interp": Case(variants=settings("interp_param", *RESIZED)),
    "MultiBoxLoss": Case(
        with_truth,
        settings(
            "multibox_loss_param",
            *(f"num_classes: {CLASSES} {more}" for more in (
                "", "loc_loss_type: L2 conf_loss_type: LOGISTIC loc_weight: 2", "match_type: BIPARTITE",
                "code_type: CENTER_SIZE mining_type: NONE", "encode_variance_in_target: true",
                "mining_type: HARD_EXAMPLE sample_size: 4 nms_param { nms_threshold: 0.6 } use_prior_for_nms: true",
            )),
        ),
        shapes=((2, 8), (1, 5), (3, 2)), later=(3, 7), check=(0, 1),
    ),
    "Normalize": Case(
        variants=settings(
            "norm_param", "", "across_spatial: false", "channel_shared: false scale_filler { type: 'gaussian' }"
        ),
        learns=True,
    ),
    "Permute": Case(variants=settings("permute_param", "order: [0, 2, 3, 1]", "order: 1", "")),
    "ROIPooling": Case(
        regions,
        settings("roi_pooling_param", "pooled_h: 2 pooled_w: 3", "pooled_h: 1 pooled_w: 1 spatial_scale: 0.5"),
    ),
    "ReLU6": Case(values(-2, 8, kinks=[0, 6]), in_place=ANY),
    "ShuffleChannel": Case(variants=settings("shuffle_channel_param", "", "group: 3")),
    "SmoothL1Loss": Case(
        several(2), settings("smooth_l1_loss_param", "sigma: 0.7", "sigma: 3"), shapes=ROWS, later=(2, 9), check=(0, 1),
        more=(several(4), 1),
    ),
    "Upsample": Case(apart(1), settings("upsample_param", "scale: 2", ""), more=(with_places, 1), more_check=(0,)),
}  # fmt: skip

WITHOUT_GRADIENT = {
    "AnnotatedData": "it has no bottom",
    "DetectionEvaluate": "it counts",
    "DetectionOutput": "it chooses",
    "PriorBox": "its boxes follow from shapes alone",
}

NOT_APPLICABLE: dict[str, dict[str, str]] = {"in place": {"Axpy": "only its last bottom may be overwritten"}}

BOXED = 'source: "boxed" backend: LMDB batch_size: 2'
# A sampler after which every picture is a smaller part, and pictures of one size.
CUT = "batch_sampler { sampler { min_scale: 0.4 max_scale: 0.6 } max_sample: 1 }"
SIZED = "resize_param { height: 8 width: 9 }"

TYPES: dict[str, Type] = {
    "AnnotatedData": Type(
        f"data_param {{ {BOXED} }} annotated_data_param {{ {CUT} }} transform_param {{ {SIZED} }}", tops=2
    ),
    "Axpy": Type(),
    "BN": Type("", (IMAGES,)),
    "ConvolutionDepthwise": Type(f"convolution_param {{ num_output: 4 kernel_size: 3 {GAUSS} }}", (IMAGES,)),
    "DepthwiseConvolution": Type(f"convolution_param {{ num_output: 4 kernel_size: 3 {GAUSS} }}", (IMAGES,)),
    "DetectionEvaluate": Type("detection_evaluate_param { num_classes: 3 }", (FOUND, with_truth((2, 8))[3])),
    "DetectionOutput": Type(f"detection_output_param {{ num_classes: {CLASSES} }}", tuple(predictions((2, 8)))),
    "Interp": Type("", (IMAGES,)),
    "MultiBoxLoss": Type(f"multibox_loss_param {{ num_classes: {CLASSES} }}", tuple(with_truth((2, 8)))),
    "Normalize": Type("", (IMAGES,)),
    "Permute": Type("", (IMAGES,)),
    "PriorBox": Type("prior_box_param { min_size: 6 }", ((2, 4, 3, 2), (2, 3, 30, 20))),
    "ROIPooling": Type("roi_pooling_param { pooled_h: 2 pooled_w: 2 }", tuple(regions(IMAGES))),
    "ReLU6": Type(),
    "ShuffleChannel": Type("", (IMAGES,)),
    "SmoothL1Loss": Type("", ((3, 2), (3, 2))),
    "Upsample": Type("", tuple(with_places(PLANES[0]))),
}

LINES: dict[str, dict[str, list[Line]]] = {
    "AnnotatedData": {
        "annotated_data_param": [
            *changes("batch_sampler { max_sample: 1 }"),
            *refused('label_map_file: "none"', words="File not found"),
            *leaves("anno_type: BBOX"),  # what the records say themselves
        ],
        "data_param": [
            *changes('source: "other_boxed"', "batch_size: 3"),
            *refused("backend: LEVELDB", words="boxed"),
            *leaves("prefetch: 2"),
            *MOVED,
            *refused("rand_skip: 3", words="reading begins with the first record"),
            *refused("force_encoded_color: true", words="Write transform_param { force_color: true }"),
        ],
        "transform_param": [
            *changes("scale: 2", "mirror: true", "mean_value: 3", "resize_param { height: 7 width: 5 }"),
            *changes("distort_param { brightness_prob: 1 brightness_delta: 9 }"),
            *changes("expand_param { max_expand_ratio: 3 }"),
            *changes("emit_constraint { emit_type: MIN_OVERLAP emit_overlap: 0.9 }"),
            *leaves("force_color: true"),
            *refused("force_gray: true", words="force_gray } would have no effect"),
            *refused("crop_size: 5", "crop_h: 5", "crop_w: 5", words="batch_sampler"),
            *refused('mean_file: "mean.binaryproto"', words="Write mean_value"),
            *refused("noise_param { prob: 1 }", words="Noise is not there"),
            *refused("augmentation { brightness: 0.9 }", words="take the boxes along"),
        ],
    },
    "BN": {
        "bn_param": [
            *changes("slope_filler { value: 2 }", "bias_filler { value: 2 }", "momentum: 0.5", "eps: 0.5"),
            *changes("frozen: true"),
            *changes("scale_filler { value: 2 }", "shift_filler { value: 2 }", "bn_mode: INFERENCE"),
            *refused("slope_filler { value: 2 }", given="bn_mode: LEARN", words="one BN is not both"),
            *ENGINES,
        ]
    },
    "ConvolutionDepthwise": {
        "convolution_param": [
            *[line for line in WINDOW + FILTERS if line.setting not in ONE_FILTER],
            *refused(*ONE_FILTER, words="each channel has one filter"),
        ]
    },
    "DepthwiseConvolution": {"convolution_param": WINDOW + FILTERS},
    "DetectionEvaluate": {
        "detection_evaluate_param": [
            *changes("num_classes: 4", "overlap_threshold: 0.95", "evaluate_difficult_gt: false"),
            *refused("background_label_id: 1", words="1 is the background"),
            *refused("name_size_file: 'f'", words="File not found"),
            *refused("resize_param { resize_mode: FIT_SMALL_SIZE }", words="only WARP"),
        ]
    },
    "DetectionOutput": {
        "detection_output_param": [
            *changes("background_label_id: 1", "nms_param { nms_threshold: 0.01 }", "code_type: CENTER_SIZE"),
            *changes("keep_top_k: 2", "variance_encoded_in_target: true", "confidence_threshold: 0.5"),
            *refused("num_classes: 2", "share_location: false", words="Number of priors must match"),
            *refused("save_output_param { output_directory: 'd' }", "save_file: 'f'", words="Save the top"),
            *refused("visualize: true", "visualize_threshold: 0.5", words="Draw the boxes"),
        ]
    },
    "Interp": {
        "interp_param": [
            *changes("height: 8 width: 6", "height: 7 width: 5", "zoom_factor: 2", "shrink_factor: 2"),
            *changes("pad_beg: -1", "pad_end: -1"),
        ]
    },
    "MultiBoxLoss": {
        "multibox_loss_param": [
            *changes("loc_loss_type: L2", "conf_loss_type: LOGISTIC", "loc_weight: 3", "match_type: BIPARTITE"),
            *changes("overlap_threshold: 0.1", "use_prior_for_matching: false", "use_difficult_gt: false"),
            *changes("neg_overlap: 0.01"),
            *changes("do_neg_mining: false", "mining_type: NONE", given=f"neg_pos_ratio: 0.5 {FEW}"),
            *refused("background_label_id: 2", words="with the background 2"),
            *changes("neg_pos_ratio: 0.5", given=FEW),
            *changes("code_type: CENTER_SIZE", "encode_variance_in_target: true"),
            *changes("ignore_cross_boundary_bbox: true", given="mining_type: NONE"),
            *refused("num_classes: 2", words="Number of priors must match"),
            *refused("share_location: false", words="only support negative mining"),
            *refused("map_object_to_agnostic: true", words="2 classes"),
            *refused("bp_inside: true"),
            *changes("mining_type: HARD_EXAMPLE", given=f"neg_pos_ratio: 0.5 {FEW}"),
            *changes("nms_param { nms_threshold: 0.01 }", given="neg_overlap: 0.9"),
            *changes("sample_size: 3", given="mining_type: HARD_EXAMPLE"),
            *changes("use_prior_for_nms: true", given="mining_type: HARD_EXAMPLE nms_param { nms_threshold: 0.1 }"),
        ],
        "loss_param": [
            *changes("normalization: FULL", "normalize: false"),
            *refused("ignore_label: 1", "class_weighting: 1", "weight_by_label_freqs: true", "label_smoothing: 0.1"),
        ],
    },
    "Normalize": {
        "norm_param": changes("across_spatial: false", "scale_filler { value: 2 }", "channel_shared: false", "eps: 9")
    },
    "Permute": {"permute_param": changes("order: 1")},
    "PriorBox": {
        "prior_box_param": [
            *changes("min_size: 7", "max_size: 9", "aspect_ratio: 2", "variance: 0.3", "img_size: 40"),
            *changes("clip: true", given="min_size: 16"),
            *changes("flip: false", given="aspect_ratio: 2"),
            *changes("img_h: 40 img_w: 20", "img_h: 30 img_w: 40", "step: 5", "offset: 0.2"),
            *changes("step_h: 5 step_w: 10", "step_h: 10 step_w: 5"),
        ]
    },
    "ROIPooling": {"roi_pooling_param": changes("pooled_h: 3", "pooled_w: 3", "spatial_scale: 0.5")},
    "ShuffleChannel": {"shuffle_channel_param": changes("group: 2")},
    "SmoothL1Loss": {"smooth_l1_loss_param": changes("sigma: 0.3")},
    "Upsample": {
        "upsample_param": [
            *changes("scale: 3", "pad_out_h: true", "pad_out_w: true", "scale_h: 3", "scale_w: 3"),
            *changes("upsample_h: 11 upsample_w: 15", "upsample_h: 10 upsample_w: 16"),
        ]
    },
}  # fmt: skip

# eta counts while the threshold is above a half.
NMS = [*changes("nms_threshold: 0.01", "top_k: 1"), *changes("eta: 0.5", given="nms_threshold: 0.9")]
SAMPLER = [
    *changes("sampler { min_scale: 0.2 }", "sample_constraint { min_sample_coverage: 0.6 }"),
    *changes("max_sample: 2"),
    *changes("max_trials: 2", given="max_sample: 9"),
    *refused("use_original_image: false", words="samples of samples"),
]
SCALES = changes("min_scale: 0.3", "max_scale: 0.5", "min_aspect_ratio: 0.4", "max_aspect_ratio: 3",
                 given="min_scale: 0.4 max_scale: 0.6")
CONSTRAINT = [
    *changes("min_jaccard_overlap: 0.3", "max_jaccard_overlap: 0.1", "min_sample_coverage: 0.6"),
    *changes("max_sample_coverage: 0.1", "min_object_coverage: 0.9", "max_object_coverage: 0.2"),
]
RESIZED = [
    *changes("height: 5", "width: 5", "interp_mode: NEAREST", given="height: 8 width: 9"),
    *refused("prob: 0.5", words="pictures of one size"),
    *refused("resize_mode: FIT_SMALL_SIZE", words="warped only"),
    *refused("height_scale: 3", "width_scale: 3", "pad_mode: MIRRORED", "pad_value: 3", words="other modes than WARP"),
]
COLOURS = (
    "brightness_prob: 1 brightness_delta: 30 contrast_prob: 1 contrast_lower: 0.5 contrast_upper: 1.5 "
    "hue_prob: 1 hue_delta: 9 saturation_prob: 1 saturation_lower: 0.5 saturation_upper: 1.5"
)
DISTORTED = changes(
    "brightness_prob: 0", "brightness_delta: 2", "contrast_prob: 0", "contrast_lower: 0.2", "contrast_upper: 9",
    "hue_prob: 0", "hue_delta: 40", "saturation_prob: 0", "saturation_lower: 0.1", "saturation_upper: 9",
    "random_order_prob: 1", given=COLOURS,
)  # fmt: skip
INNER = {
    "detection_output_param.nms_param": ("DetectionOutput", NMS, ""),
    "annotated_data_param.batch_sampler": ("AnnotatedData", SAMPLER, ""),
    "annotated_data_param.batch_sampler.sampler": ("AnnotatedData", SCALES, ""),
    "annotated_data_param.batch_sampler.sample_constraint": ("AnnotatedData", CONSTRAINT, ""),
    "transform_param.resize_param": ("AnnotatedData", RESIZED, ""),
    "transform_param.distort_param": ("AnnotatedData", DISTORTED, ""),
    "transform_param.expand_param": (
        "AnnotatedData", changes("prob: 0.1", "max_expand_ratio: 2", given="max_expand_ratio: 3"), ""
    ),
    "transform_param.emit_constraint": (
        "AnnotatedData",
        changes("emit_type: CENTER", "emit_overlap: 0", given="emit_type: MIN_OVERLAP emit_overlap: 0.9"),
        "",
    ),
}
