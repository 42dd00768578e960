"""The parameters of the plain network, without making it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mxnet as mx

from do_conv.gluon.base import Composed
from do_conv.gluon.models.structure import check_model


def folded_parameters(net: Any, *, check_finite: bool = True) -> dict[str, Any]:
    """The parameters of the plain network that does what `net` does.

    `mx.nd.save(file, folded_parameters(net))` writes a file for the plain network's
    `load_parameters`.

    Args:
        net: a network that holds DO-Conv layers, or one such layer.
        check_finite: False folds parameters that hold NaN or infinity, too.

    Returns:
        a new dict of arrays on the CPU. It has the names under which `net.save_parameters` writes,
        except that each DO-Conv layer has the names and arrays of the plain layer in its place.

    Raises:
        DOConvError: if a composed kernel is not finite, or a layer has no parameters yet.
    """
    check_model(net)
    mx.nd.waitall()
    parameters: dict[str, Any] = net._collect_params_with_prefix()
    for name, layer in _layers(net, ""):
        plain = layer.fold(check_finite=check_finite)._collect_params_with_prefix(name)
        replaced = layer._collect_params_with_prefix(name)
        parameters = {k: v for k, v in parameters.items() if k not in replaced} | plain
    # As Gluon writes it: the mean over a parameter's contexts.
    return {name: parameter._reduce() for name, parameter in parameters.items()}


def _layers(block: Any, name: str) -> Iterator[tuple[str, Composed]]:
    """Our layers in a block with their names: of a shared one, every name."""
    if isinstance(block, Composed):
        yield name, block
        return
    for child, inner in block._children.items():
        yield from _layers(inner, f"{name}.{child}" if name else child)
