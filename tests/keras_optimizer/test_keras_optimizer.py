"""The kernels that the optimizer trains, their starts, and the options of each."""

import keras
import numpy as np
import pytest

from do_conv import DOConvError
from do_conv.core.composition import compose_spec_gradients
from do_conv.core.layouts import delta_from_keras, kernel_from_keras
from do_conv.core.spec import Spec
from do_conv.tf import DOConvOptimizer, plan
from do_conv.tf.composition import gradients
from do_conv.tf.optimizer.compiled import on_arrays

optimizers = keras.optimizers


def sgd(**more):
    return optimizers.SGD(0.02, momentum=0.9, weight_decay=1e-2, **more)


def test_a_model_may_be_built_by_its_first_batch(subclassed, train):
    model = subclassed()
    optimizer = DOConvOptimizer(sgd(), model)
    train(model, optimizer, epochs=1)
    assert len(optimizer.kernels) == 4


def test_exception_variables_of_the_backend():
    model = keras.Sequential([keras.Input((5, 5, 2)), keras.layers.Conv2D(3, 3, name="conv")])
    optimizer = DOConvOptimizer(sgd(), model)
    with pytest.raises(DOConvError, match=r"of keras\.Variable; received one of \w+\.\S+; give"):
        optimizer.build([one.value for one in model.trainable_variables])
    optimizer.build(model.trainable_variables)
    assert list(optimizer.kernels) == ["conv"]


def test_convolutions_of_other_classes_have_kernels_too(train):
    class Standardised(keras.layers.Conv2D):
        def convolution_op(self, inputs, kernel):
            return super().convolution_op(inputs, kernel - keras.ops.mean(kernel))

    layers = [Standardised(3, 2), keras.layers.Reshape((9, 3)), keras.layers.DepthwiseConv1D(2)]
    layers += [keras.layers.Flatten(), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((4, 4, 4)), *layers])
    optimizer = DOConvOptimizer(optimizers.SGD(0.1), model)
    train(model, optimizer, epochs=1)
    deltas = [kernel.delta for kernel in optimizer.kernels.values()]
    assert [tuple(one.shape) for one in deltas] == [(2, 2, 4, 4), (2, 3, 2)]
    assert min(abs(keras.ops.convert_to_numpy(one)).max() for one in deltas) > 1e-6


def test_a_kernel_that_is_computed_is_left(train):
    class Outer(keras.Model):
        def __init__(self):
            super().__init__()
            self.normalised = keras.layers.SpectralNormalization(keras.layers.Conv2D(2, 2))
            self.conv = keras.layers.Conv2D(2, 3, name="conv")
            self.flat = keras.layers.Flatten()

        def call(self, x):
            return self.flat(self.conv(self.normalised(x)))

    model = Outer()
    optimizer = DOConvOptimizer(optimizers.SGD(0.1), model)
    train(model, optimizer, epochs=1)
    assert list(optimizer.kernels) == ["conv"]
    assert repr(optimizer) == "DOConvOptimizer(SGD, 1 kernel)"
    assert [row.name for row in plan(model, door="optimizer").converted] == ["conv"]
    assert not plan(model).converted  # `convert` cannot make it again


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("d_mul", [6, 14, 18])
def test_the_gradients_are_the_cores(groups, d_mul):
    random = np.random.default_rng(3)
    spec = Spec(4, 32, (2, 3), groups, d_mul)
    grad = random.standard_normal(spec.composed_shape)
    weight, delta = (random.standard_normal(one) for one in (spec.weight_shape, spec.delta_shape))
    expected = compose_spec_gradients(grad, weight, delta, spec)

    def keras_kernel(array):
        return keras.ops.convert_to_tensor(np.moveaxis(array, (0, 1), (-1, -2)))

    def keras_delta(array):
        return keras.ops.convert_to_tensor(np.moveaxis(array, (0, 1), (-2, -1)))

    arrays = keras_kernel(grad), keras_kernel(weight), keras_delta(delta)
    found = on_arrays(gradients, spec, *arrays)
    backs = (kernel_from_keras, delta_from_keras)
    for one, back, same in zip(found, backs, expected, strict=True):
        array = np.array(keras.ops.convert_to_numpy(one))
        np.testing.assert_allclose(back(array), same, rtol=0, atol=1e-13)


