"""The plain layers: their arguments, and the values they are given when they are deployed."""

from __future__ import annotations

from typing import Any, TypedDict

import mxnet as mx
import numpy as np
from mxnet.gluon import nn

from do_conv.core import rules
from do_conv.core.spec import Spec
from do_conv.gluon.models.copies import copied

_LAYOUTS = {1: "NCW", 2: "NCHW", 3: "NCDHW"}


class BlockOptions(TypedDict, total=False):
    """The keywords that every Gluon block takes."""

    prefix: str | None
    params: Any


def operator_options(
    spec: Spec, strides: Any, padding: Any, dilation: Any, layout: Any, use_bias: bool
) -> dict[str, Any]:
    """The options of MXNet's operator, each checked.

    Raises:
        DOConvError: if an argument breaks a rule.
    """
    usual = _LAYOUTS[spec.rank]
    return {
        "kernel": spec.kernel_size,
        "stride": rules.axes("strides", strides, spec.rank),
        "dilate": rules.axes("dilation", dilation, spec.rank),
        "pad": rules.padding(padding, spec.rank, words=()),
        "num_filter": spec.out_channels,
        "num_group": spec.groups,
        "no_bias": not use_bias,
        "layout": rules.choice("layout", usual if layout is None else layout, (usual,)),
    }


def activation_name(act: Any) -> str | None:
    """The name of an activation in a constructor; None without one, and for another block."""
    return act._act_type if type(act) is nn.Activation else None


def carry_activation(act: Any, layer: Any) -> None:
    """Give a layer a copy of an activation that no constructor can name, such as a PReLU."""
    if act is not None and activation_name(act) is None:
        layer.act, _ = copied(act)


def first(parameter: Any) -> Any:
    """The values of a parameter in the first of its contexts; None if there is no parameter."""
    return None if parameter is None else parameter.data(parameter.list_ctx()[0])


def is_initialized(layer: Any) -> bool:
    """Whether all parameters of a layer have values."""
    return all(parameter._data is not None for parameter in layer._reg_params.values())


def wait_for_parameters(*layers: Any) -> None:
    """Wait until the parameters of layers can be read.

    Raises:
        DOConvError: if a layer has no parameters yet.
    """
    for layer in layers:
        rules.built(layer.name, is_initialized(layer))
    # MXNet changes the layout of a weight while a convolution reads it: wait for those running.
    mx.nd.waitall()


def deploy(layer: Any, check_finite: bool = False, **values: tuple[Any, Any]) -> None:
    """Give a layer its values, by name: each with the parameter it comes from.

    The layer takes dtype and contexts from these, and is trained where and as fast as they are.

    Raises:
        DOConvError: if `check_finite` is asked for, and a value is not finite.
    """
    _, source = values["weight"]
    layer.cast(source.dtype)
    layer.initialize(mx.init.Zero(), ctx=source.list_ctx())
    for name, (value, source) in values.items():
        if value is None:
            continue
        if check_finite:
            rules.finite(name, bool(np.isfinite(value.asnumpy()).all()))
        parameter = getattr(layer, name)
        parameter.set_data(value)
        for option in ("grad_req", "lr_mult", "wd_mult"):
            setattr(parameter, option, getattr(source, option))
