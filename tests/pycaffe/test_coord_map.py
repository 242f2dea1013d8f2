"""Maps of coordinates: formulas, published offsets of segmentation nets, and pictures that go through nets."""

from __future__ import annotations

import numpy as np
import pytest

import caffetools.pycaffe as caffe
from caffetools.pycaffe import layers as L
from caffetools.pycaffe.coord_map import (
    PASS_THROUGH_LAYERS,
    AxisMismatchException,
    UndefinedMapException,
    compose,
    conv_params,
    coord_map,
    coord_map_from_to,
    crop,
    crop_params,
    inverse,
)


def data(*sizes):
    return L.Input(shape={"dim": list(sizes or (1, 1, 100, 100))})


def check_map(found, axis, scale, shift):
    assert found[0] == axis
    np.testing.assert_array_equal(found[1], scale)
    np.testing.assert_array_equal(found[2], shift)


class TestLayers:
    @pytest.mark.parametrize(
        ("params", "scale", "shift"),
        [
            ({"kernel_size": 1}, 1, 0),
            ({"kernel_size": 3}, 1, -1),
            ({"kernel_size": 3, "pad": 1}, 1, 0),
            ({"kernel_size": 4}, 1, -1.5),
            ({"kernel_size": 3, "stride": 2, "pad": 1}, 0.5, 0),
            ({"kernel_size": 3, "dilation": 5}, 1, -5),
            ({"kernel_size": 2, "stride": 4}, 0.25, -0.125),
            ({"kernel_size": [3, 5], "stride": [1, 2], "pad": 1}, [1, 0.5], [0, -0.5]),
            ({"kernel_size": [3, 5, 7]}, 1, [-1, -2, -3]),
        ],
    )
    @pytest.mark.parametrize("type_name", ["Convolution", "Pooling", "Im2col"])
    def test_windows(self, type_name, params, scale, shift):
        check_map(coord_map(getattr(L, type_name)(data(), **params).fn), 1, scale, shift)

    @pytest.mark.parametrize(
        ("params", "scale", "shift"),
        [
            ({"kernel_size": 1}, 1, 0),
            ({"kernel_size": 3}, 1, 1),
            ({"kernel_size": 64, "stride": 32}, 32, 31.5),
            ({"kernel_size": 4, "stride": 2, "pad": 1}, 2, 0.5),
        ],
    )
    def test_deconvolution(self, params, scale, shift):
        check_map(coord_map(L.Deconvolution(data(), convolution_param=params).fn), 1, scale, shift)

    @pytest.mark.parametrize("type_name", PASS_THROUGH_LAYERS)
    def test_pass_through(self, type_name):
        check_map(coord_map(getattr(L, type_name)(data()).fn), None, 1, 0)

    @pytest.mark.parametrize("type_name", PASS_THROUGH_LAYERS)
    def test_pass_through_types_exist(self, type_name):
        assert type_name in caffe.layer_type_list()

    @pytest.mark.parametrize(
        ("params", "axis", "offset"),
        [
            ({}, 1, 0),
            ({"offset": 5}, 1, 5),
            ({"axis": 3, "offset": [4]}, 2, 4),
            ({"offset": [1, 2]}, 1, [1, 2]),
        ],
    )
    @pytest.mark.parametrize("nested", [False, True])
    def test_crop(self, params, axis, offset, nested):
        fn = L.Crop(data(), data(), **({"crop_param": params} if nested else params)).fn
        check_map(coord_map(fn), axis, 1, -np.asarray(offset))
        assert crop_params(fn)[0] == axis + 1

    @pytest.mark.parametrize(
        "top",
        [L.InnerProduct(data(), num_output=2), L.Reshape(data()), L.Pooling(data(), global_pooling=True)],
    )
    def test_no_map(self, top):
        with pytest.raises(UndefinedMapException, match=top.fn.type_name):
            coord_map(top.fn)

    def test_parameters_of_single_axes(self):
        with pytest.raises(AssertionError, match="does not support legacy _h/_w params .kernel_h, pad_w."):
            conv_params(L.Convolution(data(), kernel_h=3, pad_w=1).fn)

    @pytest.mark.parametrize("nested", [None, "convolution_param", "pooling_param"])
    def test_conv_params(self, nested):
        params = {"kernel_size": [3, 2], "dilation": 2, "pad": 4, "axis": 2}
        axis, stride, size, pad = conv_params(L.Convolution(**({nested: params} if nested else params)).fn)
        assert (axis, stride.tolist(), size.tolist(), pad.tolist()) == (2, [1], [5, 3], [4])


