"""Checks for tools that prepare a layer for quantisation or compute its weight.

These tools expect the `weight` of a layer to be its kernel. Here it is W. They leave marks on a
layer, which its forward pass looks for.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch.nn.utils import parametrize

from do_conv.core.errors import DOConvError
from do_conv.models import checks

# The names that pruning, and the old `spectral_norm` and `weight_norm`, give the parameter that
# they compute the weight from.
_SOURCES = ("weight_orig", "weight_v")


def check_other_tools(layer: Any) -> None:
    """Refuse a layer that is prepared for quantisation; warn of a layer whose W is computed.

    Raises:
        DOConvError: if `prepare` or `prepare_qat` of eager mode has given it a `qconfig`. It would
            stay in float, since they replace layers of PyTorch's own classes only.
    """
    kind = type(layer).__name__
    checks.not_quantised(layer.__dict__.get("qconfig") is None, kind)
    # A graph of `torch.compile` cannot hold a warning.
    if "weight" in layer._parameters or torch.compiler.is_compiling():
        return
    source = next((name for name in _SOURCES if name in layer._parameters), None)
    if source is None and parametrize.is_parametrized(layer, "weight"):
        source = "parametrizations.weight"
    try:
        checks.weight_of_its_own(source, kind)
    except DOConvError as error:
        warnings.warn(str(error), stacklevel=2)
