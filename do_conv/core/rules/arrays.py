"""The rules on parameters, inputs and stored parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from do_conv.core.errors import broken
from do_conv.core.rules.arguments import integer


def known_channels(channels: Any) -> int:
    """A layer is built for an input whose channels are known."""
    if channels is None:
        raise broken(
            "the input's channels must be known when a layer is built",
            "an input with unknown channels",
            "give the channel axis of the input a size",
        )
    return integer("in_channels", channels)


def input_kind(is_array: bool, kind: str, received: str) -> None:
    """An input is an array of the framework's own."""
    if not is_array:
        raise broken(
            f"a layer takes an input of type {kind}",
            f"an input of type {received}",
            f"make a {kind} of it",
        )


def input_rank(shape: Sequence[Any], rank: int, *, unbatched: bool = False) -> None:
    """An input has a batch axis (optional if `unbatched`), a channel axis and `rank` others."""
    ranks = (rank + 1, rank + 2) if unbatched else (rank + 2,)
    if len(shape) not in ranks:
        raise broken(
            f"a {rank}-D layer takes an input of {' or '.join(map(str, ranks))} axes",
            f"an input of shape {tuple(shape)}",
            "reshape the input or use the layer of its rank",
        )


def input_shape(
    shape: Sequence[Any],
    rank: int,
    channels: int,
    *,
    channels_last: bool = False,
    unbatched: bool = False,
) -> None:
    """An input has the rank and the channels the layer was made for."""
    input_rank(shape, rank, unbatched=unbatched)
    axis = len(shape) - 1 if channels_last else len(shape) - rank - 1
    if shape[axis] not in (channels, None):  # None in a graph, where sizes come later
        raise broken(
            f"the layer was made for {channels} input channels, on axis {axis}",
            f"an input of shape {tuple(shape)}",
            "make the layer for the input's channels or reorder the input's axes",
        )


def input_dtype(found: Any, expected: Any) -> None:
    """An input has the dtype the layer computes in."""
    if found != expected:
        raise broken(
            f"an input must have the dtype the layer computes in, {expected}",
            f"an input of dtype {found}",
            "cast the input or the layer",
        )


def kernel_fits(kernel: Sequence[int], window: Sequence[int], groups: int) -> None:
    """A kernel has the spatial axes its window was made for, and output channels for each group."""
    if tuple(kernel[2:]) != tuple(window) or kernel[0] % integer("groups", groups):
        raise broken(
            f"a kernel must be (C_out, C_in/groups, {', '.join(map(str, window))}), "
            f"with C_out a multiple of groups={groups}",
            f"a kernel of shape {tuple(kernel)}",
            "make the window for the kernel's size",
        )


def array_shape(name: str, expected: Sequence[int], found: Sequence[int]) -> None:
    """A bias, or a gradient, has the shape of what it belongs to."""
    if tuple(found) != tuple(expected):
        raise broken(
            f"{name} must have shape {tuple(expected)}",
            f"shape {tuple(found)}",
            "check the order of the axes and the arguments of the layer",
        )


def stored_shape(key: str, expected: Sequence[int], found: Sequence[int]) -> None:
    """A stored parameter has the shape of the layer's."""
    if tuple(found) != tuple(expected):
        raise broken(
            f"stored parameter '{key}' must have shape {tuple(expected)}",
            f"shape {tuple(found)}",
            "build the layer with the channels, kernel_size, groups and d_mul it was saved with",
        )


def loaded_together(weight: str, delta: str, holder: str, has_delta: bool) -> None:
    """A stored W is no kernel without the D' that it was trained with."""
    if not has_delta:
        raise broken(
            "a stored W must be loaded together with the D' that it was trained with",
            f"'{weight}' alone: the {holder} has no '{delta}'",
            "load both into a DO-Conv layer, or fold the checkpoint first",
        )


def finite(name: str, is_finite: bool) -> None:
    """Folding writes the kernel that will be deployed: NaN and infinity are refused."""
    if not is_finite:
        raise broken(
            f"{name} must be finite to be folded",
            "NaN or infinite values",
            "find where training diverged, or fold with check_finite=False",
        )


def built(name: str, is_built: bool) -> None:
    """A layer has parameters to compose, fold or load once it has seen the shape of an input."""
    if not is_built:
        raise broken(
            "a layer is composed, folded or loaded after its parameters were made",
            f"layer '{name}' without parameters",
            "call it on an input first, or build it for an input shape",
        )
