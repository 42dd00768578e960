"""Keras on the backend that `KERAS_BACKEND` names: compiled functions.

TensorFlow has two ways: its graph, which `fit` takes by itself on a CPU, and XLA (`jit_compile`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import do_conv.tf as do_keras  # isort: skip  # says what is missing before keras is imported
import keras
import numpy as np
from keras import ops

from benchmarks import machine, turns
from do_conv.core.spec import Spec
from do_conv.tf.composition import compose_spec, gradients
from do_conv.tf.optimizer.compiled import on_arrays

MODES = ("graph", "XLA") if keras.backend.backend() == "tensorflow" else ("XLA",)
NETWORKS: dict[str, Callable[..., Any]] = {
    "ResNet-50": keras.applications.ResNet50,
    "MobileNetV2": keras.applications.MobileNetV2,
}
# What is trained with W and D' in the optimizer, by mode: the name of a network, or the channels of
# a single layer.
OPTIMIZED = dict.fromkeys(MODES, (("512 channels", 4, 32), ("ResNet-50", 64, 16)))
PARTS = ("gradients alone", "composing alone")
timed, rates = turns.wall_clock, machine.rates


def versions() -> dict[str, str]:
    """The versions of Keras and of what it computes with."""
    name = keras.backend.backend()
    package = __import__(name)
    return {"keras": keras.__version__, name: package.__version__}


def set_threads(threads: int) -> None:
    """Compute with so many; jax takes what the environment says."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)


class Authors(do_keras.DOConv2D):
    """A layer of ours that composes by the authors' formula; a layer may be made one of them."""

    def _compose(self, kernel: Any) -> Any:
        """W', by the formula."""
        return authors_kernel(kernel, ops.convert_to_tensor(self.depthwise_delta), self.spec)


def authors_kernel(kernel: Any, delta: Any, spec: Spec) -> Any:
    """W', without groups: W is turned to the order of the einsum and back, as their code does."""
    identity = ops.reshape(ops.eye(spec.area, dtype=delta.dtype), (spec.area, 1, spec.d_mul))
    depthwise = ops.reshape(delta, (spec.area, -1, spec.d_mul)) + identity
    slots = ops.reshape(kernel, (spec.d_mul, spec.in_channels, -1))
    composed = ops.einsum("mis,sio->mio", depthwise, slots)
    return ops.reshape(composed, (*spec.kernel_size, spec.in_channels, spec.out_channels))


def composing(spec: Spec, mode: str) -> dict[str, Callable[[], Any]]:
    """Forward and backward of W'."""
    rng = np.random.default_rng(0)
    shapes = ((*spec.kernel_size, spec.in_channels // spec.groups, spec.out_channels),
              (*spec.kernel_size, spec.in_channels, spec.d_mul))  # fmt: skip
    weight, delta = (rng.standard_normal(shape).astype("float32") for shape in shapes)
    grad = rng.standard_normal(shapes[0]).astype("float32")
    functions = {"DO-Conv": lambda w, d: do_keras.compose(w, d, spec.groups)}
    if spec.groups == 1:
        functions = {"authors": lambda w, d: authors_kernel(w, d, spec), **functions}
    return {name: _step(run, (weight, delta), grad, mode) for name, run in functions.items()}


def training(spec: Spec, size: int, batch: int, mode: str) -> dict[str, Callable[[], Any]]:
    """A step of a layer whose output has its input's size, without an optimizer."""
    options: dict[str, Any] = {"padding": "same", "groups": spec.groups}
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, size, size, spec.in_channels)).astype("float32")
    grad = rng.standard_normal((batch, size, size, spec.out_channels)).astype("float32")
    classes = {"plain": keras.layers.Conv2D, "authors": Authors, "DO-Conv": do_keras.DOConv2D}
    if spec.groups > 1:
        del classes["authors"]
    steps = {}
    for name, layer_class in classes.items():
        layer = layer_class(spec.out_channels, spec.kernel_size, **options)
        layer.build(x.shape)
        steps[name] = _layer_step(layer, x, grad, mode)
    return steps


def _layer_step(layer: Any, x: np.ndarray, grad: np.ndarray, mode: str) -> Callable[[], Any]:
    variables = layer.trainable_variables

    def run(given: Any, *values: Any) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return layer(given)

    return _step(run, (x, *(ops.convert_to_numpy(one) for one in variables)), grad, mode)


