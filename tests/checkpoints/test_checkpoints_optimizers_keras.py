"""W and D' of a Keras `DOConvOptimizer` in neutral files, with layers and models of every kind."""

import keras
import numpy as np
import pytest
from keras import layers

from do_conv import DOConvError, checkpoints
from do_conv.checkpoints import neutral
from do_conv.tf import DOConvOptimizer, convert

X = np.random.default_rng(0).standard_normal((4, 6, 6, 4)).astype("float32")


class Scaled(layers.Conv2D):
    """A convolution with a forward pass and a variable of its own."""

    def build(self, input_shape):
        super().build(input_shape)
        self.gain = self.add_weight(name="gain", shape=(1,), initializer="ones")

    def call(self, x):
        return super().call(x) * self.gain


class Quiet(layers.Conv2D):
    """A convolution with a forward pass of its own."""

    def call(self, x):
        return super().call(x) / 2


def parts(own):
    return [
        layers.Conv2D(4, 3, padding="same", groups=2, name="conv"),
        layers.BatchNormalization(name="norm"),
        layers.DepthwiseConv2D(2, depth_multiplier=2, name="depthwise"),
        layers.SeparableConv2D(4, 2, padding="same", name="separable"),
        own or Quiet(3, 2, name="own"),
        layers.Conv2DTranspose(2, 2, strides=2, name="up"),
        layers.Conv2D(2, 3, trainable=False, name="frozen"),
        layers.Flatten(),
        layers.Dense(2, name="dense"),
    ]


class Subclassed(keras.Model):
    """A model that only its own code can call."""

    def __init__(self):
        super().__init__(name="whole")
        self.parts = parts(None)

    def call(self, x):
        for part in self.parts:
            x = part(x)
        return x


def sequential(own=None):
    return keras.Sequential([keras.Input(X.shape[1:]), *parts(own)], name="whole")


def nested():
    given = keras.Input(X.shape[1:])
    return keras.Model(given, sequential()(given))


def optimized(make, **options):
    """A model and its optimizer, which is built."""
    model = make()
    model(X)
    optimizer = DOConvOptimizer(keras.optimizers.SGD(0.01), model, **options)
    optimizer.build(model.trainable_variables)
    return model, optimizer


def drawn(make, **options):
    """The same with a drawn D' and other averages."""
    model, optimizer = optimized(make, depthwise_init="he", **options)
    (norm,) = (one for one in model._flatten_layers() if one.name == "norm")
    norm.moving_mean.assign([0.1, 0.2, 0.3, 0.4])
    return model, optimizer


def numbers(value):
    return keras.ops.convert_to_numpy(value)


def same_output(model, other):
    np.testing.assert_allclose(numbers(model(X)), numbers(other(X)), rtol=0, atol=1e-5)


def same(one, other):
    np.testing.assert_array_equal(numbers(one), numbers(other))


def values(model, optimizer):
    """Everything that is carried: the variables of a model, W and D'."""
    kernels = [part for kernel in optimizer.kernels.values() for part in kernel.parts]
    return [numbers(one) for one in [*model.variables, *kernels]]


