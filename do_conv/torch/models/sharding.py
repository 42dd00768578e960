"""Networks whose parameters PyTorch's FSDP divides among processes."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from do_conv.core.errors import DOConvError, broken

FOLDED_STATE = "load folded_state_dict(model) into the plain network"


def check_whole(model: nn.Module, remedy: str) -> None:
    """Refuse a model if FSDP has divided it, or a part of it."""
    if is_fully_sharded(model) or _holds(model, "FullyShardedDataParallel"):
        raise _divided(model, remedy)


def check_not_flat(model: nn.Module) -> None:
    """Refuse a model if the older FSDP has divided it, or a part of it."""
    if _holds(model, "FullyShardedDataParallel"):
        raise broken(
            "the parameters of a model must be whole, or divided by fully_shard",
            f"a {type(model).__name__} of which each process holds a part",
            "divide the model with fully_shard, the newer FSDP",
        )


def check_summoned(model: nn.Module) -> None:
    """Refuse a model while the older FSDP holds a part of its parameters only."""
    if _holds(model, "FullyShardedDataParallel", but_in="SUMMON_FULL_PARAMS"):
        remedy = "call within FullyShardedDataParallel.summon_full_params(model)"
        raise _divided(model, remedy)


def _divided(model: nn.Module, remedy: str) -> DOConvError:
    return broken(
        "the parameters of a model must be whole",
        f"a {type(model).__name__} of which each process holds a part",
        remedy,
    )


def _holds(model: nn.Module, kind: str, but_in: str | None = None) -> bool:
    """Whether a module is of a class of FSDP's, and not in the state `but_in`."""
    divided = _of_kind(model, kind)
    return any(but_in is None or m.training_state.name != but_in for m in divided)


def _of_kind(model: nn.Module, kind: str) -> list[Any]:
    """The modules of a class of FSDP's."""
    # Importing FSDP is slow; a sharded model means that it is already imported.
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return [m for m in model.modules() if isinstance(m, vars(fsdp)[kind])] if fsdp else []


def reshard(model: nn.Module) -> None:
    """Let a model hold the parameters that `fully_shard` has divided.

    After a forward pass without a backward pass it may hold others, which are whole for a time.
    """
    for module in _of_kind(model, "FSDPModule"):
        module.reshard()


def is_fully_sharded(model: nn.Module) -> bool:
    """Whether `fully_shard` has divided a model, or a part of it."""
    return _holds(model, "FSDPModule")


def is_sharded(tensor: Any) -> bool:
    """Whether a process may hold a part of a tensor."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Any) -> Any:
    """The whole tensor, of which a process may hold a part; every process has to call."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


@contextlib.contextmanager
def whole_parameters(module: nn.Module) -> Iterator[None]:
    """Let a layer and the modules in it hold whole parameters within the context."""
    held = [(inner, inner._parameters) for inner in module.modules()]
    for inner, parameters in held:
        if any(map(is_sharded, parameters.values())):
            inner._parameters = {name: _whole(value) for name, value in parameters.items()}
    try:
        yield
    finally:
        for inner, parameters in held:
            inner._parameters = parameters


def _whole(parameter: Tensor | None) -> nn.Parameter | None:
    if parameter is None:
        return None
    return nn.Parameter(whole(parameter).detach(), parameter.requires_grad)


def without_wrappers(name: str) -> str:
    """A module's name as in state dicts, which leave out what the older FSDP adds to it."""
    return name.replace("_fsdp_wrapped_module.", "").removesuffix("_fsdp_wrapped_module")
