"""The gradients of W and D' from that of W'."""

from __future__ import annotations

from torch import Tensor

from do_conv.core.spec import Spec
from do_conv.torch.composition import formula, loops, without_autocast


def gradients(weight: Tensor, delta: Tensor, grad: Tensor, spec: Spec) -> tuple[Tensor, Tensor]:
    """Those of W and D', by the chain rule from that of W'."""
    if loops.pay(weight, delta, spec) and type(grad) is Tensor:
        of_weight, of_delta = loops.differentiate(weight, delta, grad, spec.has_plain_weight)
    else:
        # Contiguous as W is: an optimizer steps tensors of the same strides together.
        with without_autocast(grad):
            # Of complex numbers PyTorch's gradients are conjugated.
            given = weight.conj().resolve_conj(), delta.conj().resolve_conj()
            of_weight, of_delta = formula.gradients(*given, grad.contiguous(), spec)
    if not spec.has_plain_weight:
        of_weight = of_weight.contiguous()
        _whole_blocks(of_weight, spec).add_(grad.flatten(2).unsqueeze(2))
    return of_weight, of_delta


def _whole_blocks(weight: Tensor, spec: Spec) -> Tensor:
    """The slots of W that the identity of D multiplies, `(rows, channels, blocks, |K|)`."""
    slots = spec.whole_blocks * spec.area
    return weight[..., :slots].unflatten(-1, (spec.whole_blocks, spec.area))