@pytest.mark.parametrize("d_mul", [None, lambda spec: spec.area + 1], ids=["default", "larger"])
@pytest.mark.parametrize("make", [sequential, nested, Subclassed])
def test_every_array_goes_through_a_file(make, d_mul, tmp_path):
    source, target = drawn(make, d_mul=d_mul), optimized(make, d_mul=d_mul)
    checkpoints.save(source[1], tmp_path / "one.safetensors")
    pairs = checkpoints.load(target[1], tmp_path / "one.safetensors")
    assert len(target[1].kernels) == 5
    assert len(pairs) == 9  # a separable layer is two
    for found, expected in zip(values(*target), values(*source), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_training_goes_on_after_loading(tmp_path):
    source, (model, optimizer) = drawn(sequential), optimized(sequential)
    checkpoints.save(source[1], tmp_path / "one.safetensors")
    checkpoints.load(optimizer, tmp_path / "one.safetensors")
    before = values(model, optimizer)
    model.compile(optimizer, "mse")
    model.fit(X, np.ones((4, 2)), verbose=0)
    assert not any(map(np.array_equal, values(model, optimizer)[-10:], before[-10:]))


def test_layers_and_a_plain_model_take_them(tmp_path):
    """The layers take W and D', and a plain model, or a layer that stays plain, W'."""

    def make():
        return sequential(layers.Conv2D(3, 2, name="own"))

    source, optimizer = drawn(make)
    checkpoints.save(optimizer, tmp_path / "one.safetensors")
    plain, converted = make(), convert(make(), where="conv")
    for model in (plain, converted):
        checkpoints.load(model, tmp_path / "one.safetensors")
        same_output(model, source)
    same(converted.get_layer("conv").depthwise_delta, optimizer.kernels["conv"].delta)

    checkpoints.save(converted, tmp_path / "layers.safetensors")
    model, target = drawn(make)
    checkpoints.load(target, tmp_path / "layers.safetensors")
    same_output(model, source)
    same(target.kernels["conv"].delta, optimizer.kernels["conv"].delta)
    assert not numbers(target.kernels["up"].delta).any()  # the identity


def test_a_kernel_in_half_precision_has_its_parts_in_float32(tmp_path):
    def make():
        conv = layers.Conv2D(4, 3, dtype="bfloat16", name="conv")
        return keras.Sequential([keras.Input(X.shape[1:]), conv])

    (_, source), (_, target) = optimized(make, depthwise_init="he"), optimized(make)
    checkpoints.save(source, tmp_path / "one.safetensors")
    checkpoints.load(target, tmp_path / "one.safetensors")
    assert neutral.read(tmp_path / "one.safetensors").tensors["conv.depthwise_delta"].dtype == "F32"
    same(target.kernels["conv"].delta, source.kernels["conv"].delta)


def test_a_variable_that_only_this_layer_has_is_refused(tmp_path):
    """As in other frameworks: it is in the file, and no described layer takes it."""

    def make():
        return keras.Sequential([keras.Input(X.shape[1:]), Scaled(4, 3, name="own")])

    checkpoints.save(optimized(make)[1], tmp_path / "one.safetensors")
    with pytest.raises(DOConvError, match="gain"):
        checkpoints.load(optimized(make)[1], tmp_path / "one.safetensors")


def test_an_optimizer_from_layers_knows_its_model(tmp_path):
    model = convert(sequential(), where="conv")
    inner = keras.optimizers.SGD(0.1)
    inner.build(model.trainable_variables)
    plain, optimizer = DOConvOptimizer.from_layers(inner, model)
    checkpoints.save(optimizer, tmp_path / "one.safetensors")
    other, target = optimized(sequential, where="conv")
    checkpoints.load(target, tmp_path / "one.safetensors")
    same_output(other, plain)


def test_exception_not_built(tmp_path):
    optimizer = DOConvOptimizer(keras.optimizers.SGD(0.1), sequential())
    with pytest.raises(DOConvError, match=r"call optimizer\.build"):
        checkpoints.save(optimizer, tmp_path / "one.safetensors")


def test_exception_without_its_model(tmp_path):
    def make():
        return keras.Sequential([keras.Input(X.shape[1:]), layers.Conv2D(4, 3)])

    model, optimizer = optimized(make)
    model.compile(optimizer, "mse")
    model.save(tmp_path / "one.keras")
    loaded = keras.models.load_model(tmp_path / "one.keras")
    with pytest.raises(DOConvError, match="from its configuration"):
        checkpoints.save(loaded.optimizer, tmp_path / "one.safetensors")
    network, _ = loaded.optimizer.to_layers(loaded)
    checkpoints.save(network, tmp_path / "one.safetensors")
    assert checkpoints.load(optimizer, tmp_path / "one.safetensors")
