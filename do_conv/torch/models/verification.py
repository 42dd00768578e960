"""Whether two models do the same: the proof after converting, folding, or carrying weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from do_conv.core import rules


def verify(before: nn.Module, after: nn.Module, *inputs: Any, tolerance: float = 1e-5) -> float:
    """Run both models on the inputs and compare what they give.

    Each is run in the mode it is in, with the same random numbers, on a copy, so that running
    averages do not move.

    Args:
        before, after: two modules, such as a model and its conversion.
        inputs: what both are called with.
        tolerance: the largest difference allowed, relative to the largest value of `before`.

    Returns:
        the largest relative difference.

    Raises:
        DOConvError: if it is above the tolerance; the message says where it begins, how large it
            is, and whether a model was left in training mode.
    """
    found: list[list[Tensor]] = []
    layers: list[dict[str, Tensor]] = []
    for model in (before, after):
        outputs, inside = _run(copy.deepcopy(model), inputs)
        found.append(outputs)
        layers.append(inside)
    difference = max(map(_difference, *found), default=0.0) if _alike(*found) else float("inf")
    if not difference <= tolerance:
        common = (name for name in layers[0] if name in layers[1])
        apart = (n for n in common if not _difference(layers[0][n], layers[1][n]) <= tolerance)
        training = any(one.training for model in (before, after) for one in model.modules())
        raise rules.differing(difference, tolerance, next(apart, None), training)
    return difference


@torch.no_grad()
def _run(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[list[Tensor], dict[str, Tensor]]:
    """The tensors a model gives, and those of each of its layers, in the order they come."""
    inside: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(
            lambda _module, _given, out, name=name: inside.update(
                {name: next(_tensors(out), torch.empty(0)).clone()}
            )
        )
        for name, module in model.named_modules()
        if name
    ]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        outputs = list(_tensors(model(*inputs)))
    for hook in hooks:
        hook.remove()
    return outputs, inside


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in what a model gives: alone, in sequences, in mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _tensors(one)
    elif isinstance(value, (tuple, list)):
        for one in value:
            yield from _tensors(one)


def _alike(before: list[Tensor], after: list[Tensor]) -> bool:
    return [one.shape for one in before] == [one.shape for one in after]


def _difference(before: Tensor, after: Tensor) -> float:
    """The largest difference, relative to the largest value of `before`; NaN counts as infinite."""
    if before.shape != after.shape:
        return float("inf")
    if not before.numel():
        return 0.0
    wide = before.double(), after.double()
    difference, scale = (wide[0] - wide[1]).abs().max().item(), wide[0].abs().max().item()
    relative = difference / scale if scale else difference
    return float("inf") if math.isnan(relative) else relative
