"""SGD, Adam and AdamW on a CPU: W, D' and W' by the C loops.

A step by the optimizer itself reads and writes each array several times, and memory is what a step
waits for. The optimizer's own state is used, under its own names, so each step can go either way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from do_conv import native
from do_conv.torch.composition import loops
from do_conv.torch.optimizer.kernels import TrainedKernel

_REFUSED = ("maximize", "amsgrad", "capturable", "differentiable")
_Addresses = tuple[int | None, int | None]
# Kernels that share the options of W and of D'.
Group = tuple[Iterable[TrainedKernel], Mapping[str, Any], Mapping[str, Any]]


def can(optimizer: Optimizer) -> bool:
    """Whether the loops can make the steps of an optimizer: hooks need the gradients of a step."""
    hooks = (
        optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks,
        _global_optimizer_pre_hooks, _global_optimizer_post_hooks,
    )  # fmt: skip
    return type(optimizer) in (SGD, Adam, AdamW) and not any(hooks)


@torch.no_grad()
def step(optimizer: Optimizer, groups: Iterable[Group]) -> list[TrainedKernel]:
    """Step W and D' as the optimizer would, and write each W', where the loops can.

    Args:
        optimizer: whose state is used.
        groups: kernels with a gradient.

    Returns:
        the kernels that were stepped.
    """
    stepped: list[TrainedKernel] = []
    steps: dict[str, list[native.Step]] = {}
    if not can(optimizer):
        return stepped
    rule_of = _Sgd if type(optimizer) is SGD else _Adam
    for kernels, *options in groups:
        if not all(map(_is_usual, options)):
            continue
        rules = [rule_of(group) for group in options]
        for kernel in kernels:
            if _are_readable(kernel) and _is_state_readable(optimizer, kernel, rule_of.names):
                own = steps.setdefault(_name(kernel.weight.dtype), [])
                own.append(_step(optimizer.state, kernel, *rules))
                stepped.append(kernel)
    for dtype, own in steps.items():
        native.step(dtype, torch.get_num_threads(), own)
    # The C loops write behind PyTorch's back: count it as a write.
    written = [a for k in stepped for a in (k.weight, k.delta, k.parameter)]
    torch.autograd.graph.increment_version(written)
    for kernel in stepped:
        kernel.mark()
    return stepped


def _are_readable(kernel: TrainedKernel) -> bool:
    """Whether the loops can read the arrays of a kernel, and are fast for its sizes."""
    weight, spec, grad = kernel.weight, kernel.spec, kernel.parameter.grad
    memory_format = loops.memory_format(spec.has_plain_weight, kernel.parameter)
    return (
        spec.has_plain_weight
        and kernel.loops_pay
        and native.can_step(_name(weight.dtype), spec.area)
        and grad is not None
        and all(
            type(array) in (Tensor, torch.nn.Parameter)
            and array.dtype == weight.dtype
            and array.device == weight.device
            and array.shape == weight.shape  # the loops are given addresses alone
            and array.is_contiguous(memory_format=memory_format)
            and not array.is_neg()
            for array in (kernel.parameter, grad)
        )
    )


def _is_state_readable(optimizer: Optimizer, kernel: TrainedKernel, names: Sequence[str]) -> bool:
    """Whether the arrays of a state, which may have been loaded, are those of W and D'."""
    for _, part in kernel.parts:
        state = optimizer.state.get(part) or {}
        arrays = [state[name] for name in names if state.get(name) is not None]
        if any(one.shape != part.shape or one.device != part.device for one in arrays):
            return False
        if state and type(optimizer) is not SGD and not {*names, "step"} <= state.keys():
            return False
    return True


def _step(state: Any, kernel: TrainedKernel, of_weight: _Rule, of_delta: _Rule) -> native.Step:
    spec = kernel.spec
    weight_rule, weight_state = of_weight.of(state, kernel.weight)
    delta_rule, delta_state = of_delta.of(state, kernel.delta)
    grad = kernel.parameter.grad
    assert grad is not None
    return native.Step(
        weight=kernel.weight.data_ptr(),
        delta=kernel.delta.data_ptr(),
        grad=grad.data_ptr(),
        composed=kernel.parameter.data_ptr(),
        weight_state=weight_state,
        delta_state=delta_state,
        groups=spec.groups,
        rows=spec.group_rows,
        channels=spec.group_channels,
        area=spec.area,
        is_last=not kernel.parameter.is_contiguous(),
        weight_rule=weight_rule,
        delta_rule=delta_rule,
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _is_usual(group: Mapping[str, Any]) -> bool:
    numbers = (group["lr"], group["weight_decay"], *group.get("betas", ()))
    return not any(group.get(name) for name in _REFUSED) and not any(map(torch.is_tensor, numbers))


class _Sgd:
    """How SGD updates the arrays of a group."""

    names = ("momentum_buffer",)

    def __init__(self, group: Mapping[str, Any]) -> None:
        self._rule = native.Rule(
            rate=group["lr"],
            scale=1,
            decay=group["weight_decay"],
            momentum=group["momentum"],
            added=1 - group["dampening"],
            is_nesterov=group["nesterov"],
        )

    def of(self, state: Any, array: Tensor) -> tuple[native.Rule, _Addresses]:
        """The rule of an array, until that of the next one, and the addresses of its state."""
        if not self._rule.momentum:
            return self._rule, (None, None)
        own = state[array]
        is_first = own.get("momentum_buffer") is None
        if is_first:
            own["momentum_buffer"] = torch.empty_like(array)
        self._rule.is_first = is_first
        return self._rule, (_address(own, "momentum_buffer", array), None)


class _Adam:
    """How Adam and AdamW update the arrays of a group."""

    names = ("exp_avg", "exp_avg_sq")

    def __init__(self, group: Mapping[str, Any]) -> None:
        self._betas = group["betas"]
        self._rule = native.Rule(
            is_adam=1,
            is_decoupled=group["decoupled_weight_decay"],
            rate=group["lr"],
            scale=1,
            decay=group["weight_decay"],
            beta1=self._betas[0],
            beta2=self._betas[1],
            epsilon=group["eps"],
        )

    def of(self, state: Any, array: Tensor) -> tuple[native.Rule, _Addresses]:
        """The rule of an array, until that of the next one, and the addresses of its state."""
        own, (beta1, beta2) = state[array], self._betas
        if not own:
            own["step"] = torch.zeros((), dtype=torch.float32)
            own["exp_avg"], own["exp_avg_sq"] = torch.zeros_like(array), torch.zeros_like(array)
        own["step"] += 1
        count = own["step"].item()
        self._rule.correction1, self._rule.correction2 = 1 - beta1**count, 1 - beta2**count
        return self._rule, (_address(own, "exp_avg", array), _address(own, "exp_avg_sq", array))


_Rule = _Sgd | _Adam


def _address(state: Any, name: str, array: Tensor) -> int:
    """Where an array of a state is, which may have come in another layout than that of W."""
    own = state[name]
    if own.dtype != array.dtype or not own.is_contiguous():
        own = state[name] = own.to(array.dtype).contiguous()
    return int(own.data_ptr())
