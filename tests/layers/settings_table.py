"""What every setting of every layer type does, as a table: a line changes the results, or leaves them, or is refused.

TYPES gives each type its bottoms and the settings that all its lines start from. LINES has the lines, by type and
message; a line is tried beside the same layer without it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.layers.gradient import uniform

CHANGES, LEAVES, LOGS, REFUSED = "changes the results", "leaves the results", "is seen in the log", "is refused"


@dataclass(frozen=True)
class Type:
    """A layer to start from. text: its settings. bottoms: shapes or arrays."""

    text: str = ""
    bottoms: tuple = ()
    tops: int = 1
    top_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Line:
    """A setting and what it does.

    given: settings of the same message beside which it does so. drop: the type's fields that it takes the place of.
    words: of the refusal.
    """

    setting: str
    outcome: str = CHANGES
    given: str = ""
    drop: tuple[str, ...] = ()
    words: str = "would have no effect"


def changes(*settings, **how):
    return [Line(setting, CHANGES, **how) for setting in settings]


def leaves(*settings, **how):
    return [Line(setting, LEAVES, **how) for setting in settings]


def refused(*settings, **how):
    return [Line(setting, REFUSED, **how) for setting in settings]


ENGINES = leaves("engine: CAFFE", "engine: CUDNN")
GAUSS = "weight_filler { type: 'gaussian' } bias_filler { type: 'gaussian' }"
IMAGES = (2, 4, 7, 6)
LABELS = np.array([[0, 1, 2], [2, 1, 0], [1, 1, 0], [0, 2, 2]])  # for the scores (4, 3, 3)
ONE_ZERO = np.array([[0.0, 2, 3], [4, 5, 6]])
CONVOLUTION = Type(f"convolution_param {{ num_output: 4 kernel_size: 3 {GAUSS} }}", (IMAGES,))
SEQUENCE = (uniform(3, 2, 4), np.array([[0, 0], [1, 1], [1, 0]]))
RECURRENT = Type(f"recurrent_param {{ num_output: 3 {GAUSS} }}", SEQUENCE)
DATA = 'source: "raw" backend: LMDB batch_size: 4'
CROP = "transform_param { crop_size: 6 }"

TYPES = {
    "AbsVal": Type(),
    "Accuracy": Type("", ((4, 3, 3), LABELS.T.reshape(4, 3)), tops=2),
    "ArgMax": Type("", ((3, 4, 2),)),
    "BNLL": Type(),
    "BatchNorm": Type("", (IMAGES,)),
    "BatchReindex": Type(),
    "Bias": Type("bias_param { filler { type: 'gaussian' } }", ((3, 3, 3),)),
    "Clip": Type("clip_param { min: -0.5 max: 0.5 }", ((4, 5),)),
    "Concat": Type("", ((2, 2), (2, 2))),
    "ContrastiveLoss": Type("", ((3, 2), (3, 2), np.array([0, 1, 0]))),
    "Convolution": CONVOLUTION,
    "Crop": Type("", ((1, 1, 5, 5), (1, 1, 3, 3))),
    "Data": Type(f"data_param {{ {DATA} }} transform_param {{ crop_size: 6 }}", tops=2),
    "Deconvolution": CONVOLUTION,
    "Dropout": Type("", (IMAGES,)),
    "DummyData": Type(),
    "ELU": Type("", ((4, 5),)),
    "Eltwise": Type("", (ONE_ZERO, (2, 3))),
    "Embed": Type(
        f"embed_param {{ num_output: 2 input_dim: 4 {GAUSS} }}",
        (np.array([0, 3, 1]),),
    ),
    "EuclideanLoss": Type(),
    "Exp": Type("", ((2, 3),)),
    "Filter": Type(),
    "Flatten": Type("", ((2, 3, 4),)),
    "HDF5Data": Type(
        'hdf5_data_param { source: "files.txt" batch_size: 4 }', tops=2, top_names=("x", "label")
    ),
    "HDF5Output": Type("hdf5_output_param { file_name: 'out.h5' }", ((2, 3), (2,)), tops=0),
    "HingeLoss": Type("", ((4, 3), np.arange(4) % 3)),
    "Im2col": Type("convolution_param { kernel_size: 3 }", (IMAGES,)),
    "ImageData": Type(f'image_data_param {{ source: "list.txt" batch_size: 2 }} {CROP}', tops=2),
    "InfogainLoss": Type('infogain_loss_param { source: "h.binaryproto" }', ((4, 3, 3), LABELS)),
    "InnerProduct": Type(f"inner_product_param {{ num_output: 2 {GAUSS} }}", ((3, 4, 5),)),
    "Input": Type("input_param { shape { dim: 2 } }"),
    "LRN": Type("", (IMAGES,)),
    "LSTM": RECURRENT,
    "LSTMUnit": Type(),
    "Log": Type("", (uniform(2, 3, low=1, high=2),)),
    "MVN": Type("", (IMAGES,)),
    "MemoryData": Type(
        f"memory_data_param {{ batch_size: 2 channels: 3 height: 6 width: 6 }} {CROP}",
        tops=2,
    ),
    "MultinomialLogisticLoss": Type(),
    "PReLU": Type("", ((2, 3, 2),)),
    "Parameter": Type("parameter_param { shape { dim: 2 } }"),
    "Pooling": Type("pooling_param { kernel_size: 3 }", (IMAGES,)),
    "Power": Type("", ((2, 3),)),
    "Python": Type("python_param { module: 'tests.layers.python_layers' layer: 'Times' }", ((2, 3),)),
    "RNN": RECURRENT,
    "ReLU": Type("", ((4, 5),)),
    "Reduction": Type("", ((2, 3),)),
    "Reshape": Type("reshape_param { shape { dim: 0 dim: -1 } }", ((2, 3, 2),)),
    "SPP": Type("spp_param { pyramid_height: 1 }", (IMAGES,)),
    "Scale": Type("scale_param { filler { type: 'gaussian' } }", ((3, 3, 3),)),
    "Sigmoid": Type("", ((2, 3),)),
    "SigmoidCrossEntropyLoss": Type("", ((4, 3), np.arange(12).reshape(4, 3) % 2)),
    "Silence": Type(),
    "Slice": Type("", ((2, 4),), tops=2),
    "Softmax": Type("", ((2, 3, 3),)),
    "SoftmaxWithLoss": Type("", ((4, 3, 3), LABELS)),
    "Split": Type(),
    "Swish": Type("", ((2, 3),)),
    "TanH": Type("", ((2, 3),)),
    "Threshold": Type("", ((4, 5),)),
    "Tile": Type("tile_param { tiles: 2 }", ((2, 3),)),
    "WindowData": Type(f'window_data_param {{ source: "windows.txt" batch_size: 4 }} {CROP}', tops=2),
}

WINDOW = [
    *changes("kernel_size: 2", "pad: 1", "stride: 2", "dilation: 2", "axis: 0", "hole: 2"),
    *changes("hole_h: 2 hole_w: 1", "hole_h: 1 hole_w: 2"),
    *changes("kernel_h: 2 kernel_w: 3", "kernel_h: 3 kernel_w: 2", drop=("kernel_size",)),
    *changes("pad_h: 1", "pad_w: 1", "stride_h: 2 stride_w: 1", "stride_h: 1 stride_w: 2"),
    # It chose another route to the same numbers in the original.
    *leaves("force_nd_im2col: true", *(line.setting for line in ENGINES)),
]
FILTERS = [
    *changes("num_output: 2", "bias_term: false", "group: 2"),
    *changes("weight_filler { value: 1 }", "bias_filler { value: 1 }"),
]
BROADCAST = [*changes("axis: 0", "num_axes: 2"), *changes("filler { value: 3 }")]
RECURRENT_LINES = [
    *changes("num_output: 2", "weight_filler { value: 1 }", "bias_filler { value: 1 }"),
    Line("debug_info: true", LOGS),
    *refused("expose_hidden: true", words="takes at least"),
]
NORMS = [
    *changes("ignore_label: 1"),
    *changes("normalization: NONE", "normalization: FULL", given="ignore_label: 1"),
]
SOFT_TARGETS_ELSEWHERE = refused("class_weighting: 1", "weight_by_label_freqs: true", "label_smoothing: 0.1")
WITHOUT_PREFETCH = refused(
    'source: "x"', "batch_size: 3", "rand_skip: 1", "backend: LMDB", "scale: 2", 'mean_file: "m"',
    "crop_size: 2", "mirror: true", "force_encoded_color: true",
)  # fmt: skip
MOVED = refused("scale: 2", 'mean_file: "m"', "crop_size: 2", "mirror: true", words="Write transform_param {")
TRANSFORM = [
    *changes("scale: 2", "mirror: true", "crop_size: 5", 'mean_file: "mean.binaryproto"', "mean_value: 3"),
    *leaves("force_color: true"),  # what the pictures are anyway
    *refused("force_gray: true", words="force_gray } would have no effect"),
    *changes("augmentation { brightness: 0.9 }"),
    *refused(
        "resize_param { height: 3 width: 3 }", "noise_param { }", "distort_param { }", "expand_param { }",
        "emit_constraint { }", "crop_h: 3", "crop_w: 3", words="it is for AnnotatedData layers",
    ),
]
AUGMENTATION = [
    *changes("resize_short: 7", "max_rotation: 30", "random_resized_crop { }", "brightness: 0.9"),
    *changes("contrast: 0.9", "saturation: 0.9", "hue: 0.4", "cutout { size: 2 }", "mixup { }"),
]
IN_AUGMENTATION = {
    "random_resized_crop": changes("min_area: 0.9", "max_area: 0.2", "min_aspect: 1.2", "max_aspect: 0.8"),
    "cutout": changes("size: 1", "holes: 5", given="size: 2"),
    "mixup": changes("alpha: 5", "classes: 9"),
}
FILLER = [
    *changes("type: 'gaussian'", "value: 2"),
    *changes("min: -5", "max: 9", given="type: 'uniform'"),
    *changes("mean: 5", "std: 9", "sparse: 1", given="type: 'gaussian'"),
    *changes("variance_norm: FAN_OUT", given="type: 'xavier'"),
]

#: type -> message -> lines.
LINES: dict[str, dict[str, list[Line]]] = {
    "Accuracy": {"accuracy_param": changes("top_k: 2", "axis: 2", "ignore_label: 1")},
    "ArgMax": {"argmax_param": changes("out_max_val: true", "top_k: 2", "axis: 1")},
    "BatchNorm": {
        "batch_norm_param": [
            *changes("use_global_stats: true", "moving_average_fraction: 0.5", "eps: 0.5", "scale_bias: true"),
            *changes("scale_filler { value: 2 }", "bias_filler { value: 2 }", given="scale_bias: true"),
            *refused("scale_filler { value: 2 }", "bias_filler { value: 2 }"),
        ]
    },
    "Bias": {"bias_param": BROADCAST},
    "Clip": {"clip_param": changes("min: -0.2", "max: 0.2")},
    "Concat": {"concat_param": changes("axis: 0", "concat_dim: 0")},
    "ContrastiveLoss": {"contrastive_loss_param": changes("margin: 9", "legacy_version: true", given="margin: 3")},
    "Convolution": {"convolution_param": WINDOW + FILTERS},
    "Crop": {"crop_param": changes("axis: 3", "offset: 1")},
    "Data": {
        "data_param": [
            *changes('source: "encoded"', "batch_size: 3"),
            *refused("backend: LEVELDB", words="raw"),
            *leaves("prefetch: 2"),
            *MOVED,
            *refused("rand_skip: 3", words="reading begins with the first record"),
            *refused("force_encoded_color: true", words="Write transform_param { force_color: true }"),
        ],
        "transform_param": TRANSFORM,
    },
    "Deconvolution": {"convolution_param": WINDOW + FILTERS},
    "Dropout": {"dropout_param": changes("dropout_ratio: 0.9")},
    "DummyData": {
        "dummy_data_param": [
            *changes("data_filler { value: 1 }", "shape { dim: 3 }", given="shape { dim: 2 }"),
            *changes(
                "num: 2 channels: 1 height: 1 width: 1", "num: 1 channels: 2 height: 1 width: 1",
                "num: 1 channels: 1 height: 2 width: 1", "num: 1 channels: 1 height: 1 width: 2",
                given="num: 1 channels: 1 height: 1 width: 1",
            ),
        ]
    },
    "ELU": {"elu_param": changes("alpha: 2")},
    "Eltwise": {
        "eltwise_param": [
            *changes("operation: MAX", "operation: PROD", "coeff: [1, 2]"),
            *changes("stable_prod_grad: false", given="operation: PROD"),
            *refused("coeff: [1, 2]", given="operation: PROD", words="only takes coefficients for summation"),
        ]
    },
    "Embed": {
        "embed_param": changes(
            "num_output: 3", "input_dim: 5", "bias_term: false", "weight_filler { value: 1 }",
            "bias_filler { value: 1 }",
        )
    },
    "Exp": {"exp_param": changes("base: 2", "scale: 2", "shift: 2")},
    "Flatten": {"flatten_param": changes("axis: 0", "end_axis: 1")},
    "HDF5Data": {"hdf5_data_param": changes('source: "other_files.txt"', "batch_size: 3", "shuffle: true")},
    "HDF5Output": {"hdf5_output_param": refused("file_name: ''", words="hdf5_output_param needs a file_name")},
    "HingeLoss": {"hinge_loss_param": changes("norm: L2")},
    "Im2col": {
        "convolution_param": [
            *WINDOW,
            *refused(*(line.setting for line in FILTERS), words="make the layer a Convolution"),
        ]
    },
    "ImageData": {
        "image_data_param": [
            *changes('source: "other_list.txt"', "batch_size: 3", "rand_skip: 3", "shuffle: true"),
            *changes("is_color: false", "new_height: 7 new_width: 9", "new_height: 9 new_width: 7"),
            *refused('root_folder: "elsewhere/"', words="elsewhere/"),
            *MOVED,
        ],
        "transform_param": TRANSFORM,
        "data_param": [*leaves("prefetch: 2"), *WITHOUT_PREFETCH],
    },
    "InfogainLoss": {
        "infogain_loss_param": changes('source: "other_h.binaryproto"', "axis: 2"),
        "loss_param": [
            *NORMS, *SOFT_TARGETS_ELSEWHERE, *refused("normalize: false", words="normalize is deprecated"),
        ],
        "softmax_param": [*ENGINES, *refused("axis: 2", words="Write infogain_loss_param { axis")],
    },
    "InnerProduct": {
        "inner_product_param": changes(
            "num_output: 3", "bias_term: false", "weight_filler { value: 1 }", "bias_filler { value: 1 }",
            "axis: 2", "transpose: true",
        )
    },
    "Input": {"input_param": changes("shape { dim: 3 }")},
    "LRN": {
        "lrn_param": [
            *changes("local_size: 3", "alpha: 2", "beta: 0.5", "norm_region: WITHIN_CHANNEL", "k: 2"),
            *refused("k: 2", given="norm_region: WITHIN_CHANNEL"),
            *ENGINES,
        ]
    },
    "LSTM": {"recurrent_param": RECURRENT_LINES},
    "Log": {"log_param": changes("base: 2", "scale: 2", "shift: 2")},
    "MVN": {"mvn_param": changes("normalize_variance: false", "across_channels: true", "eps: 0.5")},
    "MemoryData": {
        "memory_data_param": [
            *changes("batch_size: 1"),
            *refused("channels: 1", "height: 5", "width: 5", words="whose memory_data_param says"),
        ],
        "transform_param": [
            *[line for line in TRANSFORM if not line.setting.startswith("crop_size")],
            *refused("crop_size: 5", words="whose memory_data_param says"),
        ],
    },
    "PReLU": {"prelu_param": changes("filler { value: 1 }", "channel_shared: true")},
    "Parameter": {"parameter_param": changes("shape { dim: 3 }")},
    "Pooling": {
        "pooling_param": [
            *changes("pool: AVE", "pool: STOCHASTIC", "pad: 1", "kernel_size: 2", "stride: 2"),
            *changes("pad_h: 1 pad_w: 0", "pad_h: 0 pad_w: 1"),
            *changes("kernel_h: 2 kernel_w: 3", "kernel_h: 3 kernel_w: 2", drop=("kernel_size",)),
            *changes("stride_h: 2 stride_w: 1", "stride_h: 1 stride_w: 2"),
            *changes("global_pooling: true", drop=("kernel_size",)),
            *changes("round_mode: FLOOR", "ceil_mode: false", given="stride: 2"),
            *refused("ceil_mode: true", given="round_mode: FLOOR", words="say different things"),
            *ENGINES,
        ]
    },
    "Power": {"power_param": changes("power: 2", "scale: 2", "shift: 2")},
    "Python": {
        "python_param": [
            *changes("param_str: '5'", "layer: 'Plus'"),
            *refused("module: 'no_such_module'", words="Cannot import module no_such_module"),
            *leaves("share_in_parallel: true"),  # one process shares with itself
        ]
    },
    "RNN": {"recurrent_param": RECURRENT_LINES},
    "ReLU": {"relu_param": [*changes("negative_slope: 0.5"), *ENGINES]},
    "Reduction": {"reduction_param": changes("operation: SUMSQ", "axis: 1", "coeff: 2")},
    "Reshape": {"reshape_param": changes("shape { dim: -1 }", "axis: 1", "num_axes: 2")},
    "SPP": {"spp_param": [*changes("pyramid_height: 2", "pool: AVE"), *ENGINES]},
    "Scale": {
        "scale_param": [
            *BROADCAST,
            *changes("bias_term: true"),
            *changes("bias_filler { value: 1 }", given="bias_term: true"),
            *refused("bias_filler { value: 1 }", words="bias_filler without bias_term"),
        ]
    },
    "Sigmoid": {"sigmoid_param": ENGINES},
    "SigmoidCrossEntropyLoss": {
        "loss_param": [
            *NORMS, *SOFT_TARGETS_ELSEWHERE, *changes("normalize: true"), *changes("normalization: VALID"),
        ]
    },
    "Slice": {"slice_param": changes("axis: 0", "slice_point: 1", "slice_dim: 0")},
    "Softmax": {"softmax_param": [*changes("axis: 2"), *ENGINES]},
    "SoftmaxWithLoss": {
        "softmax_param": [*changes("axis: 2"), *ENGINES],
        "loss_param": [
            *NORMS,
            *changes("normalize: false", "class_weighting: [3, 2, 1]", "label_smoothing: 0.3"),
            *refused("weight_by_label_freqs: true", words="class_weighting"),
        ],
    },
    "Swish": {"swish_param": changes("beta: 2")},
    "TanH": {"tanh_param": ENGINES},
    "Threshold": {"threshold_param": changes("threshold: 0.5")},
    "Tile": {"tile_param": changes("axis: 0", "tiles: 3")},
    "WindowData": {
        "window_data_param": [
            *changes('source: "other_windows.txt"', "scale: 2", "batch_size: 3"),
            *changes("fg_threshold: 0.65", "fg_fraction: 0.75", "context_pad: 1", 'crop_mode: "square"'),
            *refused("bg_threshold: 0", words="has no background windows"),
            *refused('root_folder: "elsewhere/"', words="elsewhere/"),
            *leaves("cache_images: true"),
            *MOVED[1:],
        ],
        "transform_param": [
            *[line for line in TRANSFORM if line.outcome != REFUSED and not line.setting.startswith(("augm", "scale"))],
            *refused("force_gray: true", words="force_gray } would have no effect"),
            *refused("scale: 2", words="Write window_data_param { scale"),
            *refused("augmentation { brightness: 0.9 }"),
            *refused(
                "resize_param { height: 3 }", "noise_param { prob: 1 }", "distort_param { hue_prob: 1 }",
                "expand_param { prob: 0.5 }", "emit_constraint { emit_overlap: 1 }", "crop_h: 3", "crop_w: 3",
            ),
        ],
        "data_param": [*leaves("prefetch: 2"), *WITHOUT_PREFETCH],
    },
}  # fmt: skip

#: Messages inside of others, by the path to them, and the type on which their lines are tried.
INNER = {
    "dummy_data_param.data_filler": ("DummyData", FILLER, "shape { dim: 6 dim: 4 }"),
    "transform_param.augmentation": ("Data", AUGMENTATION, ""),
    **{
        f"transform_param.augmentation.{name}": ("Data", lines, "")
        for name, lines in IN_AUGMENTATION.items()
    },
}
