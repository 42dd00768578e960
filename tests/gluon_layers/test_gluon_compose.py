"""The composed kernel in MXNet: `compose` and `compose_separable`, and what scales with W."""

import do_conv.gluon  # before mxnet, which reads names from NumPy that this module restores

# isort: split
import mxnet as mx
import numpy as np
import pytest

from do_conv import DOConvError, compose_separable
from do_conv.gluon import DepthwiseSeparableConv2D, DOConv2D, DOConv2DTranspose


def equal(one, other):
    return np.array_equal(one.asnumpy(), other.asnumpy())


def conv(x, trained, **options):
    return trained(DOConv2D(8, 3, **options), x)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("d_mul", [None, 11])
def test_scaling_an_output_channel_of_w_scales_that_channel_of_the_kernel(
    d_mul, groups, batch, trained
):
    layer = conv(batch(), trained, groups=groups, d_mul=d_mul)
    # Powers of two, so that nothing is rounded.
    factors = mx.nd.array(2.0 ** np.arange(-4, 4))
    expected = layer.composed_weight() * factors.reshape((-1, 1, 1, 1))
    weight = layer.weight.data()
    layer.weight.set_data(weight * factors.reshape((-1, *[1] * (weight.ndim - 1))))
    assert equal(layer.composed_weight(), expected)


@pytest.mark.parametrize("d_mul", [None, 11])
def test_public_compose_is_the_layers(d_mul, batch, trained):
    layer = conv(batch("float64"), trained, groups=2, d_mul=d_mul)
    weight, delta = layer.weight.data(), layer.depthwise_delta.data()
    assert equal(do_conv.gluon.compose(weight, delta, 2), layer.composed_weight())
    assert do_conv.gluon.compose(weight, None) is weight


def test_public_compose_of_a_transposed_layer(batch, trained):
    layer = trained(DOConv2DTranspose(6, 3, groups=2), batch())
    weight, delta = layer.weight.data(), layer.depthwise_delta.data()
    assert equal(do_conv.gluon.compose(weight, delta, 2), layer.composed_weight())


@pytest.mark.parametrize("groups", [1, 2])
def test_public_compose_separable_is_the_layers(groups, batch, trained):
    x = batch("float64")
    layer = trained(DepthwiseSeparableConv2D(6, 3, groups=groups, d_mul=3), x)
    weight, depthwise = layer.weight.data(), layer.depthwise_weight.data()
    found = do_conv.gluon.compose_separable(weight, depthwise, groups)
    assert found.shape == (6, 4 // groups, 3, 3)
    assert equal(found, layer.composed_weight())
    expected = compose_separable(weight.asnumpy(), depthwise.asnumpy(), groups)
    np.testing.assert_allclose(found.asnumpy(), expected, rtol=0, atol=1e-14)


def test_compose_separable_refuses_arrays_of_two_layers():
    with pytest.raises(DOConvError, match="a separable pair must have a depthwise kernel"):
        do_conv.gluon.compose_separable(mx.nd.ones((6, 4, 2)), mx.nd.ones((4, 3, 3, 3)))
