"""Which layers of a model to convert: the values of `where`.

`where` is a function of a layer's name and the layer, or a regular expression that is searched for
in the name. The functions here choose by the layer's name and sizes only. They work in
every framework; combine them with `&` and `|`, and invert them with `~`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from do_conv.core import rules
from do_conv.core.errors import broken
from do_conv.core.spec import Spec

Selects = Callable[[str, Spec, int], bool]


@dataclass(frozen=True)
class Choice:
    """A choice by name, sizes and place among the model's convolutions.

    It can be pickled, to go to other processes.

    Attributes:
        selects: a function of the name, the spec and the place, counted from 0.
    """

    selects: Selects

    def __and__(self, other: Named) -> Choice:
        return Choice(partial(_both, self.selects, _choice(other).selects))

    def __or__(self, other: Named) -> Choice:
        return Choice(partial(_either, self.selects, _choice(other).selects))

    __rand__, __ror__ = __and__, __or__

    def __invert__(self) -> Choice:
        return Choice(partial(_not, self.selects))


def _both(one: Selects, other: Selects, name: str, spec: Spec, place: int) -> bool:
    return one(name, spec, place) and other(name, spec, place)


def _either(one: Selects, other: Selects, name: str, spec: Spec, place: int) -> bool:
    return one(name, spec, place) or other(name, spec, place)


def _not(one: Selects, name: str, spec: Spec, place: int) -> bool:
    return not one(name, spec, place)


# What combines with a choice: another one, or a regular expression for the name.
Named = Choice | str | re.Pattern[str]
# None chooses every layer.
Where = Callable[[str, Any], bool] | Named | None


def about(where: Where, layers: Mapping[str, Any]) -> Where:
    """`where` for a copy of a model: a function is asked about the layers that it knows.

    Args:
        where: which layers of the model to convert.
        layers: those of the model, by name.
    """
    if not callable(where):
        return where
    # A convolution inside a graph is no layer of the model.
    return lambda name, layer: where(name, layers.get(name, layer))


def _choice(one: Named) -> Choice:
    """A choice, or one by a name.

    Raises:
        DOConvError: if it is of another type, or no regular expression.
    """
    if not isinstance(one, (Choice, str, re.Pattern)):
        raise broken(
            "a choice of do_conv.choices must be combined with another one, or with a regular "
            "expression for the name",
            f"a {type(one).__name__}",
            "write a function of the name and the layer that asks for both",
        )
    return one if isinstance(one, Choice) else named(one)


def first(count: int) -> Choice:
    """The first `count` convolutions of the model, in its own order."""
    limit = rules.integer("count", count)
    return Choice(partial(_is_before, limit))


def _is_before(limit: int, name: str, spec: Spec, place: int) -> bool:
    return place < limit


def kernel_at_least(*size: int) -> Choice:
    """Convolutions whose kernel is at least this large on every axis; one number is for all."""
    least = tuple(rules.integer("size", axis) for axis in size)
    return Choice(partial(_is_at_least, least))


def _is_at_least(least: tuple[int, ...], name: str, spec: Spec, place: int) -> bool:
    wanted = least * spec.rank if len(least) == 1 else least
    return len(wanted) == spec.rank and all(
        k >= limit for k, limit in zip(spec.kernel_size, wanted, strict=True)
    )


def depthwise() -> Choice:
    """Depthwise convolutions: one group for each input channel."""
    return Choice(_is_depthwise)


def _is_depthwise(name: str, spec: Spec, place: int) -> bool:
    return 1 < spec.groups == spec.in_channels


def named(pattern: str | re.Pattern[str]) -> Choice:
    """Convolutions whose name the regular expression matches, by `re.search`.

    Raises:
        DOConvError: if the pattern is not a regular expression.
    """
    return Choice(partial(_is_named, _compiled(pattern)))


def _is_named(expression: re.Pattern[str], name: str, spec: Spec, place: int) -> bool:
    return expression.search(name) is not None


def _compiled(pattern: Any) -> re.Pattern[str]:
    """Compile a regular expression for text.

    Raises:
        DOConvError: if the pattern is not one.
    """
    try:
        re.search(pattern, "")  # a pattern of bytes compiles, but never matches text
        return re.compile(pattern)
    except (re.error, TypeError) as error:
        raise broken(
            "a pattern of layers' names must be a regular expression",
            f"{pattern!r}, which fails with: {error}",
            "escape special characters, as re.escape does",
        ) from None


def stages(wanted: Collection[int], pattern: str = r"(?:layer|stage)s?[._]?(\d+)") -> Choice:
    """Convolutions of these stages (Table 6 of the paper).

    Args:
        wanted: the stages' numbers. Stage 0 is what stands before and after the numbered ones.
        pattern: a regular expression whose group is a stage's number in a layer's name; the
            default finds `layer1` and `stage1`.

    Raises:
        DOConvError: if the pattern is not a regular expression, or has no group; when layers are
            chosen, if the group is no number.
    """
    expression = _compiled(pattern)
    if not expression.groups:
        raise broken(
            "a pattern of stages must have a group for the stage's number",
            repr(pattern),
            r"write for example layer(\d+)",
        )
    numbers = frozenset(rules.integer("a stage", number, minimum=0) for number in wanted)
    return Choice(partial(_is_of_stages, expression, numbers))


def _is_of_stages(
    expression: re.Pattern[str], numbers: Collection[int], name: str, spec: Spec, place: int
) -> bool:
    match = expression.search(name)
    number = (match and match[1]) or "0"  # the group may be optional
    if not number.isdecimal():
        raise broken(
            "the group of a pattern of stages must be a number in each name it is found in",
            f"'{number}' in '{name}', by {expression.pattern!r}",
            r"write for example layer(\d+)",
        )
    return int(number) in numbers


def chooser(where: Where) -> Callable[[str, Any, Spec, int], bool]:
    """A function of a name, the layer, its spec and its place, which is true if it is chosen.

    Raises:
        DOConvError: if `where` is of another type.
    """
    if where is None:
        return lambda name, layer, spec, place: True
    if isinstance(where, (str, re.Pattern)):
        where = named(where)
    if isinstance(where, Choice):
        selects = where.selects
        return lambda name, layer, spec, place: selects(name, spec, place)
    if not callable(where):
        raise broken(
            "where must be a function of a layer's name and the layer, a regular expression for "
            "the name, or a choice of do_conv.choices",
            f"a {type(where).__name__}",
            "give for example where='layer1'",
        )
    choose = where
    return lambda name, layer, spec, place: bool(choose(name, layer))
