"""The folded weights of a network, of values that a training tool has taken out of it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from do_conv.torch import folded_state_dict
from do_conv.torch.base import Composed
from do_conv.torch.parametrization import is_over_parameterized


def holds_layers(model: nn.Module) -> bool:
    """Whether a network holds DO-Conv layers."""
    return any(isinstance(m, Composed) or is_over_parameterized(m) for m in model.modules())


def folded_state(model: nn.Module, state: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
    """`folded_state_dict` of a network with other values, such as averages.

    Args:
        model: the network that holds the DO-Conv layers; it does not change.
        state: values under the names of `model.state_dict()`; those that it lacks are the model's,
            and None is the model's own state.

    Returns:
        the state dict of the plain network, with the entries of `state` that are no parameters or
        buffers of the model.
    """
    if state is None:
        return folded_state_dict(model)
    both = (f(remove_duplicate=False) for f in (model.named_parameters, model.named_buffers))
    own = {name for name, _ in itertools.chain(*both)}
    inside = {f"model.{name}": value for name, value in state.items() if name in own}
    folded: dict[str, Any] = torch.func.functional_call(_Folding(model), inside, ())
    kept = model.state_dict().keys()
    rest = {k: v for k, v in state.items() if k not in own and (k in folded or k not in kept)}
    return {**folded, **rest}


class _Folding(nn.Module):
    """A module whose call folds, since PyTorch replaces the tensors of a network for a call."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self) -> dict[str, Any]:
        return folded_state_dict(self.model)
