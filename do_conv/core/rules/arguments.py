"""The rules on the arguments of a layer or a window."""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal, cast, get_args

import numpy as np

from do_conv.core.errors import broken
from do_conv.core.rules.names import known_name

DepthwiseInit = Literal["identity", "he"]
CompositionName = Literal["kernel", "feature"]
Door = Literal["layers", "optimizer"]
PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]
STARTS: tuple[DepthwiseInit, ...] = get_args(DepthwiseInit)
COMPOSITIONS: tuple[CompositionName, ...] = get_args(CompositionName)
DOORS: tuple[Door, ...] = get_args(Door)
PADDING_MODES: tuple[PaddingMode, ...] = get_args(PaddingMode)


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
        remedy = f"give a whole number, {minimum} or more"
        raise broken(f"{name} must be {kind}", f"{name}={value!r}", remedy)
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
            f"{name}={value!r} with {_values(len(values))}",
            f"give one integer or {rank}",
        )
    return tuple(integer(name, number, minimum=minimum) for number in values)


def _values(count: int) -> str:
    return "1 value" if count == 1 else f"{count} values"


def kernel_axes(kernel_size: Any) -> tuple[int, ...]:
    """A kernel has 1 to 3 axes, each of a positive size."""
    iterable = isinstance(kernel_size, Iterable) and not isinstance(kernel_size, str)
    sizes = tuple(kernel_size) if iterable else ()
    if not 1 <= len(sizes) <= 3:
        raise broken(
            "kernel_size must have 1 to 3 axes",
            f"kernel_size={kernel_size!r}",
            "give a tuple of one to three integers",
        )
    return axes("kernel_size", sizes, len(sizes))


def depth_multiplier(d_mul: Any, kernel_size: Sequence[int]) -> int:
    """D_mul, by default |K|. Where |K| = 1 there is no D, and D_mul counts as 1 (section 4)."""
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


def authors_multiplier(place: str, multiplier: Any, kernel_size: Sequence[int]) -> None:
    """A small D_mul of the authors' layers is more likely the strides, which have its place."""
    area = math.prod(kernel_size)
    if isinstance(multiplier, int) and multiplier < area and area > 1:
        raise broken(
            f"D_mul, the {place} argument of the authors' layer, must be at least the number of "
            f"kernel positions, {area} for kernel_size={tuple(kernel_size)}",
            f"D_mul={multiplier}",
            "give the stride by name if you mean it, or leave D_mul out, also to read a checkpoint "
            "that was trained with less",
        )


def own_names(given: Iterable[str]) -> None:
    """The depth multiplier is called d_mul, by keyword; the original authors' layers say D_mul.

    Raises:
        TypeError: for another spelling, as for any keyword that a constructor does not have.
    """
    for name in given:
        if name != "d_mul" and name.lower().replace("_", "") == "dmul":
            raise TypeError(
                f"the depth multiplier must be given as the keyword d_mul; received {name}; "
                f"write d_mul in place of {name}."
            )


def warn_of_stride(stride: Sequence[int], kernel_size: Sequence[int]) -> None:
    """Warn of a stride that is more likely meant for D_mul, which the authors' layers take fourth.

    Such a stride is a legal D_mul, and beyond the kernel on every axis, so that the layer would
    read a small part of its input. A patch embedding's stride is its kernel's size.
    """
    area = math.prod(kernel_size)
    skips = all(step > size for step, size in zip(stride, kernel_size, strict=True))
    if len(kernel_size) > 1 and skips and len(set(stride)) == 1 and stride[0] >= area > 1:
        rule = broken(
            "a stride should not be larger than the kernel",
            f"a stride of {stride[0]} for kernel_size={tuple(kernel_size)}",
            "if you mean D_mul, which the original authors' layers take in this place, give it as "
            f"d_mul={stride[0]}",
        )
        warnings.warn(str(rule), stacklevel=4)


def choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """`value`, if it is one of `choices`."""
    if len(choices) == 1 and value != choices[0]:  # other layers accept other names
        raise broken(f"{name} must be {choices[0]!r}", f"{name}={value!r}", "leave it out")
    return known_name(name, value, choices)


def depthwise_init(value: Any) -> DepthwiseInit:
    """The name of a start of D (Table 7)."""
    return cast(DepthwiseInit, choice("depthwise_init", value, STARTS))


def composition(value: Any) -> CompositionName:
    """The name of a composition (Figure 3 of the paper)."""
    return cast(CompositionName, choice("composition", value, COMPOSITIONS))


def door(value: Any) -> Door:
    """The name of the place of W and D' in training."""
    return cast(Door, choice("door", value, DOORS))


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
    return choice("padding", value, words)


def padding_pairs(
    value: Any, rank: int, *, words: Sequence[str]
) -> str | tuple[tuple[int, int], ...]:
    """A padding word, or (before, after) for each spatial axis, from an int, ints or pairs."""
    if isinstance(value, str) or _as_int(value) is not None or not isinstance(value, Sequence):
        plain = padding(value, rank, words=words)
        return plain if isinstance(plain, str) else tuple((both, both) for both in plain)
    if len(value) != rank:
        raise broken(
            f"padding of a {rank}-D layer has {rank} axes",
            f"padding={value!r} with {_values(len(value))}",
            "give one integer, or for each axis an integer or a pair (before, after)",
        )
    return tuple(_pair(axis, value) for axis in value)


def _pair(axis: Any, value: Any) -> tuple[int, int]:
    """(before, after) of one axis; `value` is the whole padding that was given."""
    pair = (axis, axis) if _as_int(axis) is not None else axis
    if isinstance(pair, str) or not isinstance(pair, Iterable) or len(tuple(pair)) != 2:
        raise broken(
            "the padding of an axis must be an integer or a pair (before, after)",
            f"padding={value!r}",
            "give two integers for each axis",
        )
    before, after = (integer("padding", number, minimum=0) for number in pair)
    return before, after


def output_padding(value: Any, stride: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    """The positions added at the end of a transposed layer's output, fewer than it skips."""
    extra = axes("output_padding", value, len(stride), minimum=0)
    for more, step, spread in zip(extra, stride, dilation, strict=True):
        if more >= max(step, spread):
            raise broken(
                "output_padding must be smaller than the stride or the dilation of its axis",
                f"output_padding={extra} with stride={tuple(stride)}, dilation={tuple(dilation)}",
                "give less, or pad the output afterwards",
            )
    return extra
