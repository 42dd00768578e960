"""Saving, resuming, kernels that somebody else writes, and what Keras does around a step."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from do_conv import DOConvError
from do_conv.tf import DOConvOptimizer

optimizers = keras.optimizers
BACKEND = keras.backend.backend()


def adamw(**more):
    return optimizers.AdamW(1e-2, **more)


def same(one, other):
    return all(map(np.array_equal, one, other))


def numbers_of(variable):
    return np.array(keras.ops.convert_to_numpy(variable))


def state(optimizer):
    return [numbers_of(one) for one in optimizer.variables]


@pytest.mark.parametrize("init", ["identity", "he"])
def test_training_resumed_from_a_keras_file_is_equal_to_the_bit(network, train, tmp_path, init):
    model = network("float32")
    train(model, DOConvOptimizer(adamw(), model, depthwise_init=init), epochs=1)
    model.save(tmp_path / "model.keras")
    train(model, epochs=1)

    resumed = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(resumed.optimizer, DOConvOptimizer)
    assert list(resumed.optimizer.kernels) == ["conv", "depthwise", "separable", "up"]
    train(resumed, epochs=1)
    assert same(model.get_weights(), resumed.get_weights())
    assert same(state(model.optimizer), state(resumed.optimizer))


def test_training_resumed_from_a_weights_file_is_equal_to_the_bit(network, train, tmp_path):
    model = network("float32")
    train(model, DOConvOptimizer(adamw(), model, d_mul=9), epochs=1)
    model.save_weights(tmp_path / "model.weights.h5")
    train(model, epochs=1)

    resumed = network("float32")
    optimizer = DOConvOptimizer(adamw(), resumed, d_mul=9)
    resumed.compile(optimizer, "mse")
    optimizer.build(resumed.trainable_variables)
    resumed.load_weights(tmp_path / "model.weights.h5")
    train(resumed, epochs=1)
    assert same(model.get_weights(), resumed.get_weights())


@pytest.mark.filterwarnings("ignore:Skipping variable loading:UserWarning")  # of the inner one
@pytest.mark.parametrize("init", ["identity", "he"])
def test_a_model_saved_or_copied_before_its_first_step_trains_on(network, train, tmp_path, init):
    model = network("float32")
    model.compile(DOConvOptimizer(adamw(), model, depthwise_init=init), "mse")
    model.save(tmp_path / "model.keras")
    others = keras.models.load_model(tmp_path / "model.keras"), copy.deepcopy(model)
    train(model, epochs=1)
    for other in others:
        start = other.get_weights()
        train(other, epochs=1)
        assert list(other.optimizer.kernels) == list(model.optimizer.kernels)
        assert not any(map(np.array_equal, start, other.get_weights()))
        # A start of He is drawn anew.
        assert init == "he" or same(other.get_weights(), model.get_weights())


@pytest.mark.filterwarnings("ignore:Skipping variable loading:UserWarning")  # of the inner one
@pytest.mark.parametrize("frozen", [["conv"], ["depthwise", "separable"], ["separable", "dense"]])
def test_a_model_saved_after_layers_were_frozen_trains_on(network, train, tmp_path, frozen, apart):
    def freeze(model):
        for name in frozen:
            model.get_layer(name).trainable = False

    model, expected = network(), network()
    train(model, DOConvOptimizer(optimizers.SGD(1e-2), model), epochs=1)
    for one in (model, expected):
        freeze(one)
    model.save(tmp_path / "frozen.keras")
    expected.set_weights(model.get_weights())
    optimizer = DOConvOptimizer(optimizers.SGD(1e-2), expected)
    optimizer.build(expected.trainable_variables)
    for name, kernel in optimizer.kernels.items():
        for part, value in zip(kernel.parts, model.optimizer.kernels[name].parts, strict=True):
            part.assign(numbers_of(value))
    optimizer.restore_weights()

    resumed = keras.models.load_model(tmp_path / "frozen.keras")
    assert list(resumed.optimizer.kernels) == list(optimizer.kernels)
    train(resumed, epochs=1)
    train(expected, optimizer, epochs=1)
    assert apart(resumed, expected) < 1e-12
    assert apart(resumed, model) > 1e-3
    for name, kernel in resumed.optimizer.kernels.items():
        for part, value in zip(kernel.parts, optimizer.kernels[name].parts, strict=True):
            np.testing.assert_allclose(numbers_of(part), numbers_of(value), atol=1e-12)
    resumed.save(tmp_path / "again.keras")
    again = keras.models.load_model(tmp_path / "again.keras")
    assert same(state(again.optimizer), state(resumed.optimizer))


@pytest.mark.filterwarnings("ignore:Skipping variable loading:UserWarning")  # of the inner one
def test_a_model_saved_with_all_layers_frozen_is_loaded(network, train, tmp_path):
    model = network("float32")
    train(model, DOConvOptimizer(adamw(), model), epochs=1)
    model.trainable = False
    model.save(tmp_path / "frozen.keras")
    loaded = keras.models.load_model(tmp_path / "frozen.keras")
    assert not loaded.optimizer.kernels
    assert same(model.get_weights(), loaded.get_weights())
    loaded.optimizer.restore_weights()
    assert same(model.get_weights(), loaded.get_weights())


@pytest.mark.filterwarnings("ignore:Skipping variable loading:UserWarning")  # of the inner one
def test_the_state_of_a_plain_optimizer_is_not_taken(network, train, tmp_path):
    plain = network("float32")
    train(plain, adamw(), epochs=1)
    plain.save_weights(tmp_path / "plain.weights.h5")
    model = network("float32")
    train(model, DOConvOptimizer(adamw(), model), epochs=1)
    with pytest.warns(UserWarning, match="not loaded, nor its W and D'"):
        model.load_weights(tmp_path / "plain.weights.h5")
    with pytest.raises(DOConvError, match="'conv'"):
        train(model, epochs=1)


@pytest.mark.parametrize("when", ["before it is built", "after"])
def test_the_configuration_holds_the_kernels_and_not_the_model(network, when):
    model = network("float32")
    optimizer = DOConvOptimizer(adamw(), model, where="conv|up", d_mul=5, name="ours")
    if when == "after":
        optimizer.build(model.trainable_variables)
    config = json.loads(json.dumps(keras.optimizers.serialize(optimizer)))
    assert [one["place"] for one in config["config"]["kernels"]] == [0, 7]
    made = keras.optimizers.deserialize(config)
    made.build(network("float32").trainable_variables)
    assert made.name == "ours"
    assert [kernel.spec for kernel in made.kernels.values()] == [
        kernel.spec for kernel in optimizer.kernels.values()
    ] or when != "after"
    assert made.kernels["conv"].delta.shape == (2, 2, 4, 5)
    other = keras.optimizers.deserialize(config)
    assert repr(other) == repr(copy.deepcopy(other)) == "DOConvOptimizer(AdamW, 2 kernels)"
    assert keras.optimizers.serialize(other) == config
    with pytest.raises(DOConvError, match=r"with 11 trained variables .*; received 10"):
        other.build(network("float32").trainable_variables[1:])


def of_sizes(channels, filters):
    return keras.Sequential([keras.Input((4, 4, channels)), keras.layers.Conv2D(filters, 2)])


def test_exception_a_configuration_of_a_kernel_of_another_shape():
    model = of_sizes(2, 8)
    config = keras.optimizers.serialize(DOConvOptimizer(adamw(), model))
    with pytest.raises(
        DOConvError, match=r"must have shape \(2, 2, 2, 8\); received .*\(2, 2, 8, 2\)"
    ):
        keras.optimizers.deserialize(config).build(of_sizes(8, 2).trainable_variables)


def test_weights_are_loaded_into_a_model_that_is_only_compiled(network, train, tmp_path, apart):
    model, resumed = network("float32"), network("float32")
    train(model, DOConvOptimizer(adamw(), model), epochs=1)
    model.save_weights(tmp_path / "model.weights.h5")
    resumed.compile(DOConvOptimizer(adamw(), resumed), "mse")
    resumed.load_weights(tmp_path / "model.weights.h5")
    assert same(state(model.optimizer), state(resumed.optimizer))
    assert apart(train(model, epochs=1), train(resumed, epochs=1)) == 0


@pytest.mark.skipif(BACKEND == "jax", reason="jax's fit has no values: it refuses at its end")
@pytest.mark.parametrize("eagerly", [False, True])
def test_a_copy_that_gets_its_weights_before_the_first_step_takes_them(network, train, eagerly):
    model = network("float32")
    model.compile(DOConvOptimizer(adamw(), model), "mse", run_eagerly=eagerly)
    copied = keras.models.clone_model(model)
    copied.compile(copied.optimizer, "mse", run_eagerly=eagerly)
    copied.set_weights([1.5 * value for value in model.get_weights()])
    model.set_weights(copied.get_weights())
    assert same(train(model, epochs=1).get_weights(), train(copied, epochs=1).get_weights())


def test_a_model_that_is_built_by_its_first_batch():
    layers = [keras.layers.Conv2D(4, 2), keras.layers.Flatten(), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    optimizer = DOConvOptimizer(adamw(), model)
    assert repr(optimizer) == "DOConvOptimizer(AdamW, not built)"
    with pytest.raises(DOConvError, match="a Sequential without variables; call it on a batch"):
        keras.optimizers.serialize(optimizer)


def test_exception_fewer_gradients_than_variables(network):
    model = network("float32")
    optimizer = DOConvOptimizer(adamw(), model)
    with pytest.raises(DOConvError, match=r"a step on 11 variables .*; received 1;"):
        optimizer.apply([keras.ops.zeros((2, 2, 2, 4))], model.trainable_variables)


def test_exception_no_layer_that_is_chosen(network):
    with pytest.raises(DOConvError, match="because it was not chosen"):
        DOConvOptimizer(adamw(), network("float32"), where="nothing")


@pytest.mark.parametrize("make", [
    lambda: optimizers.Muon(0.01, exclude_layers=["dense", "head"]),
    lambda: optimizers.Adam(1e-3),
], ids=["muon", "adam"])  # fmt: skip
def test_lists_of_an_optimizer_that_are_no_state(network, train, numbers, make):
    model = network("float32", kinds=("conv",))
    train(model, DOConvOptimizer(make(), model), epochs=1)
    model.optimizer.take_weights()
    assert not numbers(model.optimizer.kernels["conv"].delta).any()


def test_exception_an_optimizer_that_cannot_start_anew(network, train, numbers):
    """Nothing has changed then."""
    model = network("float32", kinds=("conv",))
    optimizer = DOConvOptimizer(optimizers.SGD(lambda: 0.05, momentum=0.9), model)
    train(model, optimizer, epochs=1)
    before = state(optimizer)
    with pytest.raises(DOConvError, match=r"from_config\(get_config\(\)\) makes; received a SGD"):
        optimizer.take_weights()
    with pytest.raises(DOConvError, match=r"from_config\(get_config\(\)\) makes; received a SGD"):
        optimizer.to_layers(model)
    assert same(before, state(optimizer))


def test_options_that_are_set_are_those_of_the_optimizer_inside(network, train):
    models = [network("float32"), network("float32")]
    given = optimizers.SGD(0.05), optimizers.SGD(0.05, weight_decay=0.5, clipnorm=0.1)
    ours = [DOConvOptimizer(one, model) for one, model in zip(given, models, strict=True)]
    assert ours[1].weight_decay == 0.5
    ours[0].weight_decay, ours[0].clipnorm = 0.5, 0.1
    for model, optimizer in zip(models, ours, strict=True):
        train(model, optimizer, epochs=1)
    assert same(*(model.get_weights() for model in models))


def written(model, name="conv"):
    """A model of which somebody has written a kernel."""
    kernel = model.get_layer(name).kernel
    kernel.assign(keras.ops.convert_to_numpy(kernel) * 1.5)
    return model


@pytest.mark.parametrize("eagerly", [False, True])
def test_a_kernel_that_somebody_else_wrote_is_not_overwritten(network, train, eagerly):
    model = network("float32")
    optimizer = DOConvOptimizer(adamw(), model)
    train(model, optimizer, epochs=1, count=1, run_eagerly=eagerly)
    written(model)
    before, kept = model.get_weights(), state(optimizer)
    with pytest.raises(DOConvError, match="layer 'conv' written since") as error:
        train(model, epochs=1)
    assert "take_weights()" in str(error.value)
    assert same(model.get_weights(), before)
    assert same(state(optimizer), kept)


def test_a_write_of_any_output_channel_is_noticed():
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(64, 3)])
    optimizer = DOConvOptimizer(adamw(), model)
    optimizer.build(model.trainable_variables)
    kernel = model.layers[0].kernel
    before = keras.ops.convert_to_numpy(kernel).copy()
    for channel in range(64):
        pruned = before.copy()
        pruned[..., channel] = 0
        kernel.assign(pruned)
        with pytest.raises(DOConvError, match="written since"):
            optimizer.check_weights()
    kernel.assign(before)
    optimizer.check_weights()


def test_weights_of_the_optimizer_can_be_set(network, train):
    model = network("float32")
    train(model, DOConvOptimizer(adamw(), model), epochs=1)
    other = network("float32")
    optimizer = DOConvOptimizer(adamw(), other)
    other.compile(optimizer, "mse")
    optimizer.build(other.trainable_variables)
    other.set_weights(model.get_weights())
    optimizer.set_weights(state(model.optimizer))
    assert int(optimizer.iterations) == int(model.optimizer.iterations) > 0
    train(model, epochs=1)
    train(other, epochs=1)
    assert same(model.get_weights(), other.get_weights())


def test_steps_that_are_left_out_beside_fit_are_noticed_by_a_check(network, train, batches):
    model = network("float32")
    optimizer = DOConvOptimizer(adamw(), model)
    train(model, optimizer, epochs=1, count=1)
    optimizer.check_weights()
    before = written(model).get_weights()
    x, y = batches(1)
    if BACKEND == "torch":  # it runs at once
        with pytest.raises(DOConvError, match="layer 'conv' written since"):
            model.train_on_batch(x, y)
    else:
        model.train_on_batch(x, y)
    assert same(model.get_weights(), before)
    with pytest.raises(DOConvError, match="layer 'conv' written since"):
        optimizer.check_weights()


def test_a_start_of_he_is_refused_once_gradients_were_taken(network, train, numbers):
    model = network("float32", kinds=("conv",))
    before = model.get_weights()
    optimizer = DOConvOptimizer(adamw(), model, depthwise_init="he")
    grads = [keras.ops.ones(one.shape) for one in model.trainable_variables]
    with pytest.raises(DOConvError, match=r"call optimizer.build\(model.trainable_variables\)"):
        optimizer.apply(grads, model.trainable_variables)
    assert not optimizer.built
    assert same(model.get_weights(), before)
    optimizer.build(model.trainable_variables)
    optimizer.apply(grads, model.trainable_variables)
    assert not np.array_equal(numbers(model.get_layer("conv").kernel), before[0])


def test_new_kernels_are_taken_or_the_old_ones_restored(network, train, numbers):
    model = network("float32")
    optimizer = DOConvOptimizer(adamw(), model)
    train(model, optimizer, epochs=1)
    before = model.get_weights()
    written(model)
    optimizer.restore_weights()
    assert same(model.get_weights(), before)
    written(model)
    optimizer.take_weights()
    kernel = optimizer.kernels["conv"]
    assert same([numbers(kernel.weight)], [1.5 * before[0]])
    assert not numbers(kernel.delta).any()
    inner = optimizer.optimizer
    place = inner._get_variable_index(kernel.weight)
    assert not numbers(inner._momentums[place]).any()
    assert numbers(inner._momentums[-1 - 4]).any()  # of the dense layer
    train(model, epochs=1)
    assert not same(model.get_weights(), before)


def test_new_kernels_are_taken_into_each_of_several_optimizers(network, train, numbers):
    model = network("float32", kinds=("conv", "up"))
    inside = optimizers.Adam(1e-3), optimizers.SGD(1e-2, momentum=0.9)
    of_paths = optimizers.OptimizerMap(inside[1], {"(.*/)?conv/.*": inside[0]})
    train(model, DOConvOptimizer(optimizers.MultiOptimizer(of_paths), model), epochs=1)
    model.optimizer.take_weights()
    # Each has the kernel first, its bias second, and D' last.
    for momenta in (inside[0]._momentums, inside[0]._velocities, inside[1].momentums):
        are_there = [numbers(one).any() for one in momenta]
        assert [are_there[0], are_there[1], are_there[-1]] == [False, True, False]
    for kernel in model.optimizer.kernels.values():
        assert not numbers(kernel.delta).any()


def test_the_averages_of_new_kernels_begin_there(network, train, numbers):
    model = network("float32", kinds=("conv",))
    optimizer = DOConvOptimizer(adamw(use_ema=True), model)
    train(model, optimizer, epochs=1)
    kernel = numbers(written(model).layers[0].kernel)
    optimizer.take_weights()
    optimizer.finalize_variable_values(model.trainable_variables)
    np.testing.assert_array_equal(numbers(model.layers[0].kernel), kernel)


@pytest.fixture
def under():
    """Sets the policy that layers are made under."""
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16"])
def test_narrow_kernels_have_w_and_d_in_float32(network, train, under, policy):
    under(policy)
    model = network(None, kinds=("conv",))
    train(model, DOConvOptimizer(adamw(), model), epochs=2)
    ours = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    assert isinstance(ours, DOConvOptimizer)
    assert (ours is model.optimizer) == (policy == "bfloat16")
    kernel = ours.kernels["conv"]
    assert {str(v.dtype) for v in (kernel.weight, kernel.delta)} == {"float32"}
    assert np.abs(keras.ops.convert_to_numpy(kernel.delta)).max() > 1e-4


def test_a_step_with_an_overflow_is_skipped(network, train, under):
    under("mixed_float16")
    model = network(None, kinds=("conv",))
    train(model, DOConvOptimizer(adamw(), model), epochs=1)
    before, kept = model.get_weights(), state(model.optimizer.inner_optimizer)
    x = np.full((4, 4, 4, 4), np.inf)
    model.fit(x, np.zeros((4, 2)), batch_size=4, verbose=0)
    assert same(model.get_weights(), before)
    assert same(state(model.optimizer.inner_optimizer), kept)


@pytest.mark.skipif(BACKEND == "torch", reason="Keras compiles no step with torch by itself")
def test_a_step_compiled_by_xla_is_the_eager_one(network, train, apart):
    models = []
    for options in ({"jit_compile": True}, {"jit_compile": False, "run_eagerly": True}):
        model = network(kinds=("conv", "up"))
        optimizer = DOConvOptimizer(optimizers.SGD(0.02, momentum=0.9), model)
        models.append(train(model, optimizer, epochs=1, **options))
    assert apart(*models) < 1e-12


def test_the_learning_rate_is_the_inner_ones(network, train):
    model = network("float32", kinds=("conv",))
    optimizer = DOConvOptimizer(optimizers.SGD(0.5), model)
    model.compile(optimizer, "mse")
    optimizer.learning_rate = 0.0
    before = model.get_weights()
    train(model, epochs=1)
    assert float(optimizer.optimizer.learning_rate) == float(optimizer.learning_rate) == 0
    assert same(model.get_weights(), before)


def test_a_loss_scale_is_taken_back(network, train, apart):
    models = []
    for factor in (None, 8.0):
        model = network()
        inner = optimizers.SGD(0.02, loss_scale_factor=factor)
        # Many steps: TensorFlow once read W after its update, in some of them.
        models.append(train(model, DOConvOptimizer(inner, model)))
    assert apart(*models) < 1e-12


def test_a_loss_scale_optimizer_around_takes_the_loss_scale_off(network):
    inner, model = optimizers.SGD(0.02, loss_scale_factor=8.0), network(kinds=("conv",))
    ours = DOConvOptimizer(inner, model)
    assert ours.loss_scale_factor == 8
    optimizers.LossScaleOptimizer(ours)
    assert inner.loss_scale_factor is None


def test_averages_are_not_swapped_in_silence(network, batches):
    model = network("float32", kinds=("conv",))
    model.compile(DOConvOptimizer(adamw(use_ema=True), model), "mse")
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    with pytest.raises(ValueError, match="must be used when `use_ema=True`"):
        model.fit(*batches(1), verbose=0, callbacks=[swap])


def test_every_variable_has_a_path_of_its_own(network, train):
    model = network("float32")
    train(model, DOConvOptimizer(adamw(), model), epochs=1, count=1)
    paths = [one.path for one in model.optimizer.variables]
    assert len(set(paths)) == len(paths)
    tree = model.get_state_tree(value_format="numpy_array")
    model.set_state_tree(tree)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's functions, strategies and files")
class TestTensorFlow:
    def test_a_function_of_ones_own_may_build_and_step(self, network, batches, apart):
        import tensorflow as tf

        models = []
        for wrap in (tf.function, lambda step: step):
            model = network(kinds=("conv", "up"))
            optimizer = DOConvOptimizer(optimizers.SGD(0.02, momentum=0.9), model)

            def step(x, y, model=model, optimizer=optimizer):
                with tf.GradientTape() as tape:
                    loss = tf.reduce_mean((model(x) - y) ** 2)
                grads = tape.gradient(loss, model.trainable_variables)
                optimizer.apply_gradients(zip(grads, model.trainable_variables, strict=True))

            x, y = batches(1)
            compiled = wrap(step)
            for _ in range(3):
                compiled(tf.constant(x), tf.constant(y))
            models.append(model)
        assert apart(*models) < 1e-12
        assert apart(models[0], network(kinds=("conv", "up"))) > 1e-3

    def test_a_checkpoint_of_tensorflow_holds_the_optimizer_and_not_the_model(
        self, network, train, tmp_path
    ):
        import tensorflow as tf

        model = network("float32")
        optimizer = DOConvOptimizer(adamw(), model)
        assert all(one is not model for one in optimizer._trackable_children().values())
        train(model, optimizer, epochs=1, count=1)
        kept = state(optimizer)
        path = tf.train.Checkpoint(optimizer=optimizer, model=model).write(str(tmp_path / "c"))
        train(model, epochs=1)
        restored = tf.train.Checkpoint(optimizer=optimizer, model=model).read(path)
        restored.assert_existing_objects_matched()
        assert same(state(optimizer), kept)

    def test_two_replicas_train_as_one(self):
        script = Path(__file__).with_name("two_replicas.py")
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        apart, moved, raised = json.loads(done.stdout.splitlines()[-1])
        assert apart < 1e-12
        assert moved > 1e-3
        assert "layer 'conv' written since" in raised
