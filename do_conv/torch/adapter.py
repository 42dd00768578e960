"""PyTorch behind the interface of `do_conv.adapter`."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import do_conv.torch as do_torch  # isort: skip  # says what is missing before torch is imported
import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from do_conv.adapter import SGD, Dense, Loss, Options
from do_conv.core.spec import Shape, Spec
from do_conv.parity.cases import Case
from do_conv.torch.layer_arrays import model_layers

__all__ = [
    "composed_kernel", "differentiate", "in_own_order", "kernel_optimizer",
    "layer", "model_layers", "network", "no_optimizer", "not_offered", "offers_features",
    "optimizer", "precision", "run", "trainer", "versions",
]  # fmt: skip

_LAYERS = {
    "convolution": (do_torch.DOConv1d, do_torch.DOConv2d, do_torch.DOConv3d),
    "transposed": (
        do_torch.DOConvTranspose1d,
        do_torch.DOConvTranspose2d,
        do_torch.DOConvTranspose3d,
    ),
    "separable": (
        do_torch.DepthwiseSeparableConv1d,
        do_torch.DepthwiseSeparableConv2d,
        do_torch.DepthwiseSeparableConv3d,
    ),
}
_PARTS: dict[str, Callable[[], list[nn.Module]]] = {
    "relu": lambda: [nn.ReLU()],
    "pool": lambda: [nn.MaxPool2d(2)],
    "average": lambda: [nn.AdaptiveAvgPool2d(1), nn.Flatten()],
}
_LOSSES: dict[str, Callable[..., Tensor]] = {
    "mean squared error": nn.functional.mse_loss,
    "cross-entropy": nn.functional.cross_entropy,
}


def versions() -> str:
    """The version of PyTorch."""
    return f"torch {torch.__version__}"


def not_offered(case: Case) -> str | None:
    """PyTorch has neither causal padding nor `same` with a stride."""
    if case.padding == "causal":
        return "no causal padding"
    if case.padding == "same" and (case.stride != 1 or case.kind == "transposed"):
        return "no padding 'same' with a stride"
    return None


def offers_features(case: Case) -> bool:
    """Every layer has both compositions."""
    return True


def precision(dtype: str) -> AbstractContextManager[None]:
    """Layers are told their dtype, and arrays keep theirs: there is nothing to set."""
    return contextlib.nullcontext()


def layer(case: Case, dtype: str) -> Any:
    """An over-parameterized layer of a case."""
    padding = 0 if (case.kind, case.padding) == ("transposed", "valid") else case.padding
    more = {
        "convolution": {"padding_mode": case.padding_mode, "depthwise_init": case.layer_start},
        "transposed": {"output_padding": case.output_padding, "depthwise_init": case.layer_start},
        "separable": {"padding_mode": case.padding_mode},
    }
    kind = "convolution" if case.kind == "depthwise" else case.kind
    return _LAYERS[kind][case.rank - 1](
        *case.channels,
        case.kernel_size,
        stride=case.stride,
        padding=padding,
        dilation=case.dilation,
        groups=case.groups,
        bias=case.bias,
        dtype=getattr(torch, dtype),
        d_mul=case.spec.d_mul,
        **more[kind],
    )


def composed_kernel(layer: Any) -> np.ndarray:
    """W' of a layer."""
    return _numpy(layer.composed_weight())


@torch.no_grad()
def run(model: nn.Module, x: np.ndarray) -> np.ndarray:
    """The output of a model or a layer in evaluation mode."""
    return model.eval()(torch.from_numpy(x)).numpy()


def differentiate(
    layer: Any, x: np.ndarray, cotangent: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A layer's output, and the gradients of `x` and of its arrays."""
    given = torch.from_numpy(x).requires_grad_()
    output = layer(given)
    inputs = {"x": given, **dict(layer.named_parameters())}
    gradients = torch.autograd.grad(output, list(inputs.values()), torch.from_numpy(cotangent))
    return _numpy(output), dict(zip(inputs, map(_numpy, gradients), strict=True))


def network(parts: Sequence[Any]) -> nn.Module:
    """A `Sequential` of layers."""
    layers: list[nn.Module] = []
    dtype = next(parts[0].parameters()).dtype
    for part in parts:
        if isinstance(part, Dense):
            layers.append(nn.Linear(part.inputs, part.outputs, dtype=dtype))
        else:
            layers += [part] if isinstance(part, nn.Module) else _PARTS[part]()
    return nn.Sequential(*layers)


def no_optimizer(options: Options) -> str | None:
    """PyTorch has all of them."""
    return None


def optimizer(model: nn.Module, options: Options) -> Optimizer:
    """`torch.optim.SGD`, `Adam` or `AdamW`."""
    common: dict[str, Any] = {"lr": options.rate, "weight_decay": options.decay}
    if isinstance(options, SGD):
        own: dict[str, Any] = {"momentum": options.momentum, "nesterov": options.is_nesterov}
        return torch.optim.SGD(model.parameters(), **common, **own)
    kind = torch.optim.AdamW if options.is_decoupled else torch.optim.Adam
    return kind(model.parameters(), eps=options.epsilon, **common)


def kernel_optimizer(
    model: nn.Module, options: Options, d_mul: Callable[[Spec], int] | None
) -> Optimizer:
    """`DOConvOptimizer`."""
    return do_torch.DOConvOptimizer(optimizer(model, options), model, d_mul=d_mul)


def trainer(
    model: nn.Module, loss: Loss, options: Options, by: Any = None
) -> Callable[[np.ndarray, np.ndarray], None]:
    """A step of an optimizer, whose gradients are the sums over micro-batches."""
    its = by or optimizer(model, options)
    done = itertools.count(1)

    def step(x: np.ndarray, target: np.ndarray) -> None:
        expected = torch.from_numpy(target)
        expected = expected if expected.is_floating_point() else expected.long()
        _LOSSES[loss](model.train()(torch.from_numpy(x)), expected).backward()
        if next(done) % options.micro_batches == 0:
            its.step()
            its.zero_grad()

    return step


def in_own_order(model: Any, shape: Shape) -> Shape:
    """PyTorch has the channels first, as they come."""
    return shape


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy()
