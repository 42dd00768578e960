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

_LAYERS = {
    "convolution": (do_gluon.DOConv1D, do_gluon.DOConv2D, do_gluon.DOConv3D),
    "transposed": (
        do_gluon.DOConv1DTranspose,
        do_gluon.DOConv2DTranspose,
        do_gluon.DOConv3DTranspose,
    ),
    "separable": (
        do_gluon.DepthwiseSeparableConv1D,
        do_gluon.DepthwiseSeparableConv2D,
        do_gluon.DepthwiseSeparableConv3D,
    ),
}


def versions() -> str:
    """The versions of MXNet and of the NumPy it runs on."""
    return f"mxnet {mx.__version__}, numpy {np.__version__}"


def not_offered(case: Case) -> str | None:
    """MXNet pads with zeros, by numbers; its transposed convolution has gaps of its own."""
    if case.padding in ("same", "causal"):
        return f"no padding '{case.padding}'"
    if case.padding_mode != "zeros":
        return "no padding modes"
    if case.kind == "transposed":
        return _not_transposed(case)
    return None


def _not_transposed(case: Case) -> str | None:
    if case.rank == 3:
        return "no 3-D transposed convolution in float64"
    window, extra = case.window, case.output_padding
    more = (extra,) * case.rank if isinstance(extra, int) else extra
    if any(one >= step for one, step in zip(more, window.stride, strict=True)):
        return "no output_padding as large as the stride"
    return None


def offers_features(case: Case) -> bool:
    """Every layer has both compositions."""
    return True


def _layer(case: Case, dtype: str) -> gluon.HybridBlock:
    more = {
        "convolution": {"depthwise_init": case.layer_start},
        "transposed": {"depthwise_init": case.layer_start, "output_padding": case.output_padding},
        "separable": {},
    }
    kind = "convolution" if case.kind == "depthwise" else case.kind
    layer = _LAYERS[kind][case.rank - 1](
        case.channels[1],
        case.kernel_size,
        case.stride,
        0 if case.padding == "valid" else case.padding,
        dilation=case.dilation,
        groups=case.groups,
        use_bias=case.bias,
        in_channels=case.channels[0],
        d_mul=case.spec.d_mul,
        **more[kind],
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
    depthwise = "depthwise_weight" if case.kind == "separable" else "depthwise_delta"
    parameters = {"W": layer.weight, "D'": getattr(layer, depthwise), "bias": layer.bias}
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
    results["folded output"] = folded(x)
    if case.kind != "separable":
        results["folded kernel"] = folded.weight.data()
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
