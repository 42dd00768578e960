"""Copies of whole networks, also of those that `copy.deepcopy` refuses.

It refuses a tensor with a gradient function. Hooks leave such weights in a network (see
`computed`), and networks may keep their activations.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from do_conv.models.comparison import held


def copied(model: nn.Module, memo: dict[int, Any] | None = None) -> Any:
    """A deep copy of a model, with the values of tensors that have a gradient function.

    Args:
        model: the model.
        memo: takes what was copied, for copies of what belongs to the model, as in `copy.deepcopy`.
    """
    memo = {} if memo is None else memo
    seen: set[int] = set()
    tensors = [t for m in model.modules() for t in held(vars(m), torch.is_tensor, seen)]
    computed = [tensor for tensor in tensors if tensor.grad_fn is not None]
    memo.update({id(tensor): tensor.detach().clone() for tensor in computed})
    return copy.deepcopy(model, memo)
