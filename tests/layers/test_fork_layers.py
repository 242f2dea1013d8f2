"""Layers that forks of the original have, against PyTorch and NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.glog import FatalError
from caffetools.layer import TEST
from tests.layers.gradient import SingleLayer, uniform

X = (2, 6, 5, 7)
GAUSS = 'weight_filler { type: "gaussian" } bias_filler { type: "gaussian" }'


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def compare(rig, expected, *inputs, torch, tolerance=1e-5):
    """Compare forward and backward of a layer with a function of torch tensors."""
    (y,) = rig.forward()
    tensors = [torch.tensor(np.asarray(values), dtype=torch.float64, requires_grad=True) for values in inputs]
    wanted = expected(*tensors)
    np.testing.assert_allclose(y, wanted.detach().numpy(), rtol=tolerance, atol=tolerance)
    dy = uniform(*y.shape, seed=9) if y.shape else np.array(0.7)
    wanted.backward(torch.tensor(dy, dtype=torch.float64))
    reads = [i < len(tensors) for i in range(len(rig.bottom))]
    for actual, tensor in zip(rig.backward(dy, propagate_down=reads), tensors, strict=False):
        np.testing.assert_allclose(actual, tensor.grad.numpy(), rtol=tolerance, atol=tolerance)


def parameters(rig, count, torch):
    """Tensors of a layer's first parameters, which torch will give gradients."""
    return [torch.tensor(blob.data, dtype=torch.float64, requires_grad=True) for blob in rig.layer.blobs[:count]]


def compare_parameters(rig, tensors):
    for blob, tensor in zip(rig.layer.blobs, tensors, strict=False):
        np.testing.assert_allclose(blob.diff, tensor.grad.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("order", [(0, 2, 3, 1), (3, 0), ()])
def test_permute(order, torch):
    text = " ".join(f"order: {axis}" for axis in order)
    rest = [axis for axis in range(4) if axis not in order]
    x = uniform(*X)
    rig = SingleLayer(f'type: "Permute" permute_param {{ {text} }}', x)
    compare(rig, lambda t: t.permute(*order, *rest), x, torch=torch)


@pytest.mark.parametrize(("text", "message"), [("order: 4", "no such axis"), ("order: 1 order: 1", "named twice")])
def test_permute_of_axes_that_are_none(text, message):
    with pytest.raises(FatalError, match=message):
        SingleLayer(f'type: "Permute" permute_param {{ {text} }}', uniform(*X))


@pytest.mark.parametrize("group", [1, 2, 3])
def test_shuffle_channel(group, torch):
    x = uniform(*X)
    rig = SingleLayer(f'type: "ShuffleChannel" shuffle_channel_param {{ group: {group} }}', x)
    compare(rig, lambda t: torch.nn.functional.channel_shuffle(t, group), x, torch=torch)


def test_shuffle_channel_that_does_not_divide():
    with pytest.raises(FatalError, match="multiple of group"):
        SingleLayer('type: "ShuffleChannel" shuffle_channel_param { group: 4 }', uniform(*X))


@pytest.mark.parametrize("in_place", [False, True])
def test_relu6(in_place, torch):
    x = uniform(*X, low=-9, high=9)
    compare(SingleLayer('type: "ReLU6"', x, in_place=in_place), torch.nn.functional.relu6, x, torch=torch)


def test_relu6_passes_nan():
    assert np.isnan(SingleLayer('type: "ReLU6"', np.full(3, np.nan)).forward()).all()


@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 1, 1)])
def test_axpy(shape, torch):
    a, x, y = uniform(*shape, seed=1), uniform(*X, seed=2), uniform(*X, seed=3)
    rig = SingleLayer('type: "Axpy"', a, x, y)
    compare(rig, lambda a, x, y: a.reshape(2, 6, 1, 1) * x + y, a, x, y, torch=torch)


@pytest.mark.parametrize("sigma", [1, 3])
@pytest.mark.parametrize("weights", [0, 1, 2])
def test_smooth_l1_loss(sigma, weights, torch):
    a, b, inside, outside = (uniform(4, 3, low=-2, high=2, seed=i) for i in range(4))
    rig = SingleLayer(
        f'type: "SmoothL1Loss" smooth_l1_loss_param {{ sigma: {sigma} }}', *(a, b, inside, outside)[: 2 + weights]
    )
    w_in = torch.tensor(inside) if weights else torch.ones(4, 3)
    w_out = torch.tensor(outside) if weights > 1 else torch.ones(4, 3)

    def expected(a, b):
        d = w_in * (a - b)
        loss = torch.nn.functional.smooth_l1_loss(d, torch.zeros_like(d), beta=1 / sigma**2, reduction="none")
        return (w_out * loss).sum() / 4

    compare(rig, expected, a, b, torch=torch)


