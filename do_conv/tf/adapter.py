"""Keras, on the backend it computes with, behind the interface of `do_conv.adapter`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import do_conv.tf as do_keras  # isort: skip  # says what is missing before keras is imported
import keras
import numpy as np
from keras import ops

from do_conv.adapter import SGD, Dense, Loss, Options
from do_conv.core import layouts
from do_conv.core.convolution import Window
from do_conv.core.spec import Spec
from do_conv.parity.cases import Case
from do_conv.tf.layer_arrays import VariableArray, model_layers
from do_conv.tf.models.classes import input_channels
from do_conv.tf.models.planning import in_own_order

__all__ = [
    "composed_kernel", "differentiate", "in_own_order", "kernel_optimizer",
    "layer", "model_layers", "network", "no_optimizer", "not_offered", "offers_features",
    "optimizer", "precision", "run", "trainer", "versions",
]  # fmt: skip

_LAYERS: dict[str, dict[int, Any]] = {
    "convolution": {1: do_keras.DOConv1D, 2: do_keras.DOConv2D, 3: do_keras.DOConv3D},
    "depthwise": {2: do_keras.DODepthwiseConv2D},
    "transposed": {
        1: do_keras.DOConv1DTranspose,
        2: do_keras.DOConv2DTranspose,
        3: do_keras.DOConv3DTranspose,
    },
    "separable": {1: do_keras.DepthwiseSeparableConv1D, 2: do_keras.DepthwiseSeparableConv2D},
}
_LAST = {"data_format": "channels_last"}
_PARTS: dict[str, Callable[[], Any]] = {
    "relu": lambda: keras.layers.Activation("relu"),
    "pool": lambda: keras.layers.MaxPooling2D(2, **_LAST),
    "average": lambda: keras.layers.GlobalAveragePooling2D(**_LAST),
}
_LOSSES: dict[str, Callable[[], Any]] = {
    "mean squared error": keras.losses.MeanSquaredError,
    "cross-entropy": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
}


def versions() -> str:
    """The version of Keras and of what it computes with."""
    return f"keras {keras.__version__} on {keras.backend.backend()}"


def not_offered(case: Case) -> str | None:
    """Keras pads with zeros, by words, and has either a stride or a dilation."""
    has_groups = case.kind in ("convolution", "depthwise")
    steps = case.stride != 1 and case.dilation != 1 and case.kind != "depthwise"
    reasons = {
        f"no {case.kind} layer of {case.rank} axes": case.rank not in _LAYERS[case.kind],
        f"no groups in a {case.kind} layer": case.groups != 1 and not has_groups,
        "no padding in numbers": not isinstance(case.padding, str),
        "no causal padding in a separable layer": (case.kind, case.padding)
        == ("separable", "causal"),
        "no stride together with dilation": steps,
        # torch 2.13 refuses the gradient of a kernel in Keras's order that has one filter, in
        # float64, also in the plain layer: "slow_conv2d: grad_weight must be contiguous".
        "no gradient of a single filter in PyTorch": case.spec.out_channels == 1
        and keras.backend.backend() == "torch",
        # "Current CPU implementations do not yet support dilation rates larger than 1."
        "no dilation of a transposed layer in TensorFlow on a CPU": case.kind == "transposed"
        and case.dilation != 1
        and keras.backend.backend() == "tensorflow",
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def offers_features(case: Case) -> bool:
    """Keras has no grouped transposed convolution, so no feature composition of one."""
    return case.kind != "transposed"


@contextlib.contextmanager
def precision(dtype: str) -> Iterator[None]:
    """Keras casts data to its float type or its policy's, and jax keeps float64 only if told."""
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
        # The cases are small: optimizing them would take far longer than running them.
        jax.config.update("jax_disable_most_optimizations", True)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # There are many small models, which TensorFlow would warn of as needless retracing.
        tf.get_logger().setLevel("ERROR")
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


def layer(case: Case, dtype: str) -> Any:
    """An over-parameterized layer of a case, built."""
    options: dict[str, Any] = {
        "kernel_size": case.kernel_size,
        "strides": case.stride,
        "padding": _padding_word(case),
        "dilation_rate": case.dilation,
        "use_bias": case.bias,
        "dtype": dtype,
        **_LAST,
    }
    if case.kind != "depthwise":
        options["filters"] = case.channels[1]
    if case.kind != "separable":
        options |= {"d_mul": case.d_mul, "depthwise_init": case.layer_start}
    more: dict[str, dict[str, Any]] = {
        "convolution": {"groups": case.groups},
        "depthwise": {"depth_multiplier": case.spec.group_rows},
        # With a stride Keras would choose an output_padding; parity needs the one given.
        "transposed": {"output_padding": None if case.padding == "same" else case.output_padding},
        "separable": {"depth_multiplier": case.spec.d_mul},
    }
    made = _LAYERS[case.kind][case.rank](**options, **more[case.kind])
    made.build((None, *[None] * case.rank, case.channels[0]))
    return made


def _padding_word(case: Case) -> Any:
    """Keras's word for padding in numbers: "same", where that pads as much."""
    same = Window(case.kernel_size, 1, "same", case.dilation)
    is_same = case.stride == 1 and case.window.pads(case.size) == same.pads(case.size)
    return "same" if is_same and not isinstance(case.padding, str) else case.padding


