"""Training beside a plain model is that of the model with our layers."""

import keras
import numpy as np
import pytest

from do_conv.tf import DOConvOptimizer, convert, fold
from do_conv.tf.models.classes import kernel_of

optimizers = keras.optimizers


def sgd(**more):
    return optimizers.SGD(0.02, momentum=0.9, weight_decay=1e-2, **more)


def nesterov(**more):
    return sgd(nesterov=True, clipnorm=0.2, **more)


def adam(**more):
    return optimizers.Adam(1e-3, weight_decay=0.1, clipvalue=0.01, **more)


def adamw():
    schedule = optimizers.schedules.ExponentialDecay(1e-3, 5, 0.5)
    return optimizers.AdamW(schedule, weight_decay=0.1, use_ema=True, ema_momentum=0.9)


def multi():
    """W and D' of one layer, by their paths, are Adam's."""
    of_paths = {"(.*/)?conv/.*": optimizers.Adam(1e-3)}
    return optimizers.MultiOptimizer(optimizers.OptimizerMap(optimizers.SGD(0.02), of_paths))


# The optimizer, and how far it may be from the layers. A clip changes about half of the gradients.
OPTIMIZERS = {
    "sgd": (lambda: sgd(global_clipnorm=1.0), 1e-12),
    "nesterov": (nesterov, 1e-12),
    "adam": (lambda: adam(gradient_accumulation_steps=2), 1e-10),
    "adamw": (adamw, 1e-10),
    "multi": (multi, 1e-10),
}


@pytest.fixture
def both(network, numbers):
    """A converted network, and a plain one with its optimizer, of the same W and D'."""

    def made(make, network=network, **options):
        converted, plain = convert(network(), **options), network()
        optimizer = DOConvOptimizer(make(), plain, **options)
        optimizer.build(plain.trainable_variables)
        for name, kernel in optimizer.kernels.items():
            # Further slots and He starts are drawn, for each of the two. By way of NumPy, since
            # variables of jax would share their arrays.
            for part, start in zip(kernel.parts, parts_of(converted, name), strict=True):
                part.assign(numbers(start))
        optimizer.restore_weights()
        return converted, plain, optimizer

    return made


def parts_of(converted, name):
    layer = converted.get_layer(name)
    return kernel_of(layer), layer.depthwise_delta


@pytest.fixture
def difference(numbers, apart):
    """The largest difference of all values of the network, of W and of D'."""

    def found(converted, plain, optimizer):
        values = [apart(plain, fold(converted))]
        for name, kernel in optimizer.kernels.items():
            for one, other in zip(kernel.parts, parts_of(converted, name), strict=True):
                values.append(abs(numbers(one) - numbers(other)).max())
        return np.max(values)  # NaN if there is one

    return found


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_is_that_of_the_layers(both, network, train, numbers, apart, difference, name):
    make, tolerance = OPTIMIZERS[name]
    converted, plain, optimizer = both(make)
    epochs = 10 if name == "adam" else 5  # a step of Adam has two micro-batches
    train(converted, make(), epochs=epochs)
    train(plain, optimizer, epochs=epochs)
    assert int(optimizer.iterations) == 20
    assert list(optimizer.kernels) == ["conv", "depthwise", "separable", "up"]
    assert apart(plain, network()) > 1e-3
    deltas = [numbers(kernel.delta) for kernel in optimizer.kernels.values()]
    assert min(abs(delta).max() for delta in deltas) > 1e-3
    assert difference(converted, plain, optimizer) < tolerance


def test_paths_under_a_loss_scale_optimizer(train, difference):
    """Whose scope is open when TensorFlow builds ours: W and D' have the paths of layers."""

    def network():
        keras.utils.set_random_seed(1)
        wide = {"dtype": "float64"}
        inputs = keras.Input((4, 4, 4), **wide)
        x = keras.layers.Conv2D(4, 2, activation="tanh", name="conv", **wide)(inputs)
        x = keras.layers.Conv2D(2, 2, activation="tanh", name="other", **wide)(x)
        x = keras.layers.Dense(2, name="dense", **wide)(keras.layers.Flatten(**wide)(x))
        return keras.Model(inputs, x)

    def make():
        of_paths = optimizers.OptimizerMap(optimizers.SGD(0.02), {"conv/.*": optimizers.Adam(1e-2)})
        return optimizers.MultiOptimizer(of_paths)

    converted, plain = convert(network()), network()
    optimizer = DOConvOptimizer(make(), plain)
    train(converted, optimizers.LossScaleOptimizer(make()), epochs=2)
    train(plain, optimizers.LossScaleOptimizer(optimizer), epochs=2)
    assert difference(converted, plain, optimizer) < 1e-10


