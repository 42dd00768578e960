"""The arrays that the authors' layer stores, read as W and D'."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from do_conv.adapter import DELTA
from do_conv.checkpoints import authors, checks, importing, states
from do_conv.checkpoints.authors_names import DIAGONALS, Theirs
from do_conv.checkpoints.formats import torch as format
from do_conv.core import rules
from do_conv.core.composition import compose_spec
from do_conv.core.errors import DOConvError
from do_conv.core.spec import Spec
from do_conv.torch.base import OverParameterized

# These have no D: D' becomes zero, and training restarts from the identity.
_RESTARTED = (authors.FOLDED_GROUPS, authors.FOLDED_SLOTS)


class ReadsAuthors(nn.Module):
    """A convolution that reads the authors' state dict, and its own; a plain one folds it.

    Among a class's bases it stands before the layer, whose loading it extends.
    """

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], strict: bool,
        missing_keys: list[str], unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:  # fmt: skip
        """Load the authors' `W`, `D` and `d_diag` (`D_diag`), or the names of this layer."""
        if f"{prefix}W" in state_dict:
            try:
                state_dict = _converted(state_dict, prefix, self)
            except DOConvError as error:
                error_msgs.append(str(error))
                return
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def _converted(state: dict[str, Any], prefix: str, layer: Any) -> dict[str, Any]:
    """A state dict in which a layer has our arrays in the place of the authors'.

    Raises:
        DOConvError: if an array is missing, or does not fit the layer.
    """
    name = prefix.removesuffix(".")
    spec = Spec(layer.in_channels, layer.out_channels, layer.kernel_size, layer.groups)
    keys = _keys(state, prefix, spec)
    if "delta" in keys:
        depthwise = tuple(state[keys["delta"]].shape)
        expected = (spec.in_channels, spec.area, *depthwise[2:3])
        rules.stored_shape(keys["delta"], expected, depthwise)
    on_host = {key: state[key].cpu() for key in keys.values()}
    arrays = {role: states.array(on_host, key, name, format) for role, key in keys.items()}
    theirs = Theirs(name, "torch", keys, {})
    imported, notes = importing.from_theirs(theirs, arrays, {name: spec.kernel_size})
    kernel, delta = imported.weight, imported.delta
    if not isinstance(layer, OverParameterized):
        if delta is not None:
            kernel, delta = compose_spec(kernel, delta, imported.spec), None
    elif any(note in _RESTARTED for note in notes):
        warnings.warn(f"layer '{name}' is {imported.note}", stacklevel=2)
    kept = {key: tensor for key, tensor in state.items() if key not in keys.values()}
    like = state[keys["weight"]].detach()
    kept[f"{prefix}weight"] = format.tensor(kernel, like).to(like.device)
    if delta is not None and spec.has_delta:
        kept[f"{prefix}{DELTA}"] = format.tensor(delta, like).to(like.device)
    if like.ndim == 4 and layer.bias is not None:
        # The edited copy's plain layer has no bias, whatever its argument says.
        kept.setdefault(f"{prefix}bias", torch.zeros_like(layer.bias))
    return kept


def _keys(state: dict[str, Any], prefix: str, spec: Spec) -> dict[str, str]:
    """The names of the authors' arrays of a layer, by their role.

    Raises:
        DOConvError: if one is missing.
    """
    diagonals = [name for name in DIAGONALS if prefix + name in state]
    found = [name for name in ("W", "D") if prefix + name in state] + diagonals
    for key in (prefix + name for name in found):
        if not isinstance(state[key], torch.Tensor):
            checks.layer_dtype(prefix.removesuffix("."), f"{key}, a {type(state[key]).__name__}")
    is_folded = state[f"{prefix}W"].ndim == 4
    has_depthwise = len(found) > 1 or (spec.has_delta and not is_folded)
    expected = ["W", "D", *diagonals[:1]] if has_depthwise else ["W"]
    checks.layer_keys(prefix.removesuffix("."), expected, found)
    roles = dict(zip(expected, ("weight", "delta", "diagonal"), strict=False))
    return {role: prefix + name for name, role in roles.items()}