def test_an_identity_start_changes_no_bit_and_he_writes_at_once(network, numbers):
    for start, is_same in (("identity", True), ("he", False)):
        model, before = network("float32"), network("float32").get_weights()
        optimizer = DOConvOptimizer(sgd(), model, depthwise_init=start)
        optimizer.build(model.trainable_variables)
        optimizer.restore_weights()
        after = model.get_weights()
        kept = [np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
        assert all(kept) == is_same
        deltas = [numbers(k.delta) for k in optimizer.kernels.values()]
        assert all(one.any() == (not is_same) for one in deltas)


def test_the_start_of_he_has_the_standard_deviation_of_table_7(numbers):
    model = keras.Sequential([keras.Input((4, 4, 256)), keras.layers.Conv2D(1, 3)])
    optimizer = DOConvOptimizer(sgd(), model, depthwise_init="he")
    optimizer.build(model.trainable_variables)
    (kernel,) = optimizer.kernels.values()
    delta = numbers(kernel.delta).reshape(9, 256, 9).transpose(1, 2, 0)
    np.testing.assert_allclose((delta + np.eye(9)).std(), (2 / 9) ** 0.5, rtol=0.03)


def test_kernels_that_are_frozen_or_not_chosen_stay_plain(network, train):
    model = network()
    model.get_layer("conv").trainable = False
    optimizer = DOConvOptimizer(sgd(), model, where="conv|up")
    before = model.get_layer("conv").get_weights()
    train(model, optimizer, epochs=1)
    assert list(optimizer.kernels) == ["up"]
    np.testing.assert_array_equal(model.get_layer("conv").get_weights()[0], before[0])


@pytest.mark.filterwarnings("ignore:Gradients do not exist:UserWarning")
def test_a_kernel_without_a_gradient_stays(network, numbers):
    model = network("float32")
    optimizer = DOConvOptimizer(optimizers.SGD(0.1, momentum=0.9), model)
    optimizer.build(model.trainable_variables)
    before = model.get_weights()
    grads = [keras.ops.ones(one.shape) for one in model.trainable_variables]
    grads[0] = None
    for _ in range(2):
        optimizer.apply(grads, model.trainable_variables)
    changed = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert changed == [False] + [True] * (len(before) - 1)
    assert not numbers(optimizer.kernels["conv"].delta).any()


def test_a_constraint_is_on_w(numbers, train):
    layers = [keras.layers.Conv2D(2, 4, kernel_constraint="non_neg"), keras.layers.Flatten()]
    model = keras.Sequential([keras.Input((4, 4, 4)), *layers])
    optimizer = DOConvOptimizer(optimizers.SGD(0.05), model)
    train(model, optimizer, epochs=2)
    (kernel,) = optimizer.kernels.values()
    assert numbers(kernel.weight).min() == 0
    assert numbers(kernel.parameter).min() < 0


def test_a_constraint_sees_the_axes_of_a_plain_kernel(numbers, train):
    norm = keras.constraints.UnitNorm(axis=[0, 1, 2])
    layers = [keras.layers.Conv2D(2, 4, kernel_constraint=norm), keras.layers.Flatten()]
    model = keras.Sequential([keras.Input((4, 4, 4)), *layers])
    optimizer = DOConvOptimizer(optimizers.SGD(0.05), model, d_mul=18)
    train(model, optimizer, epochs=1)
    (kernel,) = optimizer.kernels.values()
    of_filters = np.sqrt((numbers(kernel.weight).reshape(-1, 2) ** 2).sum(0))
    np.testing.assert_allclose(of_filters, 1, rtol=1e-5)


def test_a_penalty_moves_d_through_the_composed_kernel(numbers):
    penalty = keras.regularizers.L2(0.5)
    layers = [keras.layers.Conv2D(2, 2, kernel_regularizer=penalty), keras.layers.Flatten()]
    model = keras.Sequential([keras.Input((2, 2, 1)), *layers])
    optimizer = DOConvOptimizer(optimizers.SGD(0.1), model)
    weight = numbers(model.layers[0].kernel).reshape(4, 2)
    model.compile(optimizer, "mse")
    model.fit(np.zeros((4, 2, 2, 1)), np.zeros((4, 2)), batch_size=4, verbose=0)
    (kernel,) = optimizer.kernels.values()
    # The penalty's gradient is W' itself, which is W at first, and that of D' is W^T G.
    delta = numbers(kernel.delta).reshape(4, 4)
    np.testing.assert_allclose(delta, -0.1 * weight @ weight.T, rtol=0, atol=1e-7)
    assert abs(delta).max() > 1e-3


def test_a_kernel_without_decay_has_none_on_both(network, train, numbers):
    def after(**excluded):
        model = network(kinds=("conv",))
        optimizer = DOConvOptimizer(optimizers.SGD(0.01, weight_decay=0.5), model)
        variables = {"var_list": [model.layers[0].kernel]} if excluded.pop("kernel", None) else {}
        optimizer.exclude_from_weight_decay(**variables, **excluded)
        train(model, optimizer, epochs=1)
        kernel = optimizer.kernels["conv"]
        return abs(numbers(kernel.weight)).sum(), abs(numbers(kernel.delta)).sum()

    decayed, excluded = after(), after(kernel=True)
    names = after(var_names=["depthwise_delta"])
    assert excluded[0] > decayed[0]
    assert excluded[1] > decayed[1]
    np.testing.assert_allclose(names[0], decayed[0], rtol=0.05)
    assert names[1] > decayed[1]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: optimizers.LossScaleOptimizer(sgd()), "received a LossScaleOptimizer"),
        (lambda: DOConvOptimizer(sgd(), keras.layers.Conv2D(2, 3)), "a DOConvOptimizer"),
        (lambda: "sgd", "received a str"),
    ],
)
def test_an_optimizer_that_cannot_be_inside_is_refused(network, make, sentence):
    with pytest.raises(DOConvError, match=sentence):
        DOConvOptimizer(make(), network())


