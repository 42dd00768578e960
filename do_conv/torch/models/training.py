"""Kernels that are composed once for several forward passes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from do_conv.models import checks
from do_conv.torch.base import OverParameterized
from do_conv.torch.models.sharding import is_sharded


@contextlib.contextmanager
def composed(model: nn.Module) -> Iterator[None]:
    """Compose each kernel once for all forward passes within the context.

    For evaluation, and for gradient accumulation: gradients of W and D' arrive when the context
    ends, and are those of composing each time. An optimizer steps after the context.

    Args:
        model: a module that holds layers of ours. Layers made by `over_parameterize` and separable
            layers compose as they always do.

    Raises:
        DOConvError: if a layer's parameters change within the context, or FSDP has divided the
            model: it brings the parameters together for each forward pass, and gathers the
            gradients after it.
    """
    remedy = "leave composed out: each forward pass composes what FSDP brings together for it"
    checks.whole_parameters(is_sharded(model), type(model).__name__, remedy)
    kept = [_Kept(layer) for layer in model.modules() if _composes(layer)]
    try:
        for one in kept:
            one.layer._kept = one
        yield
        for one in kept:
            one.check()
    finally:
        for one in kept:
            del one.layer._kept
    used = [one for one in kept if one.kernel.grad is not None]
    if used:
        torch.autograd.backward([one.composed for one in used], [one.kernel.grad for one in used])


class _Kept:
    """The composed kernel of a layer, and a leaf in its place that gathers the gradients."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.composed: Tensor = layer.composed_weight()
        self.kernel = self.composed.detach().requires_grad_(self.composed.requires_grad)
        self._parameters = (layer.weight, layer.depthwise_delta)
        self._versions = self._now()

    def _now(self) -> tuple[int, ...]:
        return tuple(parameter._version for parameter in self._parameters)

    def check(self) -> Tensor:
        """The kernel, while its parameters are those it was composed of."""
        checks.unchanged(type(self.layer).__name__, self._now() == self._versions)
        return self.kernel


def _composes(layer: Any) -> bool:
    return isinstance(layer, OverParameterized) and layer.depthwise_delta is not None