class TestMaps:
    def test_compose(self):
        """x -> 3x + 1, then x -> 2x + 5."""
        check_map(compose((1, 2, 5), (1, 3, 1)), 1, 6, 7)

    @pytest.mark.parametrize("axes", [(None, 1), (1, None), (1, 1)])
    def test_axis_of_a_composition(self, axes):
        assert compose((axes[0], 1, 0), (axes[1], 1, 0))[0] == 1

    def test_axes_that_differ(self):
        with pytest.raises(AxisMismatchException, match="axes 1 and 2"):
            compose((1, 1, 0), (2, 1, 0))

    def test_inverse(self):
        check_map(compose(inverse((1, np.array([2, 4]), 3)), (1, np.array([2, 4]), 3)), 1, 1, 0)


class TestFromTo:
    def test_chain(self):
        x = data()
        y = L.Pooling(L.ReLU(L.Convolution(x, kernel_size=5, stride=2)), kernel_size=3, stride=3)
        # y = ((x - 2) / 2 - 1) / 3
        axis, scale, shift = coord_map_from_to(x, y)
        assert (axis, scale, shift) == (1, pytest.approx(1 / 6), pytest.approx(-2 / 3))
        axis, scale, shift = coord_map_from_to(y, x)
        assert (axis, scale, shift) == (1, pytest.approx(6), pytest.approx(4))

    def test_several_convolutions_keep_the_last_shift(self):
        x = data()
        y = x
        for _ in range(10):
            y = L.Convolution(y, kernel_size=3, pad=1)
        check_map(coord_map_from_to(y, x), 1, 1, 0)

    def test_two_branches(self):
        x = data()
        left = L.Convolution(x, kernel_size=3)
        right = L.Convolution(x, kernel_size=7)
        check_map(coord_map_from_to(left, right), 1, 1, -2)

    def test_many_paths(self):
        """2^60 paths through sums, each of which is the same map."""
        x = top = data()
        for _ in range(60):
            top = L.Eltwise(L.ReLU(top), L.TanH(top))
        check_map(coord_map_from_to(x, top), None, 1, 0)

    def test_crop_of_a_crop(self):
        x = data()
        twice = L.Crop(L.Crop(x, data(), offset=3), data(), offset=4)
        check_map(coord_map_from_to(twice, x), 1, 1, 7)

    def test_what_a_crop_is_cropped_to_does_not_connect(self):
        x = data()
        with pytest.raises(RuntimeError, match="Could not compute map between tops"):
            coord_map_from_to(L.Crop(data(), x), x)

    def test_unconnected(self):
        with pytest.raises(RuntimeError, match="are they connected by spatial layers?"):
            coord_map_from_to(data(), data())

    def test_connected_by_other_layers(self):
        x = data()
        with pytest.raises(RuntimeError, match="are they connected by spatial layers?"):
            coord_map_from_to(L.InnerProduct(x, num_output=3), x)

    def test_axes_that_differ(self):
        x = data()
        y = L.Convolution(L.Convolution(x, kernel_size=3, axis=2), kernel_size=3)
        with pytest.raises(AxisMismatchException):
            coord_map_from_to(x, y)


