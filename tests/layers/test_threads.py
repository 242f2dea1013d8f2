"""Results do not depend on the number of threads: bit by bit, where a layer adds up or draws at random."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from tests.layers.gradient import SingleLayer, uniform

IMAGES = uniform(5, 7, 9, 11)
FILLERS = 'weight_filler { type: "gaussian" } bias_filler { type: "gaussian" }'
CASES = [
    (f'type: "Convolution" convolution_param {{ num_output: 9 kernel_size: 3 pad: 1 {FILLERS} }}', [IMAGES]),
    (
        f'type: "Deconvolution" convolution_param {{ num_output: 9 kernel_size: 3 stride: 2 {FILLERS} }}',
        [IMAGES],
    ),
    (f'type: "InnerProduct" inner_product_param {{ num_output: 33 {FILLERS} }}', [IMAGES]),
    ('type: "BatchNorm"', [IMAGES]),
    ('type: "Bias"', [IMAGES]),
    ('type: "Dropout"', [IMAGES]),
    ('type: "LRN"', [IMAGES]),
    ('type: "MVN"', [IMAGES]),
    ('type: "Pooling" pooling_param { kernel_size: 3 stride: 2 }', [IMAGES]),
    ('type: "Pooling" pooling_param { pool: STOCHASTIC kernel_size: 3 stride: 2 }', [np.abs(IMAGES)]),
    ('type: "Scale" scale_param { bias_term: true }', [IMAGES]),
    ('type: "Softmax"', [IMAGES]),
    ('type: "SoftmaxWithLoss"', [IMAGES, np.arange(5 * 99).reshape(5, 9, 11) % 7]),
    ('type: "EuclideanLoss"', [IMAGES, IMAGES[::-1]]),
]


@pytest.mark.parametrize(("text", "bottoms"), CASES, ids=[text for text, _ in CASES])
def test_results_are_the_same(text, bottoms):
    results = []
    for threads in (1, numba.config.NUMBA_NUM_THREADS):
        numba.set_num_threads(threads)
        rig = SingleLayer(text, *bottoms)
        tops = rig.forward()
        diffs = rig.backward(*tops, propagate_down=[bottom.ndim == 4 for bottom in bottoms])
        results.append(tops + diffs + [blob.diff.copy() for blob in rig.layer.blobs])
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    for one, many in zip(*results, strict=True):
        np.testing.assert_array_equal(one, many)
