"""Networks whose parameters PyTorch's FSDP divides among processes."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

FOLDED_STATE = "load folded_state_dict(model) into the plain network"
SUMMON = "call within FullyShardedDataParallel.summon_full_params(model)"


def is_sharded(model: nn.Module) -> bool:
    """Whether FSDP has divided a model, or a part of it."""
    return _holds(model, "FSDPModule") or _holds(model, "FullyShardedDataParallel")


def is_summoned(model: nn.Module) -> bool:
    """Whether the older FSDP, where a model has it, holds all parameters at the moment."""
    return not _holds(model, "FullyShardedDataParallel", "SUMMON_FULL_PARAMS")


def _holds(model: nn.Module, kind: str, but_in: str | None = None) -> bool:
    """Whether a module is of a class of FSDP's, and not in a state."""
    # Importing it takes half as long as importing PyTorch; who has used it, has imported it.
    fsdp = sys.modules.get("torch.distributed.fsdp")
    found = [] if fsdp is None else [m for m in model.modules() if isinstance(m, vars(fsdp)[kind])]
    return any(but_in is None or m.training_state.name != but_in for m in found)


def whole(tensor: Any) -> Any:
    """All of a tensor, of which a process may hold a part; every process has to ask for it."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


@contextlib.contextmanager
def whole_parameters(module: nn.Module) -> Iterator[None]:
    """Let a layer, and what it is made of, hold all of each parameter within the context."""
    held = [(one, one._parameters) for one in module.modules()]
    for one, parameters in held:
        if any(hasattr(parameter, "full_tensor") for parameter in parameters.values()):
            one._parameters = {name: _whole(one) for name, one in parameters.items()}
    try:
        yield
    finally:
        for one, parameters in held:
            one._parameters = parameters


def _whole(parameter: Tensor | None) -> nn.Parameter | None:
    if parameter is None:
        return None
    return nn.Parameter(whole(parameter).detach(), parameter.requires_grad)


def without_wrappers(name: str) -> str:
    """A module's name, without what the older FSDP adds to it and state dicts leave out."""
    return name.replace("_fsdp_wrapped_module.", "").removesuffix("_fsdp_wrapped_module")
