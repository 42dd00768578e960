"""The sizes of one layer, and the shapes of its arrays (section 3 of the paper)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from do_conv.core import rules

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Spec:
    """The sizes of one layer: C_in, C_out, K (1 to 3 axes; M x N in the paper), G and D_mul.

    A transposed layer has the spec of the convolution it is the adjoint of (`of_transposed`): its
    output channels are `in_channels` here, since D belongs to the stored kernel's second axis.

    Args:
        in_channels: C_in. It, or a transposed layer's `out_channels`, is None while a framework
            has yet to see an input.
        out_channels: C_out.
        kernel_size: K, an integer per spatial axis.
        groups: G; 1 is DO-Conv, C_in is DO-DConv, anything between is DO-GConv.
        d_mul: D_mul, at least |K|; None is |K|. Where |K| = 1 it counts as 1.

    Raises:
        DOConvError: if a size is not a positive integer, groups does not divide the channels,
            or d_mul is below |K|.
    """

    in_channels: Any  # an int, or None
    out_channels: Any  # an int, or None
    kernel_size: Shape
    groups: int = 1
    d_mul: Any = None  # always an int once made

    def __post_init__(self) -> None:
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) is not None:
                self._set(name, rules.integer(name, getattr(self, name)))
        self._set("kernel_size", rules.kernel_axes(self.kernel_size))
        self._set("groups", rules.integer("groups", self.groups))
        rules.groups_divide(self.in_channels, self.out_channels, self.groups)
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
        rules.kernel_arrays(weight, delta, rules.integer("groups", groups))
        return cls(delta[0], weight[0], tuple(delta[2:]), groups, delta[1])

    @classmethod
    def of_transposed(
        cls,
        in_channels: Any,
        out_channels: Any,
        kernel_size: Shape,
        groups: int = 1,
        d_mul: Any = None,
    ) -> Spec:
        """The spec of a transposed layer of these channels, which errors name as they came."""
        layer = cls(in_channels, out_channels, kernel_size, groups, d_mul)
        return replace(layer, in_channels=layer.out_channels, out_channels=layer.in_channels)

    def with_in_channels(self, in_channels: Any) -> Spec:
        """The same layer for an input of `in_channels` channels."""
        return replace(self, in_channels=rules.known_channels(in_channels))

    def with_out_channels(self, out_channels: Any) -> Spec:
        """The same transposed layer for an input of `out_channels` channels."""
        return self.of_transposed(
            rules.known_channels(out_channels),
            self.in_channels,
            self.kernel_size,
            self.groups,
            self.d_mul,
        )

    @property
    def is_known(self) -> bool:
        """Whether the channels are known, and with them every shape."""
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
        """Whether there is a D: a kernel of one position cannot be over-parameterized."""
        return self.area > 1

    @property
    def whole_blocks(self) -> int:
        """How many whole identity blocks of |K| slots fit into D_mul."""
        return self.d_mul // self.area

    @property
    def has_plain_weight(self) -> bool:
        """Whether W has the plain layer's shape: it does when D_mul = |K|."""
        return self.d_mul == self.area

    @property
    def group_in_channels(self) -> Any:
        """C_in/G, the input channels each output channel reads; None while C_in is."""
        return None if self.in_channels is None else self.in_channels // self.groups

    @property
    def group_out_channels(self) -> Any:
        """C_out/G, the output channels of one group; None while C_out is."""
        return None if self.out_channels is None else self.out_channels // self.groups

    @property
    def composed_shape(self) -> tuple[Any, ...]:
        """The shape of W', an ordinary kernel: `(C_out, C_in/G, *K)`."""
        return (self.out_channels, self.group_in_channels, *self.kernel_size)

    @property
    def weight_shape(self) -> tuple[Any, ...]:
        """The shape W is stored in: the plain kernel's, or `(C_out, C_in/G, D_mul)`."""
        if self.has_plain_weight:
            return self.composed_shape
        return (self.out_channels, self.group_in_channels, self.d_mul)

    @property
    def delta_shape(self) -> tuple[Any, ...]:
        """The shape of D' (and of D): `(C_in, D_mul, *K)`."""
        return (self.in_channels, self.d_mul, *self.kernel_size)

    def differences(self, depthwise_init: str, composition: str) -> str:
        """What a layer's repr adds to the plain layer's: the options that are not the default."""
        shown = "" if self.has_plain_weight else f", d_mul={self.d_mul}"
        if depthwise_init != "identity":
            shown += f", depthwise_init={depthwise_init!r}"
        if composition != "kernel":
            shown += f", composition={composition!r}"
        return shown


class SeparableSpec(Spec):
    """The sizes of a depthwise separable convolution: the same pair, where I is zero.

    What is stored is D itself, so D_mul may be any positive number; it is 1 by default.
    """

    def _depth_multiplier(self) -> int:
        return rules.integer("d_mul", 1 if self.d_mul is None else self.d_mul)

    @classmethod
    def of_shapes(cls, weight: Shape, delta: Shape, groups: int = 1) -> Spec:
        """The spec of W `(C_out, C_in/G, D_mul)` and D `(C_in, D_mul, *K)`.

        Raises:
            DOConvError: if the two do not belong to one layer of `groups` groups.
        """
        rules.separable_arrays(weight, delta, rules.integer("groups", groups))
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
