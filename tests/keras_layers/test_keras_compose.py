"""`do_conv.tf.compose`: the core's function, on arrays in Keras's layout."""

import keras
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


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="jax differentiates functions")
@pytest.mark.parametrize("d_mul", [6, 14, 20])
def test_derivatives_of_every_kind_are_those_of_a_product_on_jax(d_mul):
    import jax

    def product(kernel, delta):
        slots = kernel.reshape(d_mul, 2, 2, 4)  # of two groups
        blocks = range(d_mul // 6)
        identity = sum(np.eye(6, d_mul, 6 * block) for block in blocks)[:, None, None]
        matrices = delta.reshape(6, 2, 2, d_mul) + identity
        return jax.numpy.einsum("kgcs,scgo->kcgo", matrices, slots).reshape(2, 3, 2, 8)

    rng = np.random.default_rng(0)
    kernel, delta, *changes = map(
        jax.numpy.asarray,
        (rng.standard_normal(shape) for shape in [(d_mul, 2, 8), (2, 3, 4, d_mul)] * 2),
    )

    def loss(of):
        return lambda *given: jax.numpy.sin(of(*given)).sum()

    def derivatives(of):
        both = (0, 1)
        yield of(kernel, delta)
        yield from jax.grad(loss(of), both)(kernel, delta)
        yield from jax.jvp(of, (kernel, delta), tuple(changes))
        grads = jax.grad(lambda *given: jax.grad(loss(of), 1)(*given).var(), both)
        yield from grads(kernel, delta)
        yield from jax.tree.leaves(jax.hessian(loss(of), both)(kernel, delta))
        yield jax.vmap(of, (0, None))(jax.numpy.stack([kernel, 2 * kernel]), delta)

    ours = derivatives(lambda kernel, delta: compose(kernel, delta, 2))
    for found, expected in zip(ours, derivatives(product), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
