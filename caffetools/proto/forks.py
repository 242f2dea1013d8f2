"""Layer types and fields that only forks of Caffe have: to say where a foreign prototxt comes from.

    layer_type_hint("Permute")                    -> "Permute belongs to the SSD fork (weiliu89/caffe)"
    field_hint("LayerParameter", "permute_param") -> "permute_param belongs to the SSD fork (weiliu89/caffe)"

The names are those of the forks' own caffe.proto and layer registries. Some of their layers and fields exist here as
well; then nobody asks. Those of SPEED_ONLY are left out of a text when it is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Fork:
    """A fork: its usual name, its repository, its own layer types, and its own fields by message.

    Names stand in one string with blanks between them.
    """

    name: str
    home: str
    layers: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)


FORKS = (
    Fork(
        "SSD",
        "weiliu89/caffe",
        "AnnotatedData DetectionEvaluate DetectionOutput MultiBoxLoss Normalize Permute PriorBox "
        "SmoothL1Loss VideoData",
        {
            "LayerParameter": "annotated_data_param detection_evaluate_param detection_output_param "
            "multibox_loss_param norm_param permute_param prior_box_param video_data_param",
            "TransformationParameter": "resize_param noise_param distort_param expand_param emit_constraint "
            "crop_h crop_w",
            "SolverParameter": "eval_type ap_version show_per_class_result plateau_winsize",
        },
    ),
    Fork(
        "py-faster-rcnn",
        "rbgirshick/caffe-fast-rcnn",
        "ROIPooling SmoothL1Loss",
        {"LayerParameter": "roi_pooling_param smooth_l1_loss_param", "DropoutParameter": "scale_train"},
    ),
    Fork(
        "R-FCN",
        "daijifeng001/caffe-rfcn",
        "PSROIPooling BoxAnnotatorOHEM SmoothL1LossOHEM SoftmaxWithLossOHEM",
        {
            "LayerParameter": "psroi_pooling_param box_annotator_ohem_param",
            "LossParameter": "pre_fixed_normalizer",
        },
    ),
    Fork(
        "MS-CNN",
        "zhaoweicai/mscnn",
        "ImageGtData DetectionData BoxOutput BoxGroupOutput DecodeBBox BboxAccuracy",
    ),
    Fork("PVANet", "sanghoon/pva-faster-rcnn", "Proposal", {"LayerParameter": "proposal_param"}),
    Fork(
        "CTPN",
        "tianzhi0549/CTPN",
        "Lstm Reverse Transpose",
        {"LayerParameter": "lstm_param transpose_param"},
    ),
    Fork(
        "MTCNN",
        "kpzhang93/MTCNN_face_detection_alignment",
        "PredictBox",
        {"LayerParameter": "predict_box_param", "MemoryDataParameter": "transpose"},
    ),
    Fork(
        "NVCaffe",
        "NVIDIA/caffe",
        "DetectNetTransformation L1Loss",
        {
            "LayerParameter": "detectnet_groundtruth_param detectnet_augmentation_param "
            "forward_type backward_type forward_math backward_math debug cudnn_math_override",
            "BlobProto": "raw_data_type raw_diff_type raw_data raw_diff",
            "NetParameter": "default_forward_type default_backward_type default_forward_math "
            "default_backward_math global_grad_scale global_grad_scale_adaptive reduce_buckets "
            "default_conv_algos_override default_cudnn_math_override eltwise_mem_sharing",
            "SolverParameter": "rampup_interval rampup_lr momentum_policy max_momentum momentum_power local_lr_auto "
            "local_gw_ratio larc larc_policy larc_turbo store_blobs_in_old_format solver_data_type max_epoch "
            "epoch_size test_epoch_size test_interval_epoch per_parameter_reduce",
            "ConvolutionParameter": "cudnn_convolution_algo_seeker conv_algos_override cudnn_math_override",
            "TransformationParameter": "use_gpu_transform img_rand_resize_lower img_rand_resize_upper "
            "rand_resize_ratio_lower rand_resize_ratio_upper vertical_stretch_lower vertical_stretch_upper "
            "horizontal_stretch_lower horizontal_stretch_upper allow_upscale var_sz_img_enabled "
            "random_seed display num_labels",
            "DataParameter": "threads parser_threads cache shuffle",
            "BatchNormParameter": "scale_filler bias_filler scale_bias engine",
            "DropoutParameter": "engine",
        },
    ),
    Fork(
        "Intel Caffe",
        "intel/caffe",
        "MnActivation SpatialDropout ContinuationIndicator",
        {
            "LayerParameter": "engine split_param multinode mn_activation_param mn_grad_compress_param "
            "quantization_param spatial_dropout_param continuation_indicator_param",
            "NetParameter": "engine bn_stats_batch_size compile_net_state multinode",
            "SolverParameter": "disabled_update engine local_lr_auto local_gw_ratio",
            "FillerParameter": "scale",
            "TransformationParameter": "random_resize_param random_aspect_ratio_param flow",
            "ConvolutionParameter": "relu negative_slope conv_algorithm",
            "BatchNormParameter": "engine use_weight_bias bias_term filler bias_filler stats_batch_size relu",
            "ConcatParameter": "engine",
            "EltwiseParameter": "engine",
            "LossParameter": "pre_fixed_normalizer",
            "DataParameter": "shuffle",
        },
    ),
    Fork(
        "SegNet",
        "alexgkendall/caffe-segnet",
        "Upsample BN DenseImageData",
        {
            "LayerParameter": "upsample_param bn_param dense_image_data_param",
            "LossParameter": "weight_by_label_freqs class_weighting",
            "DropoutParameter": "sample_weights_test",
        },
    ),
    Fork(
        "DeepLab",
        "bitbucket.org/aquariusjay/deeplab-public-ver2",
        "Interp BN ImageSegData SegAccuracy MatRead MatWrite UniqueLabel DenseCRF DomainTransform "
        "AdaptiveBiasChannel BiasChannel",
        {
            "LayerParameter": "interp_param bn_param seg_accuracy_param mat_read_param mat_write_param "
            "unique_label_param dense_crf_param domain_transform_param",
            "ConvolutionParameter": "hole hole_h hole_w",
            "ImageDataParameter": "label_type ignore_label",
            "V1LayerParameter": "strict_dim",
        },
    ),
    Fork(
        "PSPNet",
        "hszhao/PSPNet",
        "BN Interp ImageSegData SegAccuracy",
        {
            "LayerParameter": "bn_param interp_param seg_accuracy_param batch_reduction_param",
            "ConvolutionParameter": "hole hole_h hole_w",
            "ImageDataParameter": "label_type ignore_label",
            "TransformationParameter": "rand_resize rand_rotate rand_aspect_ratio gaussian_blur rotate90n "
            "label_scalefactor label_offset crop_h crop_w",
        },
    ),
    Fork(
        "yjxiong",
        "yjxiong/caffe",
        "BN VideoData SegData BatchReduction",
        {
            "LayerParameter": "bn_param video_data_param seg_data_param batch_reduction_param "
            "color_conv_param",
            "NetParameter": "mem_param",
            "SolverParameter": "richness",
            "ConvolutionParameter": "dilation_h dilation_w",
            "TransformationParameter": "fix_crop more_fix_crop multi_scale scale_ratios max_distort is_flow "
            "original_image stride upper_size upper_height upper_width",
            "DataParameter": "shuffle",
        },
    ),
    Fork("HED", "s9xie/hed", "ImageLabelmapData"),
    Fork("RCF", "yun-liu/RCF", "AutoCrop ImageLabelmapData"),
    Fork(
        "CRF-RNN",
        "torrvision/crfasrnn",
        "MultiStageMeanfield",
        {"LayerParameter": "multi_stage_meanfield_param"},
    ),
    Fork(
        "CPM",
        "CMU-Perceptual-Computing-Lab/caffe_train",
        "CPMData CPMBottomUpData",
        {"LayerParameter": "cpm_transform_param"},
    ),
    Fork(
        "OpenPose",
        "CMU-Perceptual-Computing-Lab/caffe_rtpose",
        "ImResize Nms",
        {"LayerParameter": "imresize_param nms_param op_transform_param"},
    ),
    Fork("MobileNet", "yonghenglh6/DepthwiseConvolution", "DepthwiseConvolution"),
    Fork(
        "ShuffleNet",
        "farmingyard/ShuffleNet",
        "ShuffleChannel ConvolutionDepthwise",
        {"LayerParameter": "shuffle_channel_param"},
    ),
    Fork("SENet", "hujie-frank/SENet", "Axpy"),
    Fork(
        "FlowNet",
        "lmb-freiburg/flownet2",
        "Correlation FlowWarp Resample ChannelNorm L1Loss LpqLoss Downsample DataAugmentation CustomData "
        "GenerateAugmentationParameters FlowAugmentation",
        {
            "LayerParameter": "correlation_param flow_warp_param resample_param l1_loss_param lpq_loss_param "
            "downsample_param augmentation_param coeff_schedule_param mean_param reader_param writer_param "
            "reshape_every_iter",
        },
    ),
    Fork(
        "YOLO",
        "gklz1982/caffe-yolov2",
        "BoxData Reorg RegionLoss DetectionLoss EvalDetection",
        {"LayerParameter": "reorg_param region_loss_param"},
    ),
    Fork(
        "MobileNet-YOLO",
        "eric612/MobileNet-YOLO",
        "Yolov3 Yolov3DetectionOutput YoloDetectionOutput RegionLoss",
        {"LayerParameter": "yolov3_param yolov3_detection_output_param yolo_detection_output_param region_loss_param"},
    ),
    Fork("ICNet", "hszhao/ICNet", "", {"BNParameter": "icnet"}),
    Fork("center loss", "ydwen/caffe-face", "CenterLoss", {"LayerParameter": "center_loss_param"}),
    Fork(
        "SphereFace",
        "wy1iu/sphereface",
        "MarginInnerProduct",
        {"LayerParameter": "margin_inner_product_param"},
    ),
    Fork("domain adaptation", "ddtm/caffe", "GradientScaler", {"LayerParameter": "gradient_scaler_param"}),
    Fork(
        "visual-concepts",
        "s-gupta/visual-concepts",
        "MILData MIL",
        {"LayerParameter": "mil_data_param mil_param"},
    ),
    Fork(
        "compact bilinear pooling",
        "gy20073/compact_bilinear_pooling",
        "CompactBilinear SignedSqrt",
        {"LayerParameter": "compact_bilinear_param"},
    ),
    Fork(
        "Ristretto",
        "pmgysel/caffe",
        "ConvolutionRistretto DeconvolutionRistretto FcRistretto LRNRistretto",
        {"LayerParameter": "quantization_param"},
    ),
    Fork(
        "deformable convolution",
        "unsky/Deformable-ConvNets-caffe",
        "DeformableConvolution DeformablePSROIPooling",
        {"LayerParameter": "deformable_convolution_param"},
    ),
    Fork(
        "spatial transformer",
        "daerduoCarey/SpatialTransformerLayer",
        "SpatialTransformer",
        {"LayerParameter": "st_param"},
    ),
)

#: What does the same here, where something does: for layer types of forks, and for others that are often looked for.
TYPES_INSTEAD = {
    "CReLU": 'a "Power" layer with scale: -1, a "Concat" of both and a "ReLU"',
    "ConvolutionRistretto": 'type "Convolution": numbers are not rounded here',
    "DeconvolutionRistretto": 'type "Deconvolution": numbers are not rounded here',
    "DenseImageData": '"Data" or "HDF5Data" layers, one for the pictures and one for the labels of their pixels',
    "FcRistretto": 'type "InnerProduct": numbers are not rounded here',
    "ImageLabelmapData": '"Data" or "HDF5Data" layers, one for the pictures and one for the labels of their pixels',
    "ImageSegData": '"Data" or "HDF5Data" layers, one for the pictures and one for the labels of their pixels',
    "LRNRistretto": 'type "LRN": numbers are not rounded here',
    "MatRead": 'an "HDF5Data" layer',
    "MatWrite": 'an "HDF5Output" layer',
    "Proposal": 'a "Python" layer',
    "Recurrent": 'type "LSTM" or "RNN"',
    "SegAccuracy": 'an "Accuracy" layer with ignore_label, which counts pixels',
    "Transpose": 'type "Permute"',
}

#: The same for fields, of whatever message.
FIELDS_INSTEAD = {
    "dilation_h": "dilation twice, for height and width",
    "dilation_w": "dilation twice, for height and width",
    "disabled_update": "base_lr: 0",
    "epoch_size": "max_iter and test_iter, which count batches",
    "kernel": "kernel_size",
    "local_lr_auto": "clip_gradients, or lr_mult of the layers",
    "max_epoch": "max_iter, which counts batches",
    "momentum": "moving_average_fraction",
    "negative_slope": 'a "ReLU" layer behind it',
    "plateau_winsize": "plateau_interval and plateau_patience",
    "rampup_interval": "warmup_iter",
    "rampup_lr": "warmup_start_lr",
    "random_seed": "random_seed of the solver",
    "relu": 'a "ReLU" layer behind it',
    "shuffle": "convert_imageset --shuffle, which orders the records once",
    "test_epoch_size": "test_iter, which counts batches",
    "test_interval_epoch": "test_interval, which counts batches",
    "use_weight_bias": "scale_bias: true with scale_filler and bias_filler",
}

#: Fields that choose how fast, in which library, in which type of numbers or with how much memory something is
#: computed, and change no result but for rounding; by message.
SPEED_ONLY: Mapping[str, str] = {
    "LayerParameter": "engine forward_type backward_type forward_math backward_math multinode mn_grad_compress_param "
    "split_param cudnn_math_override debug",
    "NetParameter": "engine default_forward_type default_backward_type default_forward_math default_backward_math "
    "reduce_buckets default_conv_algos_override default_cudnn_math_override global_grad_scale "
    "global_grad_scale_adaptive eltwise_mem_sharing compile_net_state multinode mem_param",
    "SolverParameter": "engine store_blobs_in_old_format solver_data_type per_parameter_reduce richness",
    "ConvolutionParameter": "cudnn_convolution_algo_seeker conv_algos_override cudnn_math_override conv_algorithm",
    "BatchNormParameter": "engine",
    "ConcatParameter": "engine",
    "DropoutParameter": "engine",
    "EltwiseParameter": "engine",
    "InnerProductParameter": "engine",
    "DataParameter": "threads parser_threads cache",
    "TransformationParameter": "use_gpu_transform display",
    "V1LayerParameter": "strict_dim",
}

#: Libraries that forks name where the original has `engine: CAFFE` and `engine: CUDNN`.
ENGINES = ("MKL2017", "MKLDNN")


def changes_speed_only(message_name: str, field_name: str) -> bool:
    """Whether a field of a fork may be left out without any result becoming another."""
    return field_name in SPEED_ONLY.get(message_name.rpartition(".")[2], "").split()


def is_of_a_fork(layer_type: str) -> bool:
    """Whether a layer type, which may exist here, comes from a fork and not from the original."""
    return layer_type == "ReLU6" or any(layer_type in fork.layers.split() for fork in FORKS)


def layer_type_hint(layer_type: str) -> str | None:
    """Return whose layer type this is, if it is known from a fork, and what to use instead, if that is known."""
    return _hint(layer_type, (fork for fork in FORKS if layer_type in fork.layers.split()), TYPES_INSTEAD)


def old_type_hint(name: str) -> str | None:
    """The same for a type as V1 layers have it: "IMAGE_SEG_DATA" is ImageSegData."""
    plain = name.replace("_", "").lower()
    types = {layer_type for fork in FORKS for layer_type in fork.layers.split()}
    return next((layer_type_hint(known) for known in sorted(types) if known.lower() == plain), None)


def field_hint(message_name: str, field_name: str) -> str | None:
    """Return whose field this is, if it is known from a fork, and what to use instead, if that is known.

    The message's name may have its package in front. V1LayerParameter counts as LayerParameter.
    """
    message = message_name.rpartition(".")[2].replace("V1LayerParameter", "LayerParameter")
    owners = (fork for fork in FORKS if field_name in fork.fields.get(message, "").split())
    return _hint(field_name, owners, FIELDS_INSTEAD)


def _hint(name: str, owners: Iterable[Fork], instead: Mapping[str, str]) -> str | None:
    owners, other = list(owners), f"use {instead[name]} instead" if name in instead else None
    if not owners:
        return other
    if len(owners) == 1:
        whose = f"the {owners[0].name} fork ({owners[0].home})"
    else:
        *others, last = (f"{fork.name} ({fork.home})" for fork in owners)
        whose = f"the forks {', '.join(others)} and {last}"
    return f"{name} belongs to {whose}{f'; {other}' if other else ''}"
