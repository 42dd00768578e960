"""MXNet Gluon behind the interface of `do_conv.adapter`."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import do_conv.gluon as do_gluon  # isort: skip  # prepares NumPy before MXNet is imported
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn

from do_conv.adapter import SGD, Adam, Dense, Loss, Options
from do_conv.core.spec import Shape, Spec
from do_conv.gluon.layer_arrays import model_layers
from do_conv.parity.cases import Case

__all__ = [
    "composed_kernel", "differentiate", "in_own_order", "kernel_optimizer",
    "layer", "model_layers", "network", "no_optimizer", "not_offered", "offers_features",
    "optimizer", "precision", "run", "trainer", "versions",
]  # fmt: skip

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
_PARTS: dict[str, Callable[[], list[Any]]] = {
    "relu": lambda: [nn.Activation("relu")],
    "pool": lambda: [nn.MaxPool2D(2)],
    "average": lambda: [nn.GlobalAvgPool2D(), nn.Flatten()],
}
_LOSSES: dict[str, Callable[[], Any]] = {
    "mean squared error": lambda: _mean_squared_error,
    "cross-entropy": gluon.loss.SoftmaxCrossEntropyLoss,
}


def _mean_squared_error(output: nd.NDArray, target: nd.NDArray) -> nd.NDArray:
    """Gluon's own `L2Loss` is half of it."""
    return nd.mean(nd.square(output - target), axis=0, exclude=True)


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
    if any(axis >= step for axis, step in zip(more, window.stride, strict=True)):
        return "no output_padding as large as the stride"
    return None


def offers_features(case: Case) -> bool:
    """Every layer has both compositions."""
    return True


def precision(dtype: str) -> AbstractContextManager[None]:
    """Layers are told their dtype, and arrays keep theirs: there is nothing to set."""
    return contextlib.nullcontext()


def layer(case: Case, dtype: str) -> Any:
    """An over-parameterized layer of a case, initialized."""
    more = {
        "convolution": {"depthwise_init": case.layer_start},
        "transposed": {"depthwise_init": case.layer_start, "output_padding": case.output_padding},
        "separable": {},
    }
    kind = "convolution" if case.kind == "depthwise" else case.kind
    made = _LAYERS[kind][case.rank - 1](
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
    made.cast(dtype)
    made.initialize()
    return made


def composed_kernel(layer: Any) -> np.ndarray:
    """W' of a layer."""
    return layer.composed_weight().asnumpy()


def run(model: Any, x: np.ndarray) -> np.ndarray:
    """The output of a model or a layer in evaluation mode."""
    return model(_array(x)).asnumpy()


def differentiate(
    layer: Any, x: np.ndarray, cotangent: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A layer's output, and the gradients of `x` and of its arrays."""
    given = _array(x)
    given.attach_grad()
    # Without this, a gradient that is not computed would be read as the previous one.
    layer.collect_params().zero_grad()
    with autograd.record():
        output = layer(given)
    output.backward(_array(cotangent))
    parameters = {name: one for name, one in layer._reg_params.items() if one is not None}
    gradients = {name: one.grad() for name, one in parameters.items()}
    found = {"x": given.grad, **gradients}
    return output.asnumpy(), {name: gradient.asnumpy() for name, gradient in found.items()}


def network(parts: Sequence[Any]) -> Any:
    """A hybridized `HybridSequential` of layers."""
    made = nn.HybridSequential()
    for part in parts:
        if isinstance(part, Dense):
            dense = nn.Dense(part.outputs, in_units=part.inputs)
            dense.initialize()
            dense.cast(parts[0].weight.dtype)
            made.add(dense)
        else:
            made.add(*(_PARTS[part]() if isinstance(part, str) else [part]))
    made.hybridize()
    return made


def no_optimizer(options: Options) -> str | None:
    """MXNet has no AdamW."""
    return "no AdamW" if isinstance(options, Adam) and options.is_decoupled else None


def optimizer(model: Any, options: Options) -> gluon.Trainer:
    """A `gluon.Trainer` with MXNet's SGD, NAG or Adam."""
    return gluon.Trainer(model.collect_params(), *_named(options))


def kernel_optimizer(model: Any, options: Options, d_mul: Callable[[Spec], int] | None) -> Any:
    """`DOConvTrainer`."""
    return do_gluon.DOConvTrainer(model, *_named(options), d_mul=d_mul)


def _named(options: Options) -> tuple[str, dict[str, Any]]:
    """The name and the options of MXNet's optimizer."""
    common = {"learning_rate": options.rate, "wd": options.decay}
    if isinstance(options, SGD):
        return "nag" if options.is_nesterov else "sgd", {**common, "momentum": options.momentum}
    return "adam", {**common, "epsilon": options.epsilon}


def trainer(
    model: Any, loss: Loss, options: Options, by: Any = None
) -> Callable[[np.ndarray, np.ndarray], None]:
    """A step of a `gluon.Trainer`, whose gradients are the sums over micro-batches."""
    its, error = by or optimizer(model, options), _LOSSES[loss]()
    done = itertools.count(1)
    trained = [p for p in model.collect_params().values() if p.grad_req != "null"]
    for parameter in trained:
        parameter.grad_req = "add"

    def step(x: np.ndarray, target: np.ndarray) -> None:
        with autograd.record():
            losses = error(model(_array(x)), _array(target))
        losses.backward()
        if next(done) % options.micro_batches == 0:
            its.step(len(x))
            for parameter in trained:
                parameter.zero_grad()

    return step


def in_own_order(model: Any, shape: Shape) -> Shape:
    """MXNet has the channels first, as they come."""
    return shape


def _array(array: np.ndarray) -> nd.NDArray:
    return nd.array(array, dtype=array.dtype)
