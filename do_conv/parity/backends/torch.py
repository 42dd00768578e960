"""Parity in PyTorch."""

from __future__ import annotations

from typing import Any

import do_conv.torch as do_torch  # isort: skip  # says what is missing before torch is imported
import numpy as np
import torch
from torch import Tensor, nn

from do_conv.parity import training
from do_conv.parity.cases import Case
from do_conv.parity.layer import Arrays, Results
from do_conv.parity.training import Parameters, Run

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


def _layer(case: Case, dtype: torch.dtype) -> Any:
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
        dtype=dtype,
        d_mul=case.spec.d_mul,
        **more[kind],
    )


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def layer_results(case: Case, given: Arrays) -> Results:
    """Every quantity of a case in the precision of its arrays."""
    x, cotangent = torch.from_numpy(given.x).requires_grad_(), torch.from_numpy(given.cotangent)
    layer = _layer(case, x.dtype)
    depthwise = "depthwise_weight" if case.kind == "separable" else "depthwise_delta"
    state = {"weight": given.weight, depthwise: given.delta, "bias": given.bias}
    layer.load_state_dict({k: torch.from_numpy(v) for k, v in state.items() if v is not None})
    results = {}
    for layer.composition, prefix in (("kernel", ""), ("feature", "feature ")):
        if prefix and given.delta is None:
            continue
        output = layer(x)
        inputs = {"x": x, "W": layer.weight, "D'": getattr(layer, depthwise), "bias": layer.bias}
        inputs = {name: tensor for name, tensor in inputs.items() if tensor is not None}
        gradients = torch.autograd.grad(output, list(inputs.values()), cotangent)
        results[f"{prefix}output"] = output
        for name, gradient in zip(inputs, gradients, strict=True):
            results[f"{prefix}grad {name}"] = gradient
    results["composed kernel"] = layer.composed_weight()
    folded = layer.fold()
    results["folded output"] = folded(x)
    if case.kind != "separable":
        results["folded kernel"] = folded.weight
    return {name: _array(tensor) for name, tensor in results.items()}


def train(run: Run) -> Parameters:
    """The training run with `torch.optim.SGD`, whose weight decay is the run's."""
    dtype = torch.from_numpy(run.inputs[0]).dtype
    layers = {case.name: _layer(case, dtype) for case in training.LAYERS}
    network = nn.ModuleDict(layers)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in run.start.items()})
    optimizer = torch.optim.SGD(
        network.parameters(), training.RATE, training.MOMENTUM, weight_decay=training.DECAY
    )
    for x, target in zip(run.inputs, run.targets, strict=True):
        output = layers["second"](torch.relu(layers["first"](torch.from_numpy(x))))
        optimizer.zero_grad()
        nn.functional.mse_loss(output, torch.from_numpy(target)).backward()
        optimizer.step()
    return {name: _array(value) for name, value in network.state_dict().items()}
