"""Keras's order of axes: every element lands where Keras reads it, and comes back."""

import numpy as np
import pytest

from do_conv import Spec
from do_conv.core import layouts

KERNELS = [(3,), (2, 3), (2, 3, 4)]


def numbered(*shape):
    """Every element differs, so one in a wrong place is seen."""
    return np.arange(np.prod(shape)).reshape(shape)


@pytest.mark.parametrize("slots", [*KERNELS, (7,)])
def test_kernel(slots):
    kernel = numbered(5, 4, *slots)
    moved = layouts.kernel_to_keras(kernel)
    assert moved.shape == (*slots, 4, 5)
    for o, c, *k in np.ndindex(*kernel.shape):
        assert moved[(*k, c, o)] == kernel[(o, c, *k)]
    np.testing.assert_array_equal(layouts.kernel_from_keras(moved), kernel)


@pytest.mark.parametrize("kernel_size", KERNELS)
def test_delta(kernel_size):
    delta = numbered(5, 7, *kernel_size)
    moved = layouts.delta_to_keras(delta)
    assert moved.shape == (*kernel_size, 5, 7)
    for i, s, *k in np.ndindex(*delta.shape):
        assert moved[(*k, i, s)] == delta[(i, s, *k)]
    np.testing.assert_array_equal(layouts.delta_from_keras(moved), delta)


@pytest.mark.parametrize("multiplier", [1, 3])
@pytest.mark.parametrize("d_mul", [None, 8])
def test_depthwise_kernel(d_mul, multiplier):
    # Keras's channel i has the outputs i*multiplier to (i+1)*multiplier - 1, as groups have.
    spec = Spec(4, 4 * multiplier, (2, 3), 4, d_mul)
    kernel = numbered(*spec.weight_shape)
    moved = layouts.depthwise_kernel_to_keras(kernel, spec)
    slots = spec.weight_shape[2:]
    assert moved.shape == (*slots, 4, multiplier)
    for i, m, *k in np.ndindex(4, multiplier, *slots):
        assert moved[(*k, i, m)] == kernel[(i * multiplier + m, 0, *k)]
    np.testing.assert_array_equal(layouts.depthwise_kernel_from_keras(moved), kernel)


@pytest.mark.parametrize("size", KERNELS)
def test_activations(size):
    x = numbered(2, 5, *size)
    moved = layouts.channels_last(x)
    assert moved.shape == (2, *size, 5)
    for n, c, *p in np.ndindex(*x.shape):
        assert moved[(n, *p, c)] == x[(n, c, *p)]
    np.testing.assert_array_equal(layouts.channels_first(moved), x)
