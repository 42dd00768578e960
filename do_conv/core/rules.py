"""Every rule about arguments, arrays and inputs, each with its one message.

A function here returns what it was given in its plain form, or raises a `DOConvError` that says the
rule, what came, and what to do. Backends ask these functions; they hold no message of their own.
"""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from do_conv.core.errors import broken

STARTS = ("identity", "he")
COMPOSITIONS = ("kernel", "feature")
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


def _as_int(value: Any) -> int | None:
    """`value` as a plain int, or None: booleans, floats and strings are not integers here."""
    if isinstance(value, (bool, np.bool_)):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def integer(name: str, value: Any, *, minimum: int = 1) -> int:
    """`value` as a plain int of at least `minimum`."""
    number = _as_int(value)
    if number is None or number < minimum:
        kind = "a positive integer" if minimum == 1 else f"an integer of at least {minimum}"
        raise broken(f"{name} must be {kind}", f"{name}={value!r}", f"give {minimum} or more")
    return number


def axes(name: str, value: Any, rank: int, *, minimum: int = 1) -> tuple[int, ...]:
    """One int per spatial axis, from an int for all of them or a sequence of `rank` ints."""
    if _as_int(value) is not None:
        return (integer(name, value, minimum=minimum),) * rank
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise broken(
            f"{name} must be an integer or {rank} of them, one per spatial axis",
            f"{name}={value!r}",
            "give whole numbers",
        )
    values = tuple(value)
    if len(values) != rank:
        raise broken(
            f"{name} of a {rank}-D layer has {rank} axes",
            f"{name}={value!r} with {len(values)}",
            f"give one integer or {rank}",
        )
    return tuple(integer(name, one, minimum=minimum) for one in values)


def kernel_axes(kernel_size: Any) -> tuple[int, ...]:
    """A kernel has 1 to 3 axes, each of a positive size."""
    sizes = tuple(kernel_size) if isinstance(kernel_size, Iterable) else ()
    if not 1 <= len(sizes) <= 3:
        raise broken(
            "kernel_size must have 1 to 3 axes",
            f"kernel_size={kernel_size!r}",
            "give a tuple of one to three integers",
        )
    return axes("kernel_size", sizes, len(sizes))


def groups_divide(in_channels: int | None, out_channels: int, groups: int) -> None:
    """Every group holds the same number of input and of output channels."""
    for name, channels in (("input", in_channels), ("output", out_channels)):
        if channels is not None and channels % groups:
            raise broken(
                f"groups must divide the {name} channels",
                f"groups={groups} for {channels} {name} channels",
                "choose a divisor of both channel counts",
            )


def depth_multiplier(d_mul: Any, kernel_size: Sequence[int]) -> int:
    """D_mul, by default |K|. Where |K| = 1 there is no D, and D_mul counts as 1 (section 3)."""
    area = math.prod(kernel_size)
    if d_mul is None:
        return area
    number = _as_int(d_mul)
    if number is None:
        raise broken(
            "d_mul must be an integer", f"d_mul={d_mul!r}", f"leave it out for the default {area}"
        )
    if area == 1:
        return 1
    if number < area:
        raise broken(
            f"d_mul must be at least the number of kernel positions, {area} for "
            f"kernel_size={tuple(kernel_size)}, or the layer cannot express every kernel",
            f"d_mul={number}",
            f"give {area} or more, or leave it out",
        )
    return number


def choice(name: str, value: Any, choices: Sequence[str], *, argument: str = "") -> str:
    """`value`, if it is one of `choices`; `argument` is what the person wrote, if not `name`."""
    if not isinstance(value, str) or value not in choices:
        raise broken(
            f"{name} must be one of {', '.join(map(repr, choices))}",
            f"{argument or name}={value!r}",
            "choose one of these",
        )
    return value


def depthwise_init(value: Any) -> str:
    """The name of a start of D (Table 7)."""
    return choice("depthwise_init", value, STARTS)


