"""Kernels that are composed once for several forward passes."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from do_conv.core.errors import broken
from do_conv.torch.base import OverParameterized
from do_conv.torch.models.sharding import check_whole


@contextlib.contextmanager
def composed(model: nn.Module) -> Iterator[None]:
    """Compose each kernel once for all forward passes within the context.

    For evaluation, and for gradient accumulation: gradients of W and D' arrive when the context
    ends, and are those of composing each time. An optimizer steps after the context.

    Args:
        model: a module that holds DO-Conv layers. Layers made by `over_parameterize` and separable
            layers compose as they always do.

    Raises:
        DOConvError: if a layer's parameters change within the context, or FSDP has divided the
            model: it brings the parameters together for each forward pass, and gathers the
            gradients after it.
    """
    remedy = "leave composed out: each forward pass composes what FSDP brings together for it"
    check_whole(model, remedy)
    # An enclosing context has composed some of the layers and collects their gradients.
    composing = [m for m in model.modules() if _composes(m) and m._kept is None]
    kept = [_Kept(layer) for layer in composing]
    try:
        for kernel in kept:
            kernel.layer._kept = kernel
        yield
        for kernel in kept:
            kernel.check()
    finally:
        for kernel in kept:
            del kernel.layer._kept
    used = [kernel for kernel in kept if kernel.leaf.grad is not None]
    if used:
        torch.autograd.backward([k.composed for k in used], [k.leaf.grad for k in used])


class _Kept:
    """The composed kernel of a layer, and a leaf in its place that gathers the gradients."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        with torch.enable_grad():  # a pass within may want gradients where this one does not
            self.composed: Tensor = layer.composed_weight()
        self.leaf = self.composed.detach().requires_grad_(self.composed.requires_grad)
        self._parameters = (layer.weight, layer.depthwise_delta)
        self._own, self._versions = self._held(), self._now()

    def _held(self) -> list[Any]:
        return [self.layer._parameters.get(name) for name in ("weight", "depthwise_delta")]

    def _now(self) -> tuple[int, ...]:
        return tuple(parameter._version for parameter in self._parameters)

    def check(self) -> Tensor:
        """The kernel, while its parameters are those it was composed of."""
        are_same = all(map(operator.is_, self._held(), self._own))
        if not are_same or self._now() != self._versions:
            raise broken(
                "parameters must not change while their composed kernels are kept",
                f"a {type(self.layer).__name__} whose parameters have changed",
                "leave the context before the optimizer's step",
            )
        return self.leaf

    def __deepcopy__(self, memo: Any) -> None:
        """A copy of the layer composes by itself: it is in no context."""

    def __reduce__(self) -> Any:
        return type(None), ()


def _composes(layer: Any) -> bool:
    return isinstance(layer, OverParameterized) and layer.depthwise_delta is not None