def composed_kernel(layer: Any) -> np.ndarray:
    """W' of a layer."""
    kernel = ops.convert_to_numpy(layer.composed_kernel())
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return layouts.depthwise_kernel_from_keras(kernel)
    return layouts.kernel_from_keras(kernel)


def run(model: Any, x: np.ndarray) -> np.ndarray:
    """The output of a model or a layer in evaluation mode."""
    is_compiled = isinstance(model, keras.Model) and model.compiled
    call = model.predict_on_batch if is_compiled else model
    output = ops.convert_to_numpy(call(layouts.channels_last(x)))
    return layouts.channels_first(output) if output.ndim > 2 else output


def differentiate(
    layer: Any, x: np.ndarray, cotangent: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A layer's output, and the gradients of `x` and of its arrays."""
    output, grad_x, grads = _DIFFERENTIATE[keras.backend.backend()](
        layer, layouts.channels_last(x), layouts.channels_last(cotangent)
    )
    by_variable = {
        id(variable): ops.convert_to_numpy(grad)
        for variable, grad in zip(layer.trainable_variables, grads, strict=True)
    }
    (own,) = model_layers(layer)
    gradients = {"x": layouts.channels_first(ops.convert_to_numpy(grad_x))}
    for name, array in own.arrays.items():
        assert isinstance(array, VariableArray)
        gradients[name] = array.to_core(by_variable[id(array.variable)])
    return layouts.channels_first(ops.convert_to_numpy(output)), gradients


def _with_tensorflow(layer: Any, x: np.ndarray, cotangent: np.ndarray) -> tuple[Any, Any, Any]:
    import tensorflow as tf

    given = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(given)
        output = layer(given)
    variables = [variable.value for variable in layer.trainable_variables]
    grad_x, *gradients = tape.gradient(output, [given, *variables], tf.constant(cotangent))
    return output, grad_x, gradients


def _with_torch(layer: Any, x: np.ndarray, cotangent: np.ndarray) -> tuple[Any, Any, Any]:
    import torch

    given = ops.convert_to_tensor(x).requires_grad_()
    output = layer(given)
    inputs = [given, *(variable.value for variable in layer.trainable_variables)]
    grad_x, *gradients = torch.autograd.grad(output, inputs, ops.convert_to_tensor(cotangent))
    return output, grad_x, gradients


def _with_jax(layer: Any, x: np.ndarray, cotangent: np.ndarray) -> tuple[Any, Any, Any]:
    import jax

    def apply(given: Any, variables: Any) -> Any:
        return layer.stateless_call(variables, [], given)[0]

    variables = [variable.value for variable in layer.trainable_variables]

    @jax.jit
    def differentiated(given: Any, variables: Any, cotangent: Any) -> Any:
        output, pull_back = jax.vjp(apply, given, variables)
        return output, *pull_back(cotangent)

    return differentiated(x, variables, cotangent)


_DIFFERENTIATE = {"tensorflow": _with_tensorflow, "torch": _with_torch, "jax": _with_jax}


def network(parts: Sequence[Any]) -> Any:
    """A `Sequential` model of layers, for images of any size."""
    layers = []
    for part in parts:
        if isinstance(part, Dense):
            layers.append(keras.layers.Dense(part.outputs))
        else:
            layers.append(_PARTS[part]() if isinstance(part, str) else part)
    size = [None] * layers[0].rank
    return keras.Sequential([keras.Input((*size, input_channels(layers[0]))), *layers])


def no_optimizer(options: Options) -> str | None:
    """Keras has all of them."""
    return None


def optimizer(model: Any, options: Options) -> Any:
    """`keras.optimizers.SGD`, `Adam` or `AdamW`; each of them decays apart from the gradient."""
    several = options.micro_batches if options.micro_batches > 1 else None
    common = {"weight_decay": options.decay or None, "gradient_accumulation_steps": several}
    if isinstance(options, SGD):
        own = {"momentum": options.momentum, "nesterov": options.is_nesterov}
        return keras.optimizers.SGD(options.rate, **own, **common)
    kind = keras.optimizers.AdamW if options.is_decoupled else keras.optimizers.Adam
    return kind(options.rate, epsilon=options.epsilon, **common)


def kernel_optimizer(model: Any, options: Options, d_mul: Callable[[Spec], int] | None) -> Any:
    """`DOConvOptimizer`, built."""
    made = do_keras.DOConvOptimizer(optimizer(model, options), model, d_mul=d_mul)
    made.build(model.trainable_variables)
    return made


def trainer(
    model: Any, loss: Loss, options: Options, by: Any = None
) -> Callable[[np.ndarray, np.ndarray], None]:
    """A step of a Keras optimizer.

    Keras's own weight decay is not multiplied by the momentum, and `SGD`'s is: without an optimizer
    it is a penalty of `decay / 2 * p**2`.
    """
    if by is None and options.decay:
        for variable in model.trainable_variables:
            variable.regularizer = keras.regularizers.L2(options.decay / 2)
    its = optimizer(model, replace(options, decay=0.0)) if by is None else by
    model.compile(its, _LOSSES[loss]())

    def step(x: np.ndarray, target: np.ndarray) -> None:
        expected = layouts.channels_last(target) if target.ndim > 2 else target
        model.train_on_batch(layouts.channels_last(x), expected)

    return step
