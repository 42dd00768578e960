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


# Of the layers below: two groups of two input channels, and their numbers of slots and outputs.
SIZES = [(d_mul, rows) for d_mul in (6, 14, 20) for rows in (4, 16, 24)]


def of_product(array, d_mul, rows, einsum):
    """W' of such a layer by the formula, on a framework's arrays."""

    def product(kernel, delta):
        slots = array.reshape(kernel, (d_mul, 2, 2, rows))
        blocks = range(d_mul // 6)
        identity = sum(np.eye(6, d_mul, 6 * block) for block in blocks)[:, None, None]
        matrices = array.reshape(delta, (6, 2, 2, d_mul)) + identity
        return array.reshape(einsum("kgcs,scgo->kcgo", matrices, slots), (2, 3, 2, 2 * rows))

    return product


def of_sizes(d_mul, rows):
    """Random W and D', and changes of both."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal(one) for one in [(d_mul, 2, 2 * rows), (2, 3, 4, d_mul)] * 2]


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="jax differentiates functions")
@pytest.mark.parametrize(("d_mul", "rows"), SIZES)
def test_derivatives_of_every_kind_are_those_of_a_product_on_jax(d_mul, rows):
    import jax

    kernel, delta, *changes = map(jax.numpy.asarray, of_sizes(d_mul, rows))

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
    product = of_product(jax.numpy, d_mul, rows, jax.numpy.einsum)
    for found, expected in zip(ours, derivatives(product), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of TensorFlow's functions")
@pytest.mark.parametrize("is_xla", [False, True])
@pytest.mark.parametrize(("d_mul", "rows"), SIZES)
def test_gradients_and_theirs_are_those_of_a_product_in_a_function(is_xla, d_mul, rows):
    import tensorflow as tf

    kernel, delta = map(tf.constant, of_sizes(d_mul, rows)[:2])

    def derivatives(of):
        @tf.function(jit_compile=is_xla)
        def found(*given):
            with tf.GradientTape() as outer:
                outer.watch(given)
                with tf.GradientTape() as inner:
                    inner.watch(given)
                    composed = of(*given)
                    loss = tf.reduce_sum(tf.sin(composed))
                grads = inner.gradient(loss, given)
                norm = sum(tf.reduce_sum(grad**2) for grad in grads)
            return composed, *grads, *outer.gradient(norm, given)

        return found(kernel, delta)

    ours = derivatives(lambda kernel, delta: compose(kernel, delta, 2))
    product = of_product(tf, d_mul, rows, tf.einsum)
    for found, expected in zip(ours, derivatives(product), strict=True):
        scale = abs(expected.numpy()).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14 * d_mul * scale)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of TensorFlow's functions")
@pytest.mark.parametrize("is_xla", [False, True])
def test_a_function_for_xla_is_known(is_xla):
    # Nothing public tells: only here would it show that a version of TensorFlow has other names.
    import tensorflow as tf

    from do_conv.tf.composition import on_tensorflow

    found = []

    @tf.function(jit_compile=is_xla)
    def traced(x):
        found.append(on_tensorflow.is_compiled())
        return tf.while_loop(lambda y: y < 2, lambda y: (found.append(known()), y + 1)[1:], [x])

    known = on_tensorflow.is_compiled
    traced(tf.constant(0.0))
    assert found == [is_xla] * 2