def test_an_optimizer_that_has_been_built_is_refused(network):
    inner, model = sgd(), network()
    inner.build(model.trainable_variables)
    with pytest.raises(DOConvError, match="has been built"):
        DOConvOptimizer(inner, model)


def test_bad_options_are_refused_at_once(network):
    for options, sentence in (({"d_mul": 1}, "d_mul"), ({"depthwise_init": "zeros"}, "zeros")):
        with pytest.raises(DOConvError, match=sentence):
            DOConvOptimizer(sgd(), network(), **options)
    with pytest.raises(DOConvError, match="received a list"):
        DOConvOptimizer(sgd(), network().weights)


def test_a_model_without_a_kernel_is_refused_and_so_is_none(network):
    frozen = network()
    frozen.trainable = False
    with pytest.raises(DOConvError, match="each left because it is frozen"):
        DOConvOptimizer(sgd(), frozen)
    for model, sentence in ((network(), "hold a kernel"), (None, "None")):
        optimizer = DOConvOptimizer(sgd(), model)
        with pytest.raises(DOConvError, match=sentence):
            optimizer.build(network().trainable_variables)
        assert not optimizer.built
    unbuilt = keras.Sequential([keras.layers.Conv2D(2, 3)])
    with pytest.raises(DOConvError, match="without parameters"):
        DOConvOptimizer(sgd(), unbuilt).build(network().trainable_variables)


@pytest.mark.parametrize("d_mul", [None, 11])
def test_the_plan_is_that_of_what_is_trained_before_and_after_it_is_built(network, d_mul):
    model = network("float32")
    options = {"where": "conv", "d_mul": d_mul}
    wanted = str(plan(model, door="optimizer", **options))
    optimizer = DOConvOptimizer(keras.optimizers.SGD(0.1), model, **options)
    assert str(optimizer.plan()) == wanted
    optimizer.build(model.trainable_variables)
    assert str(optimizer.plan()) == wanted
    assert [row.name for row in optimizer.plan().converted] == list(optimizer.kernels)
