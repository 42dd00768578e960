"""`do_conv.tf.compose`: the core's function, on arrays in Keras's layout."""

import numpy as np
import pytest
from keras import ops

import do_conv
from do_conv.core import layouts
from do_conv.tf import compose, compose_separable

SHAPES = [
    ((6, 4, 3, 3), (4, 9, 3, 3), 1),
    ((6, 2, 11), (4, 11, 3, 3), 2),
    ((4, 1, 5), (4, 5, 5), 4),
]


@pytest.mark.parametrize(("weight", "delta", "groups"), SHAPES)
def test_it_is_the_cores(weight, delta, groups):
    rng = np.random.default_rng(0)
    weight, delta = rng.standard_normal(weight), rng.standard_normal(delta)
    expected = layouts.kernel_to_keras(do_conv.compose(weight, delta, groups))
    kernel = ops.convert_to_tensor(layouts.kernel_to_keras(weight))
    found = compose(kernel, ops.convert_to_tensor(layouts.delta_to_keras(delta)), groups)
    found = ops.convert_to_numpy(found)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14 * abs(expected).max())


def test_a_separable_pair_is_the_cores():
    rng = np.random.default_rng(0)
    weight, depthwise = rng.standard_normal((6, 2, 3)), rng.standard_normal((4, 3, 2, 3))
    expected = layouts.kernel_to_keras(do_conv.compose_separable(weight, depthwise, 2))
    kernel = ops.convert_to_tensor(layouts.kernel_to_keras(weight))
    found = compose_separable(kernel, ops.convert_to_tensor(layouts.delta_to_keras(depthwise)), 2)
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, rtol=0, atol=1e-13)


def test_without_a_delta_the_kernel_is_as_it_was():
    kernel = ops.ones((1, 1, 3, 4))
    assert compose(kernel, None) is kernel


def test_exception_shapes_of_two_layers():
    with pytest.raises(
        do_conv.DOConvError, match=r"received weight \(6, 4, 3, 3\), delta .*; check"
    ):
        compose(ops.zeros((3, 3, 4, 6)), ops.zeros((3, 3, 6, 9)))
