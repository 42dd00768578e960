"""Subclasses of a convolution that have a forward pass of their own, such as timm's `Conv2dSame`.

A class is made for each: it composes the kernel, shows it to the subclass's forward pass as
`weight`, and leaves everything else as it was.
"""

from __future__ import annotations

from functools import cache
from inspect import isfunction
from typing import Any

from do_conv.torch.base import Composed, OverParameterized
from do_conv.torch.models.folding import fold


class Served(OverParameterized):
    """What the classes made for subclasses have in common; `weight` is W outside `forward`."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The subclass's own forward pass, which reads W' where it reads `weight`."""
        # An instance's attribute comes before a parameter of the same name.
        self.__dict__["weight"] = self.composed_weight()
        try:
            # What follows our classes is the subclass.
            return super(Composed, self).forward(*args, **kwargs)
        finally:
            del self.__dict__["weight"]

    def fold(self, *, check_finite: bool = True) -> Any:
        """A layer of the subclass with W' as its weight; see `OverParameterized.fold`."""
        return fold(self, check_finite=check_finite)

    def __reduce__(self) -> Any:
        return _made, (self._plain,), self.__getstate__()


@cache
def served_class(plain: Any) -> type[Served]:
    """The class that over-parameterizes layers of the class `plain`."""
    return type(f"DO{plain.__name__}", (Served, plain), {"_plain": plain, "__module__": __name__})


def reads_weight(plain: Any) -> bool:
    """Whether a class's forward pass can be seen to read `weight`, or to call one that does."""
    own = [base for base in plain.__mro__ if not base.__module__.startswith("torch.nn.")]
    methods = [method for base in own for method in vars(base).values() if isfunction(method)]
    passes = [m for m in methods if m.__name__ in ("forward", "_conv_forward")]
    names = {name for method in methods for name in method.__code__.co_names}
    return not passes or bool(names & {"weight", "forward", "_conv_forward"})


def _made(plain: Any) -> Any:
    """A layer without anything in it, for copies and pickles."""
    made = served_class(plain)
    return made.__new__(made)