def test_slots_beyond_the_kernel_are_trained_as_in_the_layers(both, train, difference):
    converted, plain, optimizer = both(sgd, d_mul=lambda spec: 2 * spec.area + 1)
    assert optimizer.kernels["conv"].weight.shape == (9, 2, 4)
    train(converted, sgd())
    train(plain, optimizer)
    assert difference(converted, plain, optimizer) < 1e-12


@pytest.mark.parametrize("make", [nesterov, lambda: adam(epsilon=1e-4)], ids=["nesterov", "adam"])
def test_float32_is_near(both, network, train, difference, make):
    converted, plain, optimizer = both(make, lambda: network("float32"))
    train(converted, make())
    train(plain, optimizer)
    assert len(optimizer.kernels) == 4
    assert difference(converted, plain, optimizer) < 1e-5


def test_a_subclassed_model_is_trained_like_its_layers_in_a_graph(
    network, subclassed, train, apart
):
    plain, model = network(), subclassed()
    model(np.zeros((1, 4, 4, 4)))
    model.set_weights(plain.get_weights())
    train(plain, DOConvOptimizer(sgd(), plain))
    optimizer = DOConvOptimizer(sgd(), model)
    train(model, optimizer)
    assert len(optimizer.kernels) == 4
    assert apart(plain, model) < 1e-12


def test_a_layer_that_is_used_twice_is_trained_as_with_layers(both, train, difference):
    def network():
        keras.utils.set_random_seed(1)
        wide = {"dtype": "float64"}
        options = {"padding": "same", "activation": "tanh", "name": "conv", **wide}
        conv = keras.layers.Conv2D(4, 2, **options)
        inputs = keras.Input((4, 4, 4), **wide)
        flat = keras.layers.Flatten(**wide)(conv(conv(inputs)))
        return keras.Model(inputs, keras.layers.Dense(2, **wide)(flat))

    converted, plain, optimizer = both(sgd, network, depthwise_init="he")
    train(converted, sgd())
    train(plain, optimizer)
    assert list(optimizer.kernels) == ["conv"]
    assert difference(converted, plain, optimizer) < 1e-12


@pytest.mark.skipif(
    keras.backend.backend() == "jax",
    reason="on jax Keras lets no optimizer step fewer variables than it was built for",
)
def test_a_layer_may_be_frozen_and_thawed_as_with_layers(both, network, train, difference):
    converted, plain, optimizer = both(sgd, lambda: network(kinds=("conv", "up")))
    inner = sgd()
    values = []
    for is_trained in (True, False, True):
        for model, its in ((converted, inner), (plain, optimizer)):
            model.get_layer("conv").trainable = is_trained
            train(model, its, epochs=2)
        values.append(plain.get_layer("conv").get_weights()[0])
        assert difference(converted, plain, optimizer) < 1e-12
    trained, frozen, thawed = values
    np.testing.assert_array_equal(frozen, trained)
    assert abs(thawed - frozen).max() > 1e-3


def test_training_under_a_loss_scale_is_that_of_the_layers(both, network, train, difference):
    def scaled(optimizer):
        return optimizers.LossScaleOptimizer(optimizer, initial_scale=8, dynamic_growth_steps=7)

    converted, plain, optimizer = both(nesterov, lambda: network(kinds=("conv", "up")))
    train(converted, scaled(nesterov()))
    around = scaled(optimizer)
    train(plain, around)
    assert difference(converted, plain, optimizer) < 1e-12
    # The scale has grown twice: no step was left out.
    assert float(around.dynamic_scale) == 32
