"""The state of a kernel in a state dict: W, D', and what the optimizer inside has of both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from do_conv.core import rules
from do_conv.core.errors import broken
from do_conv.torch.models.sharding import is_sharded
from do_conv.torch.optimizer.kernels import TrainedKernel


def packed(kernel: TrainedKernel, states: Mapping[Tensor, Mapping[str, Any]]) -> dict[str, Any]:
    """W, D' and the state of both, such as `weight.momentum_buffer`."""
    packed: dict[str, Any] = {name: part.detach() for name, part in kernel.parts}
    for name, part in kernel.parts:
        packed.update({f"{name}.{key}": value for key, value in states.get(part, {}).items()})
    return packed


def unpacked(
    parameter: Tensor, trained: Mapping[Tensor, TrainedKernel], values: Mapping[str, Any]
) -> Iterator[tuple[Tensor, dict[str, Any]]]:
    """The state of a parameter, or of W and of D' of a kernel; none where nothing was saved."""
    if parameter not in trained:
        parts = {parameter: dict(values)}
    else:
        parts = {
            part: {
                key.removeprefix(f"{name}."): value
                for key, value in values.items()
                if key.startswith(f"{name}.")
            }
            for name, part in trained[parameter].parts
        }
    return ((part, its_values) for part, its_values in parts.items() if its_values)


def check_saved(kernel: TrainedKernel, values: Mapping[str, Any]) -> None:
    """Refuse a state without W and D' of a kernel, of other sizes, or divided in another way.

    Raises:
        DOConvError: if it is such a state.
    """
    if not all(name in values for name, _ in kernel.parts):
        raise broken(
            "the state of a DOConvOptimizer must hold W and D' of each kernel",
            f"a state without those of layer '{kernel.name}'",
            "load the state of a plain optimizer before it is wrapped",
        )
    for name, part in kernel.parts:
        if is_sharded(values[name]) != is_sharded(part):
            kinds = "whole arrays", "arrays that fully_shard divides"
            found, own = (kinds[is_sharded(array)] for array in (values[name], part))
            raise broken(
                "a state must be divided among processes as the network is",
                f"{found} for layer '{kernel.name}', which has {own}",
                "load it with set_optimizer_state_dict of torch.distributed.checkpoint.state_dict",
            )
        rules.stored_shape(f"{kernel.name}.{name}", tuple(part.shape), tuple(values[name].shape))
