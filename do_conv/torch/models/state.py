"""The weights of the plain network, without making it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from do_conv.core import rules
from do_conv.torch.base import Composed
from do_conv.torch.models.computed import compute_weights
from do_conv.torch.models.sharding import (
    check_summoned,
    whole,
    whole_parameters,
    without_wrappers,
)
from do_conv.torch.models.structure import check_model
from do_conv.torch.parametrization import is_over_parameterized


def folded_state_dict(model: nn.Module, *, check_finite: bool = True) -> dict[str, Tensor]:
    """The state dict of the plain network that does what `model` does.

    Args:
        model: a network that holds DO-Conv layers, or one such layer; wrapped or not.
        check_finite: False folds parameters that hold NaN or infinity, too.

    Returns:
        a new dict. It has the keys of `model.state_dict()`, except that each DO-Conv layer has the
        keys and tensors of the plain layer in its place. Tensors that `fully_shard` has divided
        among processes are whole in it, and all of the processes have to call.

    Raises:
        DOConvError: if a composed kernel is not finite, a layer has no parameters yet, or the older
            `FullyShardedDataParallel` holds a part of them.
    """
    check_model(model)
    check_summoned(model)
    compute_weights(model)
    state: dict[str, Tensor] = dict(model.state_dict())
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, Composed) or is_over_parameterized(module):
            with whole_parameters(module):
                plain = _plain_state(module, check_finite)
            state = _replaced(state, without_wrappers(name), plain)
    return {name: whole(tensor) for name, tensor in state.items()}


def _plain_state(module: Any, check_finite: bool) -> dict[str, Tensor]:
    """The state of the plain layer that takes the place of a DO-Conv layer."""
    if isinstance(module, Composed):
        return dict(module.fold(check_finite=check_finite).state_dict())
    weight = module.weight.detach().clone()
    if check_finite:
        rules.finite("weight", bool(weight.isfinite().all()))
    state = {k: v for k, v in module.state_dict().items() if not k.startswith("parametrizations.")}
    return {"weight": weight, **state}


def _replaced(state: dict[str, Tensor], name: str, plain: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state`, with `plain` in the place of the tensors of the layer `name`."""
    prefix = f"{name}." if name else ""
    keys = [key for key in state if key.startswith(prefix)]
    result: dict[str, Tensor] = {}
    for key, value in state.items():
        if key not in keys:
            result[key] = value
        elif key == keys[0]:
            result.update({prefix + own: tensor for own, tensor in plain.items()})
    return result
