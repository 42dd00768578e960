"""SGD, Adam and AdamW on a CPU: W, D' and W' in one pass of the C loops.

A step by the optimizer itself reads and writes each array several times, and memory is what a step
waits for. The optimizer's own state is used, under its own names, so each step can go either way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from do_conv import native
from do_conv.torch.composition import loops
from do_conv.torch.optimizer.kernels import TrainedKernel

_REFUSED = ("maximize", "amsgrad", "capturable", "differentiable")
_Addresses = tuple[int | None, int | None]


def can_step(optimizer: Optimizer, kernel: TrainedKernel, *groups: Mapping[str, Any]) -> bool:
    """Whether the loops do what the optimizer would do, with the options of W and of D'."""
    weight, grad = kernel.weight, kernel.parameter.grad
    return (
        type(optimizer) in (SGD, Adam, AdamW)
        and all(_is_usual(group) for group in groups)
        and kernel.spec.has_plain_weight
        and loops.pay(weight, kernel.delta, kernel.spec)
        and native.can_step(_name(weight.dtype), kernel.spec.area)
        and grad is not None
        and all(
            type(array) in (Tensor, torch.nn.Parameter)
            and array.dtype == weight.dtype
            and array.device == weight.device
            and array.is_contiguous()
            and not array.is_neg()
            for array in (kernel.parameter, grad)
        )
    )


def step(
    optimizer: Optimizer,
    kernel: TrainedKernel,
    weight_group: Mapping[str, Any],
    delta_group: Mapping[str, Any],
) -> None:
    """Step W and D', and write W' into the network."""
    spec, state = kernel.spec, optimizer.state
    own = _sgd if type(optimizer) is SGD else _adam
    weight_rule, weight_state = own(state, kernel.weight, weight_group)
    delta_rule, delta_state = own(state, kernel.delta, delta_group)
    grad = kernel.parameter.grad
    assert grad is not None
    native.step(
        _name(kernel.weight.dtype),
        torch.get_num_threads(),
        (spec.groups, spec.group_rows, spec.group_channels, spec.area),
        (weight_rule, delta_rule),
        weight=kernel.weight.data_ptr(),
        delta=kernel.delta.data_ptr(),
        grad=grad.data_ptr(),
        composed=kernel.parameter.data_ptr(),
        weight_state=weight_state,
        delta_state=delta_state,
    )
    # PyTorch has seen none of these writes.
    torch.autograd.graph.increment_version([kernel.weight, kernel.delta, kernel.parameter])
    kernel.mark()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _is_usual(group: Mapping[str, Any]) -> bool:
    numbers = (group["lr"], group["weight_decay"], *group.get("betas", ()))
    return not any(group.get(name) for name in _REFUSED) and not any(map(torch.is_tensor, numbers))


def _sgd(state: Any, array: Tensor, group: Mapping[str, Any]) -> tuple[native.Rule, _Addresses]:
    rule = native.Rule(
        rate=group["lr"],
        decay=group["weight_decay"],
        momentum=group["momentum"],
        dampening=group["dampening"],
        is_nesterov=group["nesterov"],
    )
    if not group["momentum"]:
        return rule, (None, None)
    own = state[array]
    rule.is_first = own.get("momentum_buffer") is None
    if rule.is_first:
        own["momentum_buffer"] = torch.empty_like(array)
    return rule, (own["momentum_buffer"].data_ptr(), None)


def _adam(state: Any, array: Tensor, group: Mapping[str, Any]) -> tuple[native.Rule, _Addresses]:
    own, (beta1, beta2) = state[array], group["betas"]
    if not own:
        own["step"] = torch.zeros((), dtype=torch.float32)
        own["exp_avg"], own["exp_avg_sq"] = torch.zeros_like(array), torch.zeros_like(array)
    own["step"] += 1
    count = own["step"].item()
    rule = native.Rule(
        is_adam=1,
        is_decoupled=group["decoupled_weight_decay"],
        rate=group["lr"],
        decay=group["weight_decay"],
        beta1=beta1,
        beta2=beta2,
        epsilon=group["eps"],
        correction1=1 - beta1**count,
        correction2=1 - beta2**count,
    )
    return rule, (own["exp_avg"].data_ptr(), own["exp_avg_sq"].data_ptr())
