"""Parity in MXNet Gluon."""

from __future__ import annotations

import do_conv.gluon as do_gluon  # isort: skip  # prepares NumPy before MXNet is imported
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon, nd

from do_conv.parity import training
from do_conv.parity.cases import Case
from do_conv.parity.layer import Arrays, Results
from do_conv.parity.training import Parameters, Run

_LAYERS = {1: do_gluon.DOConv1D, 2: do_gluon.DOConv2D, 3: do_gluon.DOConv3D}


def versions() -> str:
    """The versions of MXNet and of the NumPy it runs on."""
    return f"mxnet {mx.__version__}, numpy {np.__version__}"


def not_offered(case: Case) -> str | None:
    """MXNet pads with zeros, by numbers."""
    if case.kind in ("transposed", "separable"):
        return f"no {case.kind} layer"
    if case.padding in ("same", "causal"):
        return f"no padding '{case.padding}'"
    if case.padding_mode != "zeros":
        return "no padding modes"
    return None


def _layer(case: Case, dtype: str) -> gluon.HybridBlock:
    layer = _LAYERS[case.rank](
        case.channels[1],
        case.kernel_size,
        case.stride,
        0 if case.padding == "valid" else case.padding,
        case.dilation,
        case.groups,
        use_bias=case.bias,
        in_channels=case.channels[0],
        d_mul=case.d_mul,
        depthwise_init="he" if case.start == "he" else "identity",
    )
    layer.cast(dtype)
    layer.initialize()
    return layer


def _ndarray(array: np.ndarray) -> nd.NDArray:
    return nd.array(array, dtype=array.dtype)


def _array(array: nd.NDArray) -> np.ndarray:
    return array.asnumpy().astype("float64")


def layer_results(case: Case, given: Arrays) -> Results:
    """Every quantity of a case in the precision of its arrays."""
    layer = _layer(case, given.x.dtype.name)
    parameters = {"W": layer.weight, "D'": layer.depthwise_delta, "bias": layer.bias}
    for parameter, array in zip(
        parameters.values(), (given.weight, given.delta, given.bias), strict=True
    ):
        if array is not None:
            parameter.set_data(_ndarray(array))
    x, cotangent = _ndarray(given.x), _ndarray(given.cotangent)
    results = {}
    for layer.composition, prefix in (("kernel", ""), ("feature", "feature ")):
        if prefix and given.delta is None:
            continue
        # A gradient that does not arrive must not be taken for the one before it.
        x.attach_grad()
        layer.collect_params().zero_grad()
        with autograd.record():
            output = layer(x)
        output.backward(cotangent)
        results[f"{prefix}output"], results[f"{prefix}grad x"] = output, x.grad.copy()
        for name, parameter in parameters.items():
            if parameter is not None:
                results[f"{prefix}grad {name}"] = parameter.grad().copy()
    results["composed kernel"] = layer.composed_weight()
    folded = layer.fold()
    results["folded kernel"], results["folded output"] = folded.weight.data(), folded(x)
    return {name: _array(array) for name, array in results.items()}


def train(run: Run) -> Parameters:
    """The training run with `Trainer` and MXNet's SGD, whose weight decay is the run's."""
    dtype = run.inputs[0].dtype.name
    layers = {case.name: _layer(case, dtype) for case in training.LAYERS}
    parameters = {
        f"{name}.{kind}": getattr(layer, kind)
        for name, layer in layers.items()
        for kind in training.PARAMETERS
    }
    for name, parameter in parameters.items():
        parameter.set_data(_ndarray(run.start[name]))
    options = {
        "learning_rate": training.RATE,
        "momentum": training.MOMENTUM,
        "wd": training.DECAY,
    }
    trainer = gluon.Trainer(list(parameters.values()), "sgd", options)
    for x, target in zip(run.inputs, run.targets, strict=True):
        with autograd.record():
            output = layers["second"](nd.relu(layers["first"](_ndarray(x))))
            loss = nd.mean(nd.square(output - _ndarray(target)))
        loss.backward()
        trainer.step(1)
    return {name: _array(parameter.data()) for name, parameter in parameters.items()}