@pytest.mark.parametrize(
    ("text", "size"),
    [("height: 9 width: 11", (9, 11)), ("zoom_factor: 3", (13, 19)), ("shrink_factor: 2", (3, 4)),
     ("shrink_factor: 2 zoom_factor: 4", (9, 13)), ("height: 1 width: 1", (1, 1))],
)  # fmt: skip
def test_interp(text, size, torch):
    x = uniform(*X)
    rig = SingleLayer(f'type: "Interp" interp_param {{ {text} }}', x)
    resize = torch.nn.functional.interpolate
    compare(rig, lambda t: resize(t, size=size, mode="bilinear", align_corners=True), x, torch=torch)


def test_interp_cuts_off_first(torch):
    x = uniform(*X)
    rig = SingleLayer('type: "Interp" interp_param { pad_beg: -1 pad_end: -2 zoom_factor: 2 }', x)
    resize = torch.nn.functional.interpolate
    compare(
        rig, lambda t: resize(t[:, :, 1:3, 1:5], size=(3, 7), mode="bilinear", align_corners=True), x, torch=torch
    )


def test_upsample_repeats_pixels(torch):
    x = uniform(*X)
    rig = SingleLayer('type: "Upsample" upsample_param { scale: 3 }', x)
    compare(rig, lambda t: torch.nn.functional.interpolate(t, scale_factor=3), x, torch=torch)


@pytest.mark.parametrize(
    ("text", "size"), [("", (4, 6)), ("upsample_h: 5 upsample_w: 7", (5, 7)), ("scale: 2", (4, 6))]
)
def test_upsample_undoes_max_pooling(text, size, torch):
    plane = torch.tensor(uniform(2, 3, *size))
    pooled, index = torch.nn.functional.max_pool2d(plane, 2, return_indices=True)
    x = uniform(*pooled.shape, seed=4)
    rig = SingleLayer(f'type: "Upsample" upsample_param {{ {text} }}', x, index.numpy())
    compare(rig, lambda t: torch.nn.functional.max_unpool2d(t, index, 2, output_size=size), x, torch=torch)


def test_upsample_names_an_index_out_of_range():
    rig = SingleLayer('type: "Upsample"', uniform(1, 1, 1, 2), np.array([[[[3, 8]]]]))
    with pytest.raises(FatalError, match="index 8 out of range"):
        rig.forward()


@pytest.mark.parametrize(
    ("kind", "text", "groups"),
    [("DepthwiseConvolution", "num_output: 12 group: 6", 6), ("ConvolutionDepthwise", "num_output: 6", 6)],
)
def test_depthwise_convolutions(kind, text, groups, torch):
    x = uniform(*X)
    rig = SingleLayer(f'type: "{kind}" convolution_param {{ {text} kernel_size: 3 pad: 1 stride: 2 {GAUSS} }}', x)
    w, b = parameters(rig, 2, torch)
    convolve = torch.nn.functional.conv2d
    compare(
        rig, lambda t: convolve(t, w, b, stride=2, padding=1, groups=groups), x, torch=torch, tolerance=1e-4
    )
    compare_parameters(rig, (w, b))


def test_convolution_depthwise_has_a_filter_for_each_channel():
    with pytest.raises(FatalError, match="each channel has one filter"):
        SingleLayer('type: "ConvolutionDepthwise" convolution_param { num_output: 4 kernel_size: 1 }', uniform(*X))


@pytest.mark.parametrize("across_spatial", ["true", "false"])
@pytest.mark.parametrize("channel_shared", ["true", "false"])
def test_normalize(across_spatial, channel_shared, torch):
    x = uniform(*X)
    filler = 'scale_filler { type: "uniform" min: 1 max: 20 }'
    text = f"across_spatial: {across_spatial} channel_shared: {channel_shared} {filler} eps: 0.001"
    rig = SingleLayer(f'type: "Normalize" norm_param {{ {text} }}', x)
    (scale,) = parameters(rig, 1, torch)
    axes = (1, 2, 3) if across_spatial == "true" else (1,)

    def expected(t):
        return scale.reshape(1, -1, 1, 1) * t / ((t * t).sum(dim=axes, keepdim=True) + 0.001).sqrt()

    compare(rig, expected, x, torch=torch)
    compare_parameters(rig, [scale])


