"""Weights that something computes from other parameters.

Pruning, and the old `weight_norm` and `spectral_norm`, compute a weight before each forward pass
and leave it as a plain attribute; a parametrization computes it each time it is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm, remove_spectral_norm
from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm


@torch.no_grad()
def compute_weights(model: nn.Module) -> None:
    """Compute the weights that hooks leave: after an optimizer's step they are the old ones."""
    for module in model.modules():
        for hook, name in _hooks(module):
            if isinstance(hook, SpectralNorm):
                # Only a forward pass in training should update the estimate.
                setattr(module, name, hook.compute_weight(module, do_power_iteration=False))
            else:
                hook(module, None)


def settle(layer: nn.Module, names: tuple[str, ...]) -> None:
    """Make computed tensors parameters again, with the values that they have."""
    for hook, name in list(_hooks(layer)):
        if name not in names:
            continue
        if isinstance(hook, SpectralNorm):
            remove_spectral_norm(layer, name)
        elif isinstance(hook, WeightNorm):
            remove_weight_norm(layer, name)
        else:
            hook.remove(layer)
            key = next(key for key, value in layer._forward_pre_hooks.items() if value is hook)
            del layer._forward_pre_hooks[key]
    for name in names:
        if parametrize.is_parametrized(layer, name):
            _own_class(layer)
            parametrize.remove_parametrizations(layer, name, leave_parametrized=True)


def _own_class(layer: nn.Module) -> None:
    """Give a parametrized layer a class of its own, since removing a property changes the class.

    PyTorch's copies of a parametrized layer are of one class with it.
    """
    kind = type(layer)
    layer.__class__ = type(kind.__name__, kind.__bases__, dict(vars(kind)))


def _hooks(module: nn.Module) -> Iterator[tuple[Any, str]]:
    """The hooks that compute a tensor, each with the tensor's name."""
    hook: Any
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, BasePruningMethod):
            yield hook, hook._tensor_name
        elif isinstance(hook, (SpectralNorm, WeightNorm)):
            yield hook, hook.name