def _step(
    function: Callable[..., Any], arrays: Any, grad: np.ndarray, mode: str
) -> Callable[[], Any]:
    """The output and all gradients, compiled."""
    if keras.backend.backend() == "jax":
        import jax

        def differentiate(last: Any, *given: Any) -> Any:
            output, backward = jax.vjp(function, *given)
            return output, backward(last)
    else:
        import tensorflow as tf

        def differentiate(last: Any, *given: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(given)
                output = function(*given)
            return output, tape.gradient(output, given, last)

    return _compiled(differentiate, (grad, *arrays), mode)


def _compiled(function: Callable[..., Any], arrays: Any, mode: str) -> Callable[[], Any]:
    """A function of several outputs, compiled, which waits for the first of them."""
    if keras.backend.backend() == "jax":
        import jax

        given, compiled = [jax.numpy.asarray(one) for one in arrays], jax.jit(function)
        return lambda: jax.block_until_ready(compiled(*given))
    import tensorflow as tf

    tensors = [tf.constant(one) for one in arrays]
    step = tf.function(function, jit_compile=mode == "XLA")

    def run() -> Any:
        first = step(*tensors)[0]
        return tf.reshape(first, (-1,))[0].numpy()  # all of them would be copied

    return run


def training_network(name: str, size: int, batch: int, mode: str) -> dict[str, Callable[[], Any]]:
    """A training step of a network, with SGD."""
    x = np.random.default_rng(0).standard_normal((batch, size, size, 3)).astype("float32")
    return {kind: _update(model, x) for kind, model in _variants(name, size, mode).items()}


def _variants(name: str, size: int, mode: str) -> dict[str, Any]:
    keras.utils.set_random_seed(0)
    plain = NETWORKS[name](weights=None, input_shape=(size, size, 3))
    models = {"plain": plain, "authors": by_authors(do_keras.convert(plain))}
    models["DO-Conv"] = do_keras.convert(plain)
    models = {kind: model for kind, model in models.items() if model is not None}
    for model in models.values():
        model.compile(keras.optimizers.SGD(1e-3, 0.9), "mse", jit_compile=mode == "XLA")
    return models


def by_authors(model: Any) -> Any:
    """The same model, whose layers of ours compose by the authors' formula; None with groups."""
    layers = [one for one in model._flatten_layers() if getattr(one, "spec", None) is not None]
    if any(layer.spec.groups > 1 for layer in layers):
        return None
    for layer in layers:
        layer.__class__ = Authors
    return model


def _update(model: Any, x: np.ndarray) -> Callable[[], Any]:
    target = np.zeros((len(x), *model.output_shape[1:]), "float32")
    return lambda: model.train_on_batch(x, target)


def evaluating_network(name: str, size: int, batch: int, mode: str) -> dict[str, Callable[[], Any]]:
    """Ten batches through a network."""
    x = np.random.default_rng(0).standard_normal((batch, size, size, 3)).astype("float32")
    models = _variants(name, size, mode)
    models["folded"] = do_keras.fold(models["DO-Conv"])
    models["folded"].compile(jit_compile=mode == "XLA")
    return {kind: _batches(model, x) for kind, model in models.items()}


def _batches(model: Any, x: np.ndarray) -> Callable[[], Any]:
    def evaluate() -> None:
        for _ in range(10):
            model.predict_on_batch(x)

    return evaluate


def optimizing_network(name: str, size: int, batch: int, mode: str) -> dict[str, Callable[[], Any]]:
    """A training step with SGD: with our layers, and with W and D' in the optimizer."""
    plain, other = (_plain(name, size) for _ in range(2))
    models = {"plain": plain, "DO-Conv": do_keras.convert(plain), "optimizer": other}
    x = np.random.default_rng(0).standard_normal((batch, *plain.input_shape[1:])).astype("float32")
    for kind, model in models.items():
        optimizer: Any = keras.optimizers.SGD(1e-3, 0.9)
        if kind == "optimizer":
            optimizer = do_keras.DOConvOptimizer(optimizer, model)
        model.compile(optimizer, "mse", jit_compile=mode == "XLA")
    steps = {kind: _update(model, x) for kind, model in models.items()}
    return steps if name in NETWORKS else {**steps, **_parts(_channels(name), mode)}


def _parts(channels: int, mode: str) -> dict[str, Callable[[], Any]]:
    """What the optimizer does beside the step of W and D', for a kernel of 3 x 3."""
    spec = Spec(channels, channels, (3, 3))
    rng = np.random.default_rng(0)
    shapes = (3, 3, channels, channels), (3, 3, channels, channels), (3, 3, channels, spec.d_mul)
    grad, weight, delta = (rng.standard_normal(shape).astype("float32") for shape in shapes)
    return {
        "gradients alone": _compiled(
            lambda *given: on_arrays(gradients, spec, *given), (grad, weight, delta), mode
        ),
        "composing alone": _compiled(
            lambda *given: (on_arrays(compose_spec, spec, *given),), (weight, delta), mode
        ),
    }


def _channels(name: str) -> int:
    return int(name.split(maxsplit=1)[0])


def _plain(name: str, size: int) -> Any:
    keras.utils.set_random_seed(0)
    if name in NETWORKS:
        return NETWORKS[name](weights=None, input_shape=(size, size, 3))
    channels = _channels(name)
    return keras.Sequential(
        [
            keras.Input((size, size, channels)),
            keras.layers.Conv2D(channels, 3, padding="same"),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
