"""How a model is made of modules."""

from __future__ import annotations

from typing import Any

from torch import nn

from do_conv.models import checks
from do_conv.models.sharing import Holders


def check_model(model: Any) -> None:
    """Refuse anything but a module, such as a state dict.

    Raises:
        DOConvError: if it is no module.
    """
    checks.model_kind(isinstance(model, nn.Module), "torch.nn.Module", type(model).__name__)


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside `DataParallel`, `DistributedDataParallel` and a compiled model.

    Raises:
        DOConvError: if it is no module.
    """
    check_model(model)
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:
        # `_orig_mod` is where a compiled model keeps the one it was made from.
        inner = model.module if isinstance(model, parallel) else getattr(model, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def holders(model: nn.Module) -> Holders:
    """Each module of a model with the parameters it holds itself."""
    return [(module, list(module._parameters.values())) for module in model.modules()]
