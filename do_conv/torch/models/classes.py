"""The class that takes a layer's place.

For a subclass of a convolution that has a forward pass of its own, such as timm's `Conv2dSame`, one
is made: it composes the kernel, shows it to the subclass's forward pass as `weight`, and leaves
everything else as it was.
"""

from __future__ import annotations

import contextlib
import threading
from contextlib import AbstractContextManager
from functools import cache
from inspect import isfunction
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn.utils import parametrize

from do_conv.core.errors import broken
from do_conv.core.spec import Spec
from do_conv.torch.base import Composed, OverParameterized
from do_conv.torch.layers import DOConv1d, DOConv2d, DOConv3d
from do_conv.torch.lazy import (
    LazyDOConv1d,
    LazyDOConv2d,
    LazyDOConv3d,
    LazyDOConvTranspose1d,
    LazyDOConvTranspose2d,
    LazyDOConvTranspose3d,
)
from do_conv.torch.models.folding import fold
from do_conv.torch.other_tools import check_other_tools
from do_conv.torch.transposed import DOConvTranspose1d, DOConvTranspose2d, DOConvTranspose3d

_OURS: dict[type[nn.Module], Any] = {
    nn.Conv1d: DOConv1d,
    nn.Conv2d: DOConv2d,
    nn.Conv3d: DOConv3d,
    nn.ConvTranspose1d: DOConvTranspose1d,
    nn.ConvTranspose2d: DOConvTranspose2d,
    nn.ConvTranspose3d: DOConvTranspose3d,
    nn.LazyConv1d: LazyDOConv1d,
    nn.LazyConv2d: LazyDOConv2d,
    nn.LazyConv3d: LazyDOConv3d,
    nn.LazyConvTranspose1d: LazyDOConvTranspose1d,
    nn.LazyConvTranspose2d: LazyDOConvTranspose2d,
    nn.LazyConvTranspose3d: LazyDOConvTranspose3d,
}


_locks: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()
_making_locks = threading.Lock()


def _alone(layer: nn.Module) -> AbstractContextManager[Any]:
    """A context in which one thread at a time is in a forward pass of a layer."""
    if torch.compiler.is_compiling():  # a graph has no attributes
        return contextlib.nullcontext()
    with _making_locks:
        return _locks.setdefault(layer, threading.RLock())


class OwnForward(OverParameterized):
    """The base of the classes made for subclasses; `weight` is W outside `forward`."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The subclass's own forward pass, which reads W' where it reads `weight`.

        Raises:
            DOConvError: if a parametrization computes `weight`.
        """
        # Its property hides an instance's attribute, so W would be read instead of W'.
        if parametrize.is_parametrized(self, "weight"):
            raise broken(
                "the weight of a converted layer with a forward pass of its own must not be "
                "parametrized",
                f"a {type(self).__name__} with a parametrization of its weight",
                "give the plain layer to over_parameterize, and then register the parametrization",
            )
        check_other_tools(self)
        with _alone(self):
            # Pruning and others keep the W that they compute there.
            before = {"weight": self.__dict__["weight"]} if "weight" in self.__dict__ else {}
            # An instance's attribute hides a parameter of the same name.
            self.__dict__["weight"] = self.composed_weight()
            try:
                # The subclass follows our classes in the order of bases.
                return super(Composed, self).forward(*args, **kwargs)
            finally:
                self.__dict__.pop("weight", None)  # the subclass may have set another parameter
                self.__dict__.update(before)

    def fold(self, *, check_finite: bool = True) -> Any:
        """A layer of the subclass with W' as its weight; see `OverParameterized.fold`."""
        return fold(self, check_finite=check_finite)

    def __reduce__(self) -> Any:
        return _empty, (self._plain,), self.__getstate__()


def class_for(kind: Any) -> Any:
    """The class that over-parameterizes layers of a class."""
    return _OURS[kind] if kind in _OURS else class_with_own_forward(kind)


@cache
def class_with_own_forward(plain: Any) -> type[OwnForward]:
    """The class that over-parameterizes layers of the class `plain`."""
    return type(
        f"DO{plain.__name__}", (OwnForward, plain), {"_plain": plain, "__module__": __name__}
    )


def reads_weight(plain: Any) -> bool:
    """Whether the code of a class's forward pass names `weight`, or another forward pass."""
    if plain in _OURS:
        return True
    own = [base for base in plain.__mro__ if not base.__module__.startswith("torch.nn.")]
    methods = [method for base in own for method in vars(base).values() if isfunction(method)]
    passes = [m for m in methods if m.__name__ in ("forward", "_conv_forward")]
    names = {name for method in methods for name in method.__code__.co_names}
    return not passes or bool(names & {"weight", "forward", "_conv_forward"})


def spec_of(layer: Any, d_mul: int | None) -> Spec:
    """The sizes of a plain layer; a lazy one knows only its output channels."""
    channels = (layer.in_channels or None, layer.out_channels)
    return Spec(*channels, layer.kernel_size, layer.groups, d_mul, layer.transposed)


def _empty(plain: Any) -> Any:
    """A layer without anything in it, for copies and pickles."""
    kind = class_with_own_forward(plain)
    return kind.__new__(kind)