FILLERS = 'slope_filler { type: "uniform" min: 0.5 max: 2 } bias_filler { type: "gaussian" }'


@pytest.mark.parametrize("in_place", [False, True])
def test_bn_normalises_and_collects(in_place, torch):
    x = uniform(*X, low=-1, high=4)
    rig = SingleLayer(f'type: "BN" bn_param {{ {FILLERS} momentum: 0.8 }}', x, in_place=in_place)
    assert [blob.shape for blob in rig.layer.blobs] == [(1, 6, 1, 1)] * 4
    slope, bias = parameters(rig, 2, torch)
    norm = torch.nn.functional.batch_norm
    compare(rig, lambda t: norm(t, None, None, slope.ravel(), bias.ravel(), training=True), x, torch=torch)
    compare_parameters(rig, (slope, bias))
    mean, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
    np.testing.assert_allclose(rig.layer.blobs[2].data.reshape(-1), 0.2 * mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(rig.layer.blobs[3].data.reshape(-1), 0.8 + 0.2 * var, rtol=1e-4)


@pytest.mark.parametrize("how", [{"phase": TEST}, {"frozen": True}], ids=str)
def test_bn_by_collected_statistics(how, torch):
    x = uniform(*X)
    text = f"{FILLERS} frozen: true" if how.pop("frozen", False) else FILLERS
    rig = SingleLayer(f'type: "BN" bn_param {{ {text} }}', x, **how)
    rig.layer.blobs[2].data[...], rig.layer.blobs[3].data[...] = 0.3, 2.5
    slope, bias, mean, var = (torch.tensor(blob.data.reshape(-1), dtype=torch.float64) for blob in rig.layer.blobs)
    compare(rig, lambda t: torch.nn.functional.batch_norm(t, mean, var, slope, bias), x, torch=torch)
    assert not rig.layer.blobs[0].diff.any()


@pytest.mark.parametrize("mode", ["LEARN", "INFERENCE"])
def test_bn_of_segnet(mode, torch):
    x = uniform(*X)
    fillers = FILLERS.replace("slope_filler", "scale_filler").replace("bias_filler", "shift_filler")
    rig = SingleLayer(f'type: "BN" bn_param {{ {fillers} bn_mode: {mode} }}', x)
    scale, shift = parameters(rig, 2, torch)
    norm = torch.nn.functional.batch_norm
    plain = {"LEARN": lambda t: norm(t, None, None, training=True), "INFERENCE": lambda t: t}[mode]
    compare(rig, lambda t: plain(t) * scale + shift, x, torch=torch)
    compare_parameters(rig, (scale, shift))


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("more", ["", "use_global_stats: true"])
def test_batch_norm_with_scale_and_bias(in_place, more, torch):
    x = uniform(*X)
    fillers = 'scale_filler { type: "uniform" min: 0.5 max: 2 } bias_filler { type: "gaussian" }'
    text = f'type: "BatchNorm" batch_norm_param {{ scale_bias: true {fillers} {more} }}'
    rig = SingleLayer(text, x, in_place=in_place)
    mean, var, factor, scale, bias = (blob.data for blob in rig.layer.blobs)
    if more:
        mean[...], var[...], factor[...] = 0.6, 3, 2
    tensors = [torch.tensor(a / (factor[0] or 1), dtype=torch.float64) for a in (mean, var)]
    scale, bias = (torch.tensor(a.copy(), dtype=torch.float64, requires_grad=True) for a in (scale, bias))

    def expected(t):
        statistics = tensors if more else (None, None)
        return torch.nn.functional.batch_norm(t, *statistics, scale, bias, training=not more)

    compare(rig, expected, x, torch=torch)
    np.testing.assert_allclose(rig.layer.blobs[3].diff, scale.grad.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(rig.layer.blobs[4].diff, bias.grad.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0, 0.1])
@pytest.mark.parametrize("weights", [(), (0.5, 2, 1)])
@pytest.mark.parametrize("ignore", ["", "ignore_label: 1"])
def test_softmax_loss_with_weights_and_smoothing(smoothing, weights, ignore, torch):
    x, labels = uniform(4, 3, 2, low=-3, high=3), np.random.default_rng(2).integers(0, 3, (4, 2))
    text = f"label_smoothing: {smoothing} {ignore} " + " ".join(f"class_weighting: {w}" for w in weights)
    rig = SingleLayer(f'type: "SoftmaxWithLoss" loss_param {{ {text} }}', x, labels)
    options = {"weight": torch.tensor(weights, dtype=torch.float64)} if weights else {}
    if ignore:
        options["ignore_index"] = 1
    counted = (labels != 1).sum() if ignore else labels.size

    def expected(t):
        loss = torch.nn.functional.cross_entropy
        return loss(t, torch.tensor(labels), label_smoothing=smoothing, reduction="sum", **options) / counted

    compare(rig, expected, x, torch=torch)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class_weighting: 1 class_weighting: 2", "a factor for each class"),
        ("weight_by_label_freqs: true", "class_weighting is given"),
        ("label_smoothing: 1", "a share of the target"),
    ],
)
def test_weights_that_do_not_fit(text, message):
    with pytest.raises(FatalError, match=message):
        SingleLayer(f'type: "SoftmaxWithLoss" loss_param {{ {text} }}', uniform(4, 3), np.zeros(4))


