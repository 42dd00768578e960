"""D' in an optimizer: groups of parameters, and gradient clipping relative to D."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from do_conv.core.errors import broken
from do_conv.torch.base import OverParameterized
from do_conv.torch.composition import add_identity
from do_conv.torch.parametrization import Composition

Options = Mapping[str, Any]


def parameter_groups(
    model: nn.Module,
    *,
    delta: Options | Callable[[dict[str, Any]], Options],
    groups: Iterable[Options] | None = None,
    **others: Any,
) -> list[dict[str, Any]]:
    """Groups of parameters for an optimizer, in which D' stands apart and has its own options.

    Args:
        model: a module that holds DO-Conv layers.
        delta: the options for D', such as `{"lr": 0.01}`; or a function that gives them for the
            options of the group that D' is taken out of.
        groups: groups that the parameters are divided into already, by their weight decay or by
            their layer. Each D' becomes a member of a group behind its own, which has the options
            of that one unless `delta` gives others. None is one group of all parameters, and the
            group of D' then has the options of `delta` alone.
        others: the options for all other parameters, W among them; with `groups`, those that a
            group does not give itself.

    Returns:
        the groups, for `torch.optim`: of each, all others first.

    Raises:
        DOConvError: if the model has no D', or the groups lack one that is trained.
    """
    deltas = {id(parameter): parameter for parameter in _deltas(model)}
    if not deltas:
        raise broken(
            "a model whose parameters are grouped must have a layer with a depthwise kernel",
            f"a {type(model).__name__} without one",
            "convert it first, or give the optimizer model.parameters()",
        )
    inherit = groups is not None
    divided: list[dict[str, Any]] = []
    for group in [{"params": model.parameters()}] if groups is None else groups:
        if not isinstance(group, Mapping) or "params" not in group:
            raise broken(
                'groups of parameters must be dicts with "params", as torch.optim takes them',
                f"a {type(group).__name__}",
                "give a list of such dicts, or leave groups out",
            )
        options = {**others, **{k: v for k, v in group.items() if k != "params"}}
        apart = delta(dict(options)) if callable(delta) else delta
        inside: list[list[Any]] = [[], []]
        for member in _members(group["params"]):
            inside[id(_tensor(member)) in deltas].append(member)
        divided.append({**options, "params": inside[0]})
        divided.append({**(options if inherit else {}), **apart, "params": inside[1]})
    grouped = {id(_tensor(member)) for group in divided for member in group["params"]}
    lacking = [key for key, delta in deltas.items() if delta.requires_grad and key not in grouped]
    if lacking:
        raise broken(
            "groups of parameters must hold every depthwise kernel that is trained",
            f"groups that lack {len(lacking)} of {len(deltas)}",
            "make them from the parameters of the converted model",
        )
    return [group for group in divided if group["params"]]


@torch.no_grad()
def adaptive_clip_grad(
    model: nn.Module,
    clip_factor: float = 0.01,
    eps: float = 1e-3,
    *,
    parameters: Iterable[Tensor] | Tensor | None = None,
) -> None:
    """Clip each gradient relative to the norm of its parameter, and that of D' to the norm of D.

    Adaptive gradient clipping (Brock et al., arXiv 2102.06171, equation 3) compares the norms of
    each row, a slice of the first axis; of a bias, of the whole. D' starts at zero, where it would
    be clipped to almost nothing, so it is judged by D = I + D'. Call it after `backward`.

    Args:
        model: a module, with DO-Conv layers or without.
        clip_factor: the largest norm of a row's gradient, relative to the row's norm.
        eps: the least norm that a row counts with.
        parameters: those to clip, or one; None is all of the model. The paper leaves out the last
            layer.
    """
    deltas = {id(parameter) for parameter in _deltas(model)}
    if isinstance(parameters, Tensor):  # which would be taken for its rows
        parameters = [parameters]
    for parameter in model.parameters() if parameters is None else parameters:
        if parameter.grad is None:
            continue
        judged = add_identity(parameter) if id(parameter) in deltas else parameter
        largest = _row_norms(judged).clamp(min=eps) * clip_factor
        norms = _row_norms(parameter.grad)
        # Most rows are not clipped and keep their bits: a factor of 1 is exact.
        parameter.grad.mul_((largest / norms.clamp(min=1e-6)).clamp(max=1))


def _row_norms(tensor: Tensor) -> Tensor:
    if tensor.dim() <= 1:
        return torch.linalg.vector_norm(tensor)
    return torch.linalg.vector_norm(tensor, dim=tuple(range(1, tensor.dim())), keepdim=True)


def _deltas(model: nn.Module) -> list[nn.Parameter]:
    """Every D' of a model."""
    owners = [m for m in model.modules() if isinstance(m, (OverParameterized, Composition))]
    return [m.depthwise_delta for m in owners if m.depthwise_delta is not None]


def _members(params: Any) -> Iterable[Any]:
    """The parameters of a group, or pairs of names and parameters, as `torch.optim` takes them."""
    return [params] if isinstance(params, Tensor) else params


def _tensor(member: Any) -> Any:
    return member[1] if isinstance(member, tuple) else member
