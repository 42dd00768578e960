"""The gradients of W and D' from that of W'."""

from __future__ import annotations

import torch
from torch import Tensor

from do_conv.core.spec import Spec
from do_conv.torch.composition import compose_spec, loops


def gradients(weight: Tensor, delta: Tensor, grad: Tensor, spec: Spec) -> tuple[Tensor, Tensor]:
    """Those of W and D', by the chain rule from that of W'."""
    if loops.pay(weight, delta, spec) and type(grad) is Tensor:
        of_weight, of_delta = loops.differentiate(weight, delta, grad, spec.has_plain_weight)
        if not spec.has_plain_weight:
            _whole_blocks(of_weight, spec).add_(grad.flatten(2).unsqueeze(2))
        return of_weight, of_delta
    weight, delta = weight.detach().requires_grad_(), delta.detach().requires_grad_()
    # Autocast would round the products to its own dtype.
    with torch.enable_grad(), torch.autocast(grad.device.type, enabled=False):
        composed = compose_spec(weight, delta, spec)
        of_weight, of_delta = torch.autograd.grad(composed, (weight, delta), grad)
    return of_weight, of_delta


def _whole_blocks(weight: Tensor, spec: Spec) -> Tensor:
    """The slots of W that the identity of D multiplies, `(rows, channels, blocks, |K|)`."""
    slots = spec.whole_blocks * spec.area
    return weight[..., :slots].unflatten(-1, (spec.whole_blocks, spec.area))
