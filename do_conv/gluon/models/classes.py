"""The class that takes a layer's place.

For a subclass of a convolution one is made, and folding restores its own. A subclass that inherits
the forward pass gets that of our layers. One with a `hybrid_forward` of its own that is given
`weight` keeps it, and is given the composed kernel there.
"""

from __future__ import annotations

from functools import cache
from inspect import signature
from typing import Any

from mxnet.gluon import HybridBlock, nn

from do_conv.core.spec import Spec
from do_conv.gluon.arrays import as_given, legacy_arrays
from do_conv.gluon.base import OverParameterized
from do_conv.gluon.composition import compose_spec, with_shapes_from
from do_conv.gluon.layers import DOConv1D, DOConv2D, DOConv3D
from do_conv.gluon.models.folding import fold
from do_conv.gluon.transposed import DOConv1DTranspose, DOConv2DTranspose, DOConv3DTranspose

_OURS: dict[Any, Any] = {
    nn.Conv1D: DOConv1D,
    nn.Conv2D: DOConv2D,
    nn.Conv3D: DOConv3D,
    nn.Conv1DTranspose: DOConv1DTranspose,
    nn.Conv2DTranspose: DOConv2DTranspose,
    nn.Conv3DTranspose: DOConv3DTranspose,
}


class _Subclass(OverParameterized):
    """The base of the classes made for subclasses."""

    def fold(self, *, check_finite: bool = True) -> Any:
        """A layer of the subclass with W' as its weight; see `OverParameterized.fold`."""
        return fold(self, check_finite=check_finite)


class OwnForward(_Subclass):
    """The classes made for subclasses with a forward pass of their own."""

    def hybrid_forward(self, F: Any, x: Any, *args: Any, **parameters: Any) -> Any:  # noqa: N803
        """The subclass's own forward pass, which is given W' as `weight`."""
        arrays = (x, parameters["weight"], parameters.pop("depthwise_delta"))
        given, weight, delta = legacy_arrays(*arrays)
        if not self.spec.is_known:
            weight, delta = with_shapes_from(F, given, weight, delta, self.spec)
        parameters["weight"] = as_given(compose_spec(F, weight, delta, self.spec))
        return self._plain.hybrid_forward(self, F, x, *args, **parameters)


def plain_base(kind: Any) -> Any:
    """The convolution of `mxnet.gluon.nn` that a class is, or is a subclass of; or None."""
    return next((base for base in kind.__mro__ if base in _OURS), None)


def is_transposed(layer: Any) -> bool:
    """Whether a convolution is a transposed one."""
    return bool(layer._op_name.lower() == "deconvolution")  # as MXNet 1 and its NumPy name it


def reads_weight(layer: Any) -> bool:
    """Whether a layer's forward pass reads its weight where another can be given to it."""
    kind, base = type(layer), plain_base(type(layer))
    if kind.forward is not HybridBlock.forward:
        return False
    if kind.hybrid_forward is base.hybrid_forward:
        return True
    # MXNet's float32 operator has no gradient of a transposed convolution's computed kernel.
    return (
        not is_transposed(layer)
        and layer._reg_params.keys() <= {"weight", "bias"}
        and "weight" in signature(kind.hybrid_forward).parameters
        and "weight" not in kind.hybrid_forward.__code__.co_names
    )


def class_for(kind: Any) -> Any:
    """The class that over-parameterizes layers of a class."""
    return _OURS[kind] if kind in _OURS else _subclass(kind)


@cache
def _subclass(kind: Any) -> Any:
    base = plain_base(kind)
    inherited = kind.hybrid_forward is base.hybrid_forward
    bases = (_Subclass, _OURS[base], kind) if inherited else (OwnForward, kind)
    return type(f"DO{kind.__name__}", bases, {"_plain": kind, "__module__": __name__})


def spec_of(layer: Any, d_mul: int | None) -> Spec:
    """The sizes of a plain layer, of which the input's channels may not be known yet."""
    options, weight = layer._kwargs, layer.weight.shape
    groups, transposed = options["num_group"], is_transposed(layer)
    inputs = weight[0] if transposed else weight[1] * groups
    known = inputs if inputs > 0 else None
    return Spec(known, layer._channels, options["kernel"], groups, d_mul, transposed)
