"""The sizes of one layer, and the shapes of its arrays (section 3 of the paper)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from do_conv.core import rules
from do_conv.core.errors import broken
from do_conv.core.rules import CompositionName, DepthwiseInit

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Spec:
    """The sizes of one layer: C_in, C_out, K (1 to 3 axes; M x N in the paper), G and D_mul.

    Args:
        in_channels: C_in; None while a framework has yet to see an input.
        out_channels: C_out; None for a kind of layer that takes it from the input.
        kernel_size: K, an integer per spatial axis.
        groups: G; 1 is DO-Conv, C_in is DO-DConv, anything between is DO-GConv.
        d_mul: D_mul, at least |K|; None is |K|. Where |K| = 1 it counts as 1.
        transposed: whether the layer is a transposed convolution, whose D belongs to its outputs.

    Raises:
        DOConvError: if a size is not a positive integer, groups does not divide the channels,
            or d_mul is below |K|.

    Examples:
        >>> from do_conv import Spec
        >>> spec = Spec(in_channels=4, out_channels=6, kernel_size=(3, 3), groups=2)
        >>> spec.d_mul, spec.weight_shape, spec.delta_shape
        (9, (6, 2, 3, 3), (4, 9, 3, 3))
    """

    in_channels: Any  # int or None
    out_channels: Any  # int or None
    kernel_size: Shape
    groups: int = 1
    d_mul: Any = None  # an int after __post_init__
    transposed: bool = False

    def __post_init__(self) -> None:
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) is not None:
                self._set(name, rules.integer(name, getattr(self, name)))
        self._set("kernel_size", rules.kernel_axes(self.kernel_size))
        self._set("groups", rules.integer("groups", self.groups))
        for name, channels in (("input", self.in_channels), ("output", self.out_channels)):
            if channels is not None and channels % self.groups:
                raise broken(
                    f"groups must divide the {name} channels",
                    f"groups={self.groups} for {channels} {name} channels",
                    "choose a divisor of both channel counts",
                )
        self._set("d_mul", self._depth_multiplier())

    def _depth_multiplier(self) -> int:
        return rules.depth_multiplier(self.d_mul, self.kernel_size)

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @classmethod
    def of_shapes(cls, weight: Shape, delta: Shape, groups: int = 1) -> Spec:
        """The spec of W `(C_out, C_in/G, D_mul)`, or with the plain shape, and D' of these shapes.

        Raises:
            DOConvError: if the two do not belong to one layer of `groups` groups.
        """
        rules.integer("groups", groups)
        if len(delta) < 3 or len(weight) not in (3, len(delta)):
            raise broken(
                "delta must have shape (C_in, D_mul, *K) and weight (C_out, C_in/groups, D_mul) "
                "or, if D_mul = |K|, (C_out, C_in/groups, *K)",
                f"weight {tuple(weight)} and delta {tuple(delta)}",
                "reshape them",
            )
        differs = len(weight) > 3 and tuple(weight[2:]) != tuple(delta[2:])
        pointwise = math.prod(delta[2:]) == 1 and delta[1] != 1
        sizes = (weight[1] * groups, math.prod(weight[2:]))
        if differs or pointwise or sizes != tuple(delta[:2]):
            raise broken(
                "delta's C_in must be groups times weight's second axis, its D_mul the number of "
                "weight's kernel slots, and its K weight's where weight has one",
                f"weight {tuple(weight)}, delta {tuple(delta)} and groups={groups}",
                "check groups and the order of the axes",
            )
        return cls(delta[0], weight[0], tuple(delta[2:]), groups, delta[1])

    def with_in_channels(self, in_channels: Any) -> Spec:
        """The same layer for an input of `in_channels` channels."""
        return replace(self, in_channels=rules.known_channels(in_channels))

    @property
    def is_known(self) -> bool:
        """True if the channels, and so every shape, are known."""
        return None not in (self.in_channels, self.out_channels)

    @property
    def rank(self) -> int:
        """The number of spatial axes."""
        return len(self.kernel_size)

    @property
    def area(self) -> int:
        """|K|, the number of kernel positions (M x N in the paper)."""
        return math.prod(self.kernel_size)

    @property
    def has_delta(self) -> bool:
        """True if there is a D: a 1 x 1 kernel cannot be over-parameterized."""
        return self.area > 1

    @property
    def whole_blocks(self) -> int:
        """How many whole identity blocks of |K| slots fit into D_mul."""
        return self.d_mul // self.area

    @property
    def has_plain_weight(self) -> bool:
        """True if W has the plain layer's shape, which is if D_mul = |K|."""
        return self.d_mul == self.area

    @property
    def depthwise_channels(self) -> Any:
        """The channels D belongs to, one matrix of D each: C_in, of a transposed layer C_out."""
        return self.out_channels if self.transposed else self.in_channels

    @property
    def rows(self) -> Any:
        """The first axis of W and W': C_out, of a transposed layer C_in."""
        return self.in_channels if self.transposed else self.out_channels

    @property
    def group_channels(self) -> Any:
        """The second axis of W and W': `depthwise_channels`/G; None while these are."""
        return None if self.depthwise_channels is None else self.depthwise_channels // self.groups

    @property
    def group_rows(self) -> Any:
        """`rows`/G, the rows of one group; None while `rows` is."""
        return None if self.rows is None else self.rows // self.groups

    @property
    def composed_shape(self) -> tuple[Any, ...]:
        """The shape of W': `(C_out, C_in/G, *K)`, of a transposed layer `(C_in, C_out/G, *K)`."""
        return (self.rows, self.group_channels, *self.kernel_size)

    @property
    def weight_shape(self) -> tuple[Any, ...]:
        """The shape W is stored in: that of W', or with D_mul in place of *K."""
        if self.has_plain_weight:
            return self.composed_shape
        return (self.rows, self.group_channels, self.d_mul)

    @property
    def delta_shape(self) -> tuple[Any, ...]:
        """The shape of D' (and of D): `(C_in, D_mul, *K)`, transposed `(C_out, D_mul, *K)`."""
        return (self.depthwise_channels, self.d_mul, *self.kernel_size)

    def differences(self, depthwise_init: DepthwiseInit, composition: CompositionName) -> str:
        """The end of a layer's repr: the options that are not the default."""
        shown = "" if self.has_plain_weight else f", d_mul={self.d_mul}"
        if depthwise_init != "identity":
            shown += f", depthwise_init={depthwise_init!r}"
        if composition != "kernel":
            shown += f", composition={composition!r}"
        return shown


