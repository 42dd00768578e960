"""How a network is made of blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mxnet.gluon import Block

from do_conv.models import checks
from do_conv.models.sharing import Holders


def check_model(model: Any) -> None:
    """Refuse anything but a block, such as a dict of parameters.

    Raises:
        DOConvError: if it is no block.
    """
    checks.model_kind(isinstance(model, Block), "mxnet.gluon.Block", type(model).__name__)


def named_layers(block: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The blocks of a network in its order, a shared one once, by the names of parameter files.

    Raises:
        DOConvError: if it is no block.
    """
    check_model(block)
    seen: set[int] = set()

    def inside(block: Any, name: str) -> Iterator[tuple[str, Any]]:
        if id(block) in seen:
            return
        seen.add(id(block))
        yield name, block
        for key, child in block._children.items():
            yield from inside(child, f"{name}.{key}" if name else key)

    return inside(block, name)


def holders(model: Any) -> Holders:
    """Each block of a network with the parameters it holds itself."""
    return [(block, list(block._reg_params.values())) for _, block in named_layers(model)]
