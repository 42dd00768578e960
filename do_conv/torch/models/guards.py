"""Networks that re-parameterise themselves, such as RepVGG, MobileOne and YOLO.

Their methods read a convolution's `weight` from outside, which is W. Each of these methods is
replaced by one that folds the DO-Conv layers first, so that it reads the kernels that are applied.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from do_conv.torch.base import Composed

_METHODS = ("reparameterize", "switch_to_deploy", "fuse", "fuse_model")


def guard(model: nn.Module, fold: Callable[[nn.Module], Any]) -> None:
    """Let these methods, of all modules that hold DO-Conv layers, call `fold` first."""
    for module in model.modules():
        holds = any(isinstance(inner, Composed) for inner in module.modules())
        if not holds or isinstance(module, Composed):
            continue
        for name in _METHODS:
            if callable(getattr(type(module), name, None)):
                module.__dict__[name] = partial(_folded_first, fold, module, name)


def unguard(model: nn.Module) -> None:
    """Take away the guards."""
    for module in model.modules():
        for name in _METHODS:
            method = module.__dict__.get(name)
            if isinstance(method, partial) and method.func is _folded_first:
                del module.__dict__[name]


def _folded_first(fold: Any, module: nn.Module, name: str, *args: Any, **kwargs: Any) -> Any:
    fold(module)  # fold removes this guard
    return getattr(module, name)(*args, **kwargs)
