"""The rules for parameters, inputs, and what was stored."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
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


def feature_channels(channels: Any) -> int:
    """A graph names the groups of its depthwise convolution when it is made."""
    if channels is None:
        raise broken(
            "feature composition must know the input's channels when its graph is made",
            "a hybridized network around a layer with in_channels=0",
            "give in_channels, or run the network once before hybridize()",
        )
    return integer("in_channels", channels)


def input_kind(is_array: bool, kind: str, found: str) -> None:
    """An input is an array of the framework's own."""
    if not is_array:
        raise broken(
            f"a layer takes an input of type {kind}",
            f"an input of type {found}",
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
    if shape[axis] not in (channels, None):  # None: a graph whose sizes come later
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


def kernel_within(extent: Sequence[int], padded: Sequence[int]) -> None:
    """A kernel does not span more than the padded input."""
    if any(span > size for span, size in zip(extent, padded, strict=True)):
        raise broken(
            f"the padded input must be at least as large as the dilated kernel, {tuple(extent)}",
            f"a padded input of spatial size {tuple(padded)}",
            "give a larger input, more padding, or a smaller kernel or dilation",
        )


def array_shape(name: str, expected: Sequence[int], found: Sequence[int]) -> None:
    """A bias, or a gradient, has the shape of what it belongs to."""
    if tuple(found) != tuple(expected):
        raise broken(
            f"{name} must have shape {tuple(expected)}",
            f"shape {tuple(found)}",
            "check the order of the axes and the arguments of the layer",
        )


def adjoint_window(padding_value: Any, padding_mode: str) -> None:
    """A transposed convolution takes positions away: of a ring or a mirror there are none."""
    if padding_value == "causal" or padding_mode != "zeros":
        raise broken(
            "a transposed convolution needs padding of zeros, and not causal",
            f"padding={padding_value!r}, padding_mode={padding_mode!r}",
            "give numbers, 'valid' or 'same'",
        )


def stored_shape(key: str, expected: Sequence[int], found: Sequence[int]) -> None:
    """A stored parameter has the shape of the layer's."""
    if tuple(found) != tuple(expected):
        raise broken(
            f"stored parameter '{key}' must have shape {tuple(expected)}",
            f"shape {tuple(found)}",
            "build the layer with the channels, kernel_size, groups and d_mul it was saved with",
        )


def stored_layer(layer: str, kind: str, is_stored: bool) -> None:
    """Keras finds a layer in a weights file by its class, so a plain file has none of ours."""
    if not is_stored:
        raise broken(
            f"a weights file must hold layer '{layer}' as a {kind}, since Keras stores layers by "
            "class",
            "a file without it",
            "if the file is the plain model's, load it into the plain model and then convert that "
            "model with do_conv.tf.convert",
        )


def stored_keys(layer: str, expected: Collection[str], found: Collection[str]) -> None:
    """A file holds the parameters of the layer, no more and no fewer."""
    if set(found) != set(expected):
        raise broken(
            f"the stored parameters of layer '{layer}' must be {sorted(expected)}",
            f"{sorted(found)}",
            "load a file saved from the same kind of layer, with the same bias and kernel_size",
        )


def kernel_arrays(weight: Sequence[int], delta: Sequence[int], groups: int) -> None:
    """The shapes of W and D' belong to one layer of `groups` groups."""
    if len(delta) < 3 or len(weight) not in (3, len(delta)):
        raise broken(
            "delta must have shape (C_in, D_mul, *K) and weight (C_out, C_in/groups, D_mul) "
            "or, if D_mul = |K|, (C_out, C_in/groups, *K)",
            f"weight {tuple(weight)} and delta {tuple(delta)}",
            "reshape them",
        )
    plain = len(weight) > 3 and tuple(weight[2:]) != tuple(delta[2:])
    slots = weight[2] if len(weight) == 3 else math.prod(weight[2:])
    pointwise = math.prod(delta[2:]) == 1 and delta[1] != 1
    if plain or pointwise or delta[0] != weight[1] * groups or delta[1] != slots:
        raise broken(
            "delta's C_in must be groups times weight's second axis, its D_mul the number of "
            "weight's kernel slots, and its K weight's where weight has one",
            f"weight {tuple(weight)}, delta {tuple(delta)} and groups={groups}",
            "check groups and the order of the axes",
        )


def separable_arrays(weight: Sequence[int], depthwise: Sequence[int], groups: int) -> None:
    """The shapes of W and D belong to one depthwise separable layer of `groups` groups."""
    axes = len(weight) == 3 and len(depthwise) >= 3
    if not axes or (weight[1] * groups, weight[2]) != tuple(depthwise[:2]):
        raise broken(
            "a separable pair must have a depthwise kernel of shape (C_in, D_mul, *K) "
            "and a weight of shape (C_out, C_in/groups, D_mul)",
            f"weight {tuple(weight)}, depthwise {tuple(depthwise)} and groups={groups}",
            "check groups and the order of the axes",
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
