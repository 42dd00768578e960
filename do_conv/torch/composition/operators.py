"""The loops in C as operators, which a compiler leaves as they are.

The gradients of both operators are made of these two operators again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from do_conv.core.spec import Spec
from do_conv.torch.composition import loops


def composed(weight: Tensor, delta: Tensor, spec: Spec) -> Tensor:
    """As `formula.composed`."""
    return torch.ops.do_conv.compose(weight, delta, spec.has_plain_weight)


_LIBRARY = torch.library.Library("do_conv", "DEF")
_LIBRARY.define("compose(Tensor weight, Tensor delta, bool is_added) -> Tensor")
_LIBRARY.define(
    "differentiate(Tensor weight, Tensor delta, Tensor grad, bool is_added) -> (Tensor, Tensor)"
)
_LIBRARY.impl("compose", loops.compose, "CPU")
_LIBRARY.impl("differentiate", loops.differentiate, "CPU")
torch.library.register_fake("do_conv::compose", loops.like_composed, lib=_LIBRARY)
torch.library.register_fake("do_conv::differentiate", loops.like_gradients, lib=_LIBRARY)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *arrays, ctx.is_added = inputs
    ctx.save_for_backward(*arrays)


def _of_compose(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    weight, delta = ctx.saved_tensors
    return *torch.ops.do_conv.differentiate(weight, delta, grad, ctx.is_added), None


def _of_differentiate(
    ctx: Any, of_weight: Tensor, of_delta: Tensor
) -> tuple[Tensor, Tensor, Tensor, None]:
    weight, delta, grad = ctx.saved_tensors
    compose, differentiate = torch.ops.do_conv.compose, torch.ops.do_conv.differentiate
    return (
        differentiate(weight, of_delta, grad, False)[0],
        differentiate(of_weight, delta, grad, False)[1],
        compose(of_weight, delta, ctx.is_added) + compose(weight, of_delta, False),
        None,
    )


for _name, _gradient in (("compose", _of_compose), ("differentiate", _of_differentiate)):
    torch.library.register_autograd(
        f"do_conv::{_name}", _gradient, setup_context=_keep, lib=_LIBRARY
    )