class TestCrop:
    def test_rectangle(self):
        x = data()
        top = L.Deconvolution(x, convolution_param={"kernel_size": [5, 9], "stride": 1})
        fn = crop(top, x).fn
        assert fn.inputs == (top, x)
        assert fn.params == {"crop_param": {"axis": 2, "offset": [2, 4]}}

    def test_three_spatial_axes(self):
        x = data(1, 1, 9, 9, 9)
        top = L.Deconvolution(x, convolution_param={"kernel_size": [3, 5, 7]})
        assert crop(top, x).fn.params["crop_param"]["offset"] == [1, 2, 3]

    def test_same_coordinates(self):
        x = data()
        assert crop(L.ReLU(x), x).fn.params["crop_param"] == {"axis": 2, "offset": [0]}

    @pytest.mark.parametrize(
        ("make", "words"),
        [
            (lambda x: L.Convolution(x, kernel_size=3, stride=2), "scale mismatch on crop"),
            (lambda x: L.Convolution(x, kernel_size=3), "cannot crop negative offset"),
            (
                lambda x: L.Deconvolution(x, convolution_param={"kernel_size": 4}),
                "cannot crop noninteger offset",
            ),
        ],
    )
    def test_refusals(self, make, words):
        x = data()
        with pytest.raises(AssertionError, match=words):
            crop(make(x), x)

    def test_offsets_of_the_fully_convolutional_nets(self):
        """Of FCN-8s on VGG-16 the prototxts have 5, 9 and 31; of FCN-32s 19."""

        def block(top, layers, pad=1):
            for i in range(layers):
                top = L.ReLU(L.Convolution(top, kernel_size=3, pad=pad if i == 0 else 1, num_output=2))
            return L.Pooling(top, kernel_size=2, stride=2)

        x = data()
        pool3 = block(block(block(x, 2, pad=100), 2), 3)
        pool4 = block(pool3, 3)
        fc7 = L.Convolution(L.Dropout(L.Convolution(block(pool4, 3), kernel_size=7)), kernel_size=1)
        score = L.Convolution(fc7, kernel_size=1)

        def upscore(top, kernel, stride):
            return L.Deconvolution(top, convolution_param={"kernel_size": kernel, "stride": stride})

        def offset(top):
            return top.fn.params["crop_param"]["offset"]

        assert offset(crop(upscore(score, 64, 32), x)) == [19]
        upscore2 = upscore(score, 4, 2)
        score4 = crop(L.Convolution(pool4, kernel_size=1), upscore2)
        fused4 = L.Eltwise(upscore2, score4)
        upscore4 = upscore(fused4, 4, 2)
        score3 = crop(L.Convolution(pool3, kernel_size=1), upscore4)
        fused3 = L.Eltwise(upscore4, score3)
        assert (offset(score4), offset(score3), offset(crop(upscore(fused3, 16, 8), x))) == ([5], [9], [31])

    @pytest.mark.parametrize(("kernel", "stride", "pad"), [(3, 2, 6), (5, 3, 7), (4, 4, 8)])
    def test_pixels_come_back_to_their_places(self, write, kernel, stride, pad):
        """A point goes down through a convolution of ones and up again, and lies in the middle of its patch."""
        n = caffe.NetSpec()
        n.data = L.Input(shape={"dim": [1, 1, 31, 31]})
        ones = {"kernel_size": kernel, "stride": stride, "num_output": 1, "weight_filler": {"value": 1}}
        n.down = L.Convolution(n.data, pad=pad, **ones)
        n.up = L.Deconvolution(n.down, convolution_param=ones)
        n.back = crop(n.up, n.data)
        net = caffe.Net(write(str(n.to_proto())), caffe.TEST)
        points = range(stride, 31 - stride)
        middles = []
        for point in points:
            net.blobs["data"].data[...] = 0
            net.blobs["data"].data[0, 0, point, point] = 1
            row = net.forward()["back"][0, 0].sum(0)
            middles.append(row @ np.arange(31) / row.sum())
        assert net.blobs["back"].shape == (1, 1, 31, 31)
        # The patch hangs on a grid of `stride`: right on average over it.
        errors = np.array(middles) - points
        whole = len(points) // stride * stride
        assert abs(errors[:whole].mean()) < 0.25
