"""Keras's own routine for a layer's tests: building, calling, serialization and training."""

import pytest
from keras.src.testing import TestCase

from do_conv.tf import (
    DepthwiseSeparableConv1D,
    DepthwiseSeparableConv2D,
    DOConv1D,
    DOConv1DTranspose,
    DOConv2D,
    DOConv2DTranspose,
    DOConv3D,
    DOConv3DTranspose,
    DODepthwiseConv2D,
)

CASES = [
    (DOConv1D, {"filters": 2, "kernel_size": 2, "padding": "causal"}, (2, 4, 2)),
    (DOConv2D, {"filters": 2, "kernel_size": 2, "groups": 2}, (2, 4, 4, 2)),
    (DOConv3D, {"filters": 2, "kernel_size": (1, 2, 1)}, (2, 3, 3, 3, 2)),
    (DODepthwiseConv2D, {"kernel_size": 2, "depth_multiplier": 2}, (2, 4, 4, 2)),
    (DOConv1DTranspose, {"filters": 2, "kernel_size": 3, "strides": 2}, (2, 4, 2)),
    (DOConv2DTranspose, {"filters": 2, "kernel_size": 2, "d_mul": 6}, (2, 4, 4, 2)),
    (DOConv3DTranspose, {"filters": 2, "kernel_size": (1, 2, 1)}, (2, 3, 3, 3, 2)),
    (DepthwiseSeparableConv1D, {"filters": 2, "kernel_size": 3}, (2, 4, 2)),
    (DepthwiseSeparableConv2D, {"filters": 2, "kernel_size": 2}, (2, 4, 4, 2)),
]


# The routine gives `fit` a generator, and is told that this is not shuffled.
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning")
@pytest.mark.parametrize(("layer_class", "arguments", "shape"), CASES)
def test_it_passes(layer_class, arguments, shape):
    count = 3  # two kernels and a bias
    TestCase().run_layer_test(
        layer_class, arguments, input_shape=shape, expected_num_trainable_weights=count
    )
