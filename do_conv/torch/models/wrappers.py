"""Networks inside others: of PyTorch's wrappers, what they wrap."""

from __future__ import annotations

from typing import Any

from torch import nn

from do_conv.models import checks


def check_model(model: Any) -> None:
    """Refuse what is not a module, such as a state dict.

    Raises:
        DOConvError: if it is none.
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
