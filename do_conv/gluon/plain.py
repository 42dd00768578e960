"""Layers that are given their parameters, such as the plain ones that are deployed."""

from __future__ import annotations

from typing import Any

import mxnet as mx
import numpy as np

from do_conv.core import rules


def first(parameter: Any) -> Any:
    """The values of a parameter in the first of its contexts; None if there is no parameter."""
    return None if parameter is None else parameter.data(parameter.list_ctx()[0])


def deploy(layer: Any, check_finite: bool = False, **values: tuple[Any, Any]) -> None:
    """Give a layer its values, by name: each with the parameter it comes from.

    The layer takes dtype and contexts from these, and is trained where and as fast as they are.

    Raises:
        DOConvError: if `check_finite` is asked for, and one is not.
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