class SeparableSpec(Spec):
    """The sizes of a depthwise separable convolution: the same pair, where I is zero.

    The layer stores D itself, so D_mul may be any positive number; it is 1 by default. The
    arguments and errors are those of `Spec`.

    Examples:
        >>> from do_conv import SeparableSpec
        >>> spec = SeparableSpec(in_channels=4, out_channels=6, kernel_size=(3, 3), d_mul=2)
        >>> spec.weight_shape, spec.delta_shape
        ((6, 4, 2), (4, 2, 3, 3))
    """

    def _depth_multiplier(self) -> int:
        return rules.integer("d_mul", 1 if self.d_mul is None else self.d_mul)

    @classmethod
    def of_shapes(cls, weight: Shape, delta: Shape, groups: int = 1) -> Spec:
        """The spec of W `(C_out, C_in/G, D_mul)` and D `(C_in, D_mul, *K)`.

        Raises:
            DOConvError: if the two do not belong to one layer of `groups` groups.
        """
        rules.integer("groups", groups)
        fits = len(weight) == 3 and len(delta) >= 3
        if not fits or (weight[1] * groups, weight[2]) != tuple(delta[:2]):
            raise broken(
                "a separable pair must have a depthwise kernel of shape (C_in, D_mul, *K) "
                "and a weight of shape (C_out, C_in/groups, D_mul)",
                f"weight {tuple(weight)}, depthwise {tuple(delta)} and groups={groups}",
                "check groups and the order of the axes",
            )
        return cls(delta[0], weight[0], tuple(delta[2:]), groups, delta[1])

    @property
    def has_delta(self) -> bool:
        """There always is a D."""
        return True

    @property
    def whole_blocks(self) -> int:
        """There is no identity block."""
        return 0

    @property
    def has_plain_weight(self) -> bool:
        """W is stored with its slots."""
        return False
