"""A small network of two DO-Conv layers, trained by the core and by a framework.

The loss is the mean squared error, the optimizer SGD with momentum and weight decay,

    v <- momentum * v + gradient + decay * p        p <- p - rate * v

with rates that every precision holds exactly, so that every framework is given the same numbers,
and an output of 4 x 8 x 4 x 4 numbers. Keras computes the mean in float32 on some of its backends,
and would a tanh; one over a power of two is exact there, and so is a ReLU.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from do_conv.adapter import DELTA, SGD, Adapter
from do_conv.core.composition import compose, compose_gradients
from do_conv.core.convolution import convolve, convolve_gradients
from do_conv.parity.cases import Case

RATE, MOMENTUM, DECAY, STEPS = 0.125, 0.875, 2.0**-6, 20

LAYERS = (
    Case("first", (3, 8), (3, 3), (11, 11)),
    Case("second", (8, 8), (3, 3), (9, 9), stride=2, groups=2, d_mul=12),
)

PARAMETERS = ("weight", "bias", DELTA)

# "first.weight" and so on, in the core's layout.
Parameters = dict[str, np.ndarray]


@dataclass(frozen=True)
class Run:
    """A start, and for each step a batch and what the network should make of it."""

    start: Parameters
    inputs: list[np.ndarray]
    targets: list[np.ndarray]


def make_run(dtype: str) -> Run:
    """The run that the core and every framework make, rounded to `dtype`."""
    rng = np.random.default_rng(7)
    start: Parameters = {}
    for case in LAYERS:
        spec = case.spec
        shapes = (spec.weight_shape, (spec.out_channels,), spec.delta_shape)
        for name, shape in zip(PARAMETERS, shapes, strict=True):
            start[f"{case.name}.{name}"] = (0.1 * rng.standard_normal(shape)).astype(dtype)
    first, last = LAYERS
    output = (4, last.spec.out_channels, *last.window.output_size(last.size))
    inputs = [rng.standard_normal((4, 3, *first.size)).astype(dtype) for _ in range(STEPS)]
    targets = [rng.standard_normal(output).astype(dtype) for _ in range(STEPS)]
    return Run(start, inputs, targets)


def train(run: Run) -> Parameters:
    """The parameters after the run, by the core in float64."""
    parameters = {name: value.astype("float64") for name, value in run.start.items()}
    velocity = {name: np.zeros_like(value) for name, value in parameters.items()}
    for x, target in zip(run.inputs, run.targets, strict=True):
        for name, gradient in _gradients(parameters, x.astype("float64"), target).items():
            step = gradient + DECAY * parameters[name]
            velocity[name] = MOMENTUM * velocity[name] + step
            parameters[name] = parameters[name] - RATE * velocity[name]
    return parameters


def train_with(adapter: Adapter, run: Run) -> Parameters:
    """The parameters after the run, by a framework's own optimizer."""
    dtype = run.inputs[0].dtype.name
    with adapter.precision(dtype):
        first, second = (adapter.layer(case, dtype) for case in LAYERS)
        network = adapter.network([first, "relu", second])
        arrays = {
            f"{case.name}.{name}": array
            for case, layer in zip(LAYERS, adapter.model_layers(network), strict=True)
            for name, array in layer.arrays.items()
        }
        for name, array in arrays.items():
            array.write(run.start[name])
        step = adapter.trainer(network, "mean squared error", SGD(RATE, MOMENTUM, DECAY))
        for x, target in zip(run.inputs, run.targets, strict=True):
            step(x, target)
        return {name: array.read().astype("float64") for name, array in arrays.items()}


def _gradients(parameters: Parameters, x: np.ndarray, target: np.ndarray) -> Parameters:
    """The gradients of the mean squared error: layer, ReLU, layer, and back."""
    first, second = LAYERS
    kernels = {case.name: compose(*_kernel_of(case, parameters)) for case in LAYERS}
    hidden = convolve(x, kernels["first"], first.window, first.groups, parameters["first.bias"])
    hidden = np.maximum(hidden, 0)
    output = convolve(
        hidden, kernels["second"], second.window, second.groups, parameters["second.bias"]
    )
    gradients: Parameters = {}
    grad = 2 * (output - target) / output.size
    for case, given in ((second, hidden), (first, x)):
        grad, grad_kernel, gradients[f"{case.name}.bias"] = convolve_gradients(
            grad, given, kernels[case.name], case.window, case.groups
        )
        gradients[f"{case.name}.weight"], gradients[f"{case.name}.depthwise_delta"] = (
            compose_gradients(grad_kernel, *_kernel_of(case, parameters))
        )
        grad = grad * (hidden > 0) if case is second else grad
    return gradients


def _kernel_of(case: Case, parameters: Parameters) -> tuple[np.ndarray, np.ndarray, int]:
    weight, delta = (parameters[f"{case.name}.{name}"] for name in ("weight", "depthwise_delta"))
    return weight, delta, case.groups