def roi_pool_of_numpy(x, regions, size, scale):
    """By the definition, one part after the other."""
    y = np.zeros((len(regions), x.shape[1], *size))
    for r, (item, *corners) in enumerate(regions):
        left, top, right, bottom = (int(np.floor(c * scale + 0.5)) for c in corners)
        h, w = max(bottom - top + 1, 1), max(right - left + 1, 1)
        for i in range(size[0]):
            rows = slice(*(np.clip([top + i * h // size[0], top + -(-(i + 1) * h // size[0])], 0, x.shape[2])))
            for j in range(size[1]):
                begin, end = left + j * w // size[1], left + -(-(j + 1) * w // size[1])
                columns = slice(*(np.clip([begin, end], 0, x.shape[3])))
                part = x[int(item), :, rows, columns].reshape(x.shape[1], -1)
                y[r, :, i, j] = part.max(axis=1) if part.size else 0
    return y


REGIONS = np.array(
    [[0, 0, 0, 12, 8], [1, 2, 2, 6, 12], [1, 9, 1, 40, 3], [0, 4, 4, 4, 4], [0, 30, 30, 40, 40], [1, 8, 8, 2, 2]]
)


WITHIN = np.array([[0, 0, 0, 12, 8], [1, 2, 2, 6, 8], [1, 0, 3, 11, 7], [0, 4, 1, 8, 4]])


@pytest.mark.parametrize("scale", [1, 0.5])
def test_roi_pooling(scale):
    x = uniform(2, 3, 9, 13)
    text = f'type: "ROIPooling" roi_pooling_param {{ pooled_h: 3 pooled_w: 4 spatial_scale: {scale} }}'
    rig = SingleLayer(text, x, REGIONS)
    (y,) = rig.forward()
    np.testing.assert_allclose(y, roi_pool_of_numpy(x, REGIONS, (3, 4), scale), rtol=1e-6)
    # Each dy goes to one element: the one that was largest.
    dx, _ = rig.backward(np.ones_like(y), propagate_down=[True, False])
    parts = np.abs(y) > 0
    assert dx.sum() == parts.sum()
    np.testing.assert_allclose((dx * x).sum(), y.sum(), rtol=1e-5)


def test_roi_pooling_is_adaptive_max_pooling_of_each_region(torch):
    x = uniform(2, 3, 9, 13)
    rig = SingleLayer('type: "ROIPooling" roi_pooling_param { pooled_h: 3 pooled_w: 4 }', x, WITHIN)

    def expected(t):
        pool = torch.nn.functional.adaptive_max_pool2d
        parts = [pool(t[n, :, top : bottom + 1, left : right + 1], (3, 4)) for n, left, top, right, bottom in WITHIN]
        return torch.stack(parts)

    compare(rig, expected, x, torch=torch)


def test_roi_pooling_names_a_region_without_an_item():
    text = 'type: "ROIPooling" roi_pooling_param { pooled_h: 2 pooled_w: 2 }'
    with pytest.raises(FatalError, match="region 1 is of item 2; the batch has 2"):
        SingleLayer(text, uniform(2, 1, 4, 4), np.array([[0, 0, 0, 2, 2], [2, 0, 0, 2, 2]])).forward()
