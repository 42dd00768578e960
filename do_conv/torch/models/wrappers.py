"""Networks inside others: of PyTorch's wrappers, what they wrap."""

from __future__ import annotations

from torch import nn


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside `DataParallel`, `DistributedDataParallel` and a compiled model."""
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:
        # `_orig_mod` is where a compiled model keeps the one it was made from.
        inner = model.module if isinstance(model, parallel) else getattr(model, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return model
        model = inner
