"""Parity in Keras, on the backend it computes with."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import do_conv.tf as do_keras  # isort: skip  # says what is missing before keras is imported
import keras
import numpy as np
from keras import ops

from do_conv.core import layouts
from do_conv.parity import training
from do_conv.parity.cases import Case
from do_conv.parity.layer import Arrays, Results
from do_conv.parity.training import Parameters, Run

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
def _precision(dtype: str) -> Iterator[None]:
    """Keras casts data to its float type or its policy's, and jax keeps float64 only if told."""
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
        # The cases are small: optimizing them would take far longer than running them.
        jax.config.update("jax_disable_most_optimizations", True)
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


def _layer(case: Case, **options: Any) -> Any:
    window: dict[str, Any] = {
        "kernel_size": case.kernel_size,
        "strides": case.stride,
        "padding": case.padding,
        "dilation_rate": case.dilation,
        "use_bias": case.bias,
        "data_format": "channels_last",
        **options,
    }
    if case.kind != "depthwise":
        window["filters"] = case.channels[1]
    if case.kind != "separable":
        window |= {"d_mul": case.d_mul, "depthwise_init": case.layer_start}
    more: dict[str, dict[str, Any]] = {
        "convolution": {"groups": case.groups},
        "depthwise": {"depth_multiplier": case.spec.group_out_channels},
        # Where a valid stride leaves a gap, Keras would fill it unless it is told a number.
        "transposed": {"output_padding": None if case.padding == "same" else case.output_padding},
        "separable": {"depth_multiplier": case.spec.d_mul},
    }
    return _LAYERS[case.kind][case.rank](**window, **more[case.kind])


def _from_layout(case: Case) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """How each parameter's array comes back to the core's layout."""
    depthwise = layouts.depthwise_kernel_from_keras
    return {
        "kernel": depthwise if case.kind == "depthwise" else layouts.kernel_from_keras,
        "depthwise_delta": layouts.delta_from_keras,
        "depthwise_kernel": layouts.delta_from_keras,
        "pointwise_kernel": lambda w: layouts.kernel_from_keras(w).reshape(case.spec.weight_shape),
        "bias": np.asarray,
    }


def _assign(case: Case, layer: Any, weight: Any, delta: Any, bias: Any) -> None:
    """Give a built layer the core's arrays."""
    if case.kind == "separable":
        features = weight.reshape(len(weight), -1, *[1] * case.rank)
        layer.pointwise_kernel.assign(layouts.kernel_to_keras(features))
        layer.depthwise_kernel.assign(layouts.delta_to_keras(delta))
    else:
        kernel = (
            layouts.depthwise_kernel_to_keras(weight, case.spec)
            if case.kind == "depthwise"
            else layouts.kernel_to_keras(weight)
        )
        layer.kernel.assign(kernel)
        if delta is not None:
            layer.depthwise_delta.assign(layouts.delta_to_keras(delta))
    if bias is not None:
        layer.bias.assign(bias)


_NAMES = {
    "kernel": "grad W",
    "pointwise_kernel": "grad W",
    "depthwise_delta": "grad D'",
    "depthwise_kernel": "grad D'",
    "bias": "grad bias",
}


def layer_results(case: Case, given: Arrays) -> Results:
    """Every quantity of a case in the precision of its arrays."""
    with _precision(given.x.dtype.name):
        layer = _layer(case)
        layer.build((None, *[None] * case.rank, case.channels[0]))
        _assign(case, layer, given.weight, given.delta, given.bias)
        x, cotangent = layouts.channels_last(given.x), layouts.channels_last(given.cotangent)
        from_layout = _from_layout(case)
        results = {}
        for layer.composition, prefix in (("kernel", ""), ("feature", "feature ")):
            if prefix and (given.delta is None or not offers_features(case)):
                continue
            output, grad_x, gradients = _DIFFERENTIATE[keras.backend.backend()](layer, x, cotangent)
            results[f"{prefix}output"] = layouts.channels_first(_array(output))
            results[f"{prefix}grad x"] = layouts.channels_first(_array(grad_x))
            for variable, gradient in zip(layer.trainable_variables, gradients, strict=True):
                back = from_layout[variable.name]
                results[prefix + _NAMES[variable.name]] = back(_array(gradient))
        back, folded = from_layout["kernel"], layer.fold()
        results["composed kernel"] = back(_array(layer.composed_kernel()))
        if case.kind != "separable":
            results["folded kernel"] = back(_array(folded.kernel))
        results["folded output"] = layouts.channels_first(_array(folded(x)))
        return results


def _array(tensor: Any) -> np.ndarray:
    return ops.convert_to_numpy(tensor).astype("float64")


def _with_tensorflow(layer: Any, x: np.ndarray, cotangent: np.ndarray) -> tuple[Any, Any, Any]:
    import tensorflow as tf

    # Each case has shapes of its own, which TensorFlow would warn of as needless retracing.
    tf.get_logger().setLevel("ERROR")
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
    def differentiate(given: Any, variables: Any, cotangent: Any) -> Any:
        output, pull_back = jax.vjp(apply, given, variables)
        return output, *pull_back(cotangent)

    return differentiate(x, variables, cotangent)


_DIFFERENTIATE = {"tensorflow": _with_tensorflow, "torch": _with_torch, "jax": _with_jax}


def train(run: Run) -> Parameters:
    """The training run with `keras.optimizers.SGD`.

    Keras's own weight decay is not multiplied by the momentum; the run's is a penalty of
    `decay / 2 * p**2`, which `L2` adds to the loss.
    """
    with _precision(run.inputs[0].dtype.name):
        penalties = ("kernel_regularizer", "bias_regularizer", "delta_regularizer")
        options = {name: keras.regularizers.L2(training.DECAY / 2) for name in penalties}
        layers = {case.name: _layer(case, **options) for case in training.LAYERS}
        first, second = layers.values()
        channels, size = training.LAYERS[0].channels[0], training.LAYERS[0].size
        relu = keras.layers.Activation("relu")
        network = keras.Sequential([keras.Input((*size, channels)), first, relu, second])
        for case in training.LAYERS:
            weight, bias, delta = (run.start[f"{case.name}.{n}"] for n in training.PARAMETERS)
            _assign(case, layers[case.name], weight, delta, bias)
        optimizer = keras.optimizers.SGD(training.RATE, training.MOMENTUM)
        network.compile(optimizer, keras.losses.MeanSquaredError())
        for x, target in zip(run.inputs, run.targets, strict=True):
            network.train_on_batch(layouts.channels_last(x), layouts.channels_last(target))
        trained: Parameters = {}
        for case in training.LAYERS:
            back, layer = _from_layout(case), layers[case.name]
            for name in training.PARAMETERS:
                key = "kernel" if name == "weight" else name
                trained[f"{case.name}.{name}"] = back[key](_array(getattr(layer, key)))
        return trained
