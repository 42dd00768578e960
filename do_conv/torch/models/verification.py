"""Whether two models do the same: the proof after converting, folding or loading weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from do_conv.models.comparison import Inside, agreement, flattened
from do_conv.torch.models.copies import copied
from do_conv.torch.models.sharding import FOLDED_STATE, check_whole
from do_conv.torch.models.structure import check_model


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
            is, and whether a model was left in training mode. Or if `fully_shard` has divided the
            parameters of a model.
    """
    for model in (before, after):
        check_model(model)
        check_whole(model, FOLDED_STATE)
    runs = [_run(copied(model), inputs) for model in (before, after)]
    (first, first_inside), (second, second_inside) = runs
    training = any(module.training for model in (before, after) for module in model.modules())
    remedy = "call eval() on both models first" if training else None
    return agreement(first, second, tolerance, lambda: (first_inside, second_inside), remedy)


@torch.no_grad()
def _run(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[list[np.ndarray], Inside]:
    """The arrays a model gives, and the first of each layer, in the order they come."""
    inside: dict[str, np.ndarray] = {}

    def keep(name: str, out: Any) -> None:
        if name not in inside:  # the first time that a layer runs
            inside[name] = next(_arrays(out), np.zeros(0)).copy()

    hooks = [
        module.register_forward_hook(lambda _module, _given, out, name=name: keep(name, out))
        for name, module in model.named_modules()
        if name
    ]
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(0)
        outputs = list(_arrays(model(*inputs)))
    for hook in hooks:
        hook.remove()
    return outputs, inside


def _arrays(value: Any) -> Iterator[np.ndarray]:
    """The tensors in what a model gives; NumPy has no name for every dtype."""
    for tensor in flattened(value, torch.is_tensor):
        dtype = torch.complex128 if tensor.is_complex() else torch.float64
        yield tensor.detach().cpu().to(dtype).numpy()
