"""W and D' beside a plain kernel: the training of a layer that holds both."""

import numpy as np
import pytest

from do_conv import DOConvError
from do_conv.core.composition import compose
from do_conv.core.convolution import convolve, convolve_gradients
from do_conv.core.step import step
from do_conv.parity.training import DECAY, LAYERS, MOMENTUM, RATE, make_run, train


def test_twenty_steps_beside_plain_kernels_are_those_of_the_layers():
    """A plain network with SGD on W and D', against the core's layers."""
    run = make_run("float64")
    velocity = {name: np.zeros_like(value) for name, value in run.start.items()}
    parameters = dict(run.start)

    def sgd(name, value, gradient):
        velocity[name] = MOMENTUM * velocity[name] + gradient + DECAY * value
        return value - RATE * velocity[name]

    def parts(case):
        return parameters[f"{case.name}.weight"], parameters[f"{case.name}.depthwise_delta"]

    kernels = {case.name: compose(*parts(case), case.groups) for case in LAYERS}
    for x, target in zip(run.inputs, run.targets, strict=True):
        gradients = plain_gradients(kernels, parameters, x, target)
        for case in LAYERS:
            weight, delta, kernels[case.name] = step(
                *parts(case), gradients[f"{case.name}.weight"],
                lambda name, *arrays, case=case: sgd(f"{case.name}.{name}", *arrays), case.groups,
            )  # fmt: skip
            bias = f"{case.name}.bias"
            parameters |= {
                f"{case.name}.weight": weight,
                f"{case.name}.depthwise_delta": delta,
                bias: sgd(bias, parameters[bias], gradients[bias]),
            }
    for name, expected in train(run).items():
        np.testing.assert_allclose(parameters[name], expected, rtol=0, atol=1e-12)
    for case in LAYERS:
        np.testing.assert_array_equal(kernels[case.name], compose(*parts(case), case.groups))


def plain_gradients(kernels, parameters, x, target):
    """The gradients of a plain network's kernels and biases: layer, ReLU, layer, squared error."""
    first, second = LAYERS
    hidden = np.maximum(
        convolve(x, kernels["first"], first.window, first.groups, parameters["first.bias"]), 0
    )
    output = convolve(
        hidden, kernels["second"], second.window, second.groups, parameters["second.bias"]
    )
    gradients, grad = {}, 2 * (output - target) / output.size
    for case, given in ((second, hidden), (first, x)):
        grad, gradients[f"{case.name}.weight"], gradients[f"{case.name}.bias"] = convolve_gradients(
            grad, given, kernels[case.name], case.window, case.groups
        )
        grad = grad * (hidden > 0) if case is second else grad
    return gradients


def test_the_shapes_belong_to_one_layer():
    with pytest.raises(DOConvError, match="gradient of the composed kernel"):
        step(np.zeros((4, 2, 9)), np.zeros((2, 9, 3, 3)), np.zeros((4, 2, 3)), lambda *_: None)
