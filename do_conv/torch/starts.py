"""How W and D' start in PyTorch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from do_conv.core.rules import DepthwiseInit
from do_conv.core.spec import Spec
from do_conv.core.starts import delta_start, fill_from_kernel


@torch.no_grad()
def start_delta(delta: Tensor, depthwise_init: DepthwiseInit, spec: Spec) -> None:
    """Fill D' with its start: exact zeros, or what Table 7 draws."""
    start = delta_start(depthwise_init, spec)
    nn.init.zeros_(delta)
    if start.std:
        nn.init.normal_(delta, 0, start.std)
        delta.add_(torch.as_tensor(start.mean).to(delta))


@torch.no_grad()
def start_kernel(kernel: Tensor) -> None:
    """Fill a kernel as PyTorch's convolutions fill theirs."""
    nn.init.kaiming_uniform_(kernel, a=math.sqrt(5))


@torch.no_grad()
def weight_for(kernel: Tensor, spec: Spec) -> Tensor:
    """A W that composes to `kernel` while D is the identity."""
    if spec.has_plain_weight:
        return kernel
    weight = kernel.new_empty(spec.weight_shape)
    start_kernel(weight)
    fill_from_kernel(weight, kernel, spec)
    return weight
