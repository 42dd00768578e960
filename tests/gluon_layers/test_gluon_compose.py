"""The composed kernel in MXNet: `compose` and `compose_separable`, and what scales with W."""

import do_conv.gluon  # before mxnet, which reads names from NumPy that this module restores

# isort: split
import mxnet as mx
import numpy as np
import pytest

from do_conv import DOConvError, compose_separable
from do_conv.gluon import DepthwiseSeparableConv2D, DOConv2D, DOConv2DTranspose


def equal(first, second):
    return np.array_equal(first.asnumpy(), second.asnumpy())


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


SHAPES = (8, 4, 3, 3), (4, 9, 3, 3)


@pytest.mark.parametrize(
    "requests", [("write", "write"), ("add", "write"), ("null", "add"), ("write", "null")]
)
def test_two_kernels_at_once_have_the_gradients_that_are_asked_for(requests):
    pairs = [[mx.nd.random.normal(shape=shape) for shape in SHAPES] for _ in range(2)]
    grads = [mx.nd.random.normal(shape=SHAPES[0]) for _ in pairs]
    for pair in pairs:
        for array, request in zip(pair, requests, strict=True):
            array.attach_grad(request)
            array.grad[:] = 3
    with mx.autograd.record():
        kernels = [do_conv.gluon.compose(*pair) for pair in pairs]
    mx.autograd.backward(kernels, grads)
    for (weight, delta), kernel, grad in zip(pairs, kernels, grads, strict=True):
        slots, matrices, of_kernel = (
            array.asnumpy().astype("float64").reshape(shape)
            for array, shape in ((weight, (8, 4, 9)), (delta, (4, 9, 9)), (grad, (8, 4, 9)))
        )
        assert_close(kernel, slots + np.einsum("ois,isk->oik", slots, matrices))
        of_weight = of_kernel + np.einsum("oik,isk->ois", of_kernel, matrices)
        of_delta = np.einsum("ois,oik->isk", slots, of_kernel)
        for array, request, expected in zip(
            (weight, delta), requests, (of_weight, of_delta), strict=True
        ):
            if request != "null":
                assert_close(array.grad, expected + (3 if request == "add" else 0))


def assert_close(found, expected):
    np.testing.assert_allclose(found.asnumpy(), expected.reshape(found.shape), rtol=0, atol=2e-5)
