"""The type of a layer that can be folded, for type checkers."""

from __future__ import annotations

from typing import Protocol, TypeVar

PlainT_co = TypeVar("PlainT_co", covariant=True)


class Folds(Protocol[PlainT_co]):
    """A DO-Conv layer.

    Keras's and Gluon's own classes are untyped: a checker takes any of them for a DO-Conv layer if
    `fold` asks for our base class, and for this protocol only if it has a method `fold`.
    """

    def fold(self, *, check_finite: bool = True) -> PlainT_co:
        """The plain layer that does the same."""