def composition(value: Any) -> str:
    """The name of a composition (Figure 3 of the paper)."""
    return choice("composition", value, COMPOSITIONS)


def padding(
    value: Any, rank: int, *, words: Sequence[str] = ("same", "valid")
) -> str | tuple[int, ...]:
    """A padding word, or the positions added on both sides of each spatial axis."""
    if not isinstance(value, str):
        return axes("padding", value, rank, minimum=0)
    if not words:
        raise broken(
            f"padding must be an integer or {rank} of them, one per spatial axis",
            f"padding={value!r}",
            "give whole numbers",
        )
    return choice("a padding that is no number", value, words, argument="padding")


def padding_pairs(
    value: Any, rank: int, *, words: Sequence[str]
) -> str | tuple[tuple[int, int], ...]:
    """A padding word, or (before, after) for each spatial axis, from an int, ints or pairs."""
    if isinstance(value, str) or _as_int(value) is not None or not isinstance(value, Sequence):
        plain = padding(value, rank, words=words)
        return plain if isinstance(plain, str) else tuple((one, one) for one in plain)
    if len(value) != rank:
        raise broken(
            f"padding of a {rank}-D layer has {rank} axes",
            f"padding={value!r} with {len(value)}",
            f"give one integer, {rank} integers or {rank} pairs (before, after)",
        )
    pairs = (axes("padding of an axis", one, 2, minimum=0) for one in value)
    return tuple((before, after) for before, after in pairs)


def same_needs_stride_one(padding_value: Any, stride: Sequence[int]) -> None:
    """PyTorch's rule: with a stride, `same` would depend on the size of the input."""
    if padding_value == "same" and any(step != 1 for step in stride):
        raise broken(
            "padding='same' needs stride 1 in PyTorch",
            f"stride={tuple(stride)}",
            "give the padding in integers",
        )


def layout(value: Any, supported: Sequence[str]) -> str:
    """The order of the input's axes."""
    return choice("layout", value, supported)


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
    if tuple(kernel[2:]) != tuple(window) or kernel[0] % groups:
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


def gradient_shape(expected: Sequence[int], found: Sequence[int]) -> None:
    """A gradient has the shape of what it is the gradient of."""
    if tuple(found) != tuple(expected):
        raise broken(
            f"the gradient must have shape {tuple(expected)}",
            f"shape {tuple(found)}",
            "give the gradient of the composed kernel",
        )


def adjoint_window(padding_value: Any, padding_mode: str) -> None:
    """A transposed convolution takes away positions: neither words nor modes say which."""
    if isinstance(padding_value, str) or padding_mode != "zeros":
        raise broken(
            "a transposed convolution needs padding in numbers, of zeros",
            f"padding={padding_value!r}, padding_mode={padding_mode!r}",
            "give integers or pairs (before, after)",
        )


def stored_shape(key: str, expected: Sequence[int], found: Sequence[int]) -> None:
    """A stored parameter has the shape of the layer's."""
    if tuple(found) != tuple(expected):
        raise broken(
            f"stored parameter '{key}' must have shape {tuple(expected)}",
            f"shape {tuple(found)}",
            "build the layer with the kernel_size, groups and d_mul it was saved with",
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
    if delta[0] != weight[1] * groups or delta[1] != math.prod(weight[2:]):
        raise broken(
            "delta's C_in must be groups times weight's second axis, "
            "and its D_mul the number of weight's kernel slots",
            f"weight {tuple(weight)}, delta {tuple(delta)} and groups={groups}",
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


def known_name(what: str, name: str, names: Iterable[str]) -> str:
    """`name`, if it is among `names`; otherwise the nearest ones are offered."""
    known = list(names)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3) or known[:3]
        raise broken(
            f"a {what} must be one of the {len(known)} there are",
            repr(name),
            f"choose for example {', '.join(near)}",
        )
    return name
