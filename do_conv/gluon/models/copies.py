"""Copies of whole networks: `copy.deepcopy`, and what it cannot know of Gluon.

A parameter's arrays are copied in their contexts, where `deepcopy` would bring all to the first
CPU. A hybridized block stays hybridized and makes its graph anew, since a compiled one cannot be
copied. Trainers, and the scopes in which a part of a larger network was named, are left behind.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import mxnet as mx
from mxnet import autograd
from mxnet.gluon import Block, HybridBlock, SymbolBlock

from do_conv.gluon.models.structure import check_model


def copied(model: Any, replaced: dict[int, Any] | None = None) -> tuple[Any, dict[int, Any]]:
    """A copy of a network, in which what is shared stays shared.

    Args:
        model: a block.
        replaced: blocks that take the place of some, by the `id` of these.

    Returns:
        the copy, and the copy of each block by the `id` of the block.
    """
    check_model(model)
    mx.nd.waitall()
    memo: dict[int, Any] = dict(replaced or {})
    blocks, arrays = _held(model, memo)
    for array in arrays:
        memo[id(array)] = array.copy()
    for parameter in _parameters(blocks):
        if id(parameter) not in memo:
            memo[id(parameter)] = _copied_parameter(parameter)
    inside = {id(block) for block in blocks}
    for block in blocks:
        # A block keeps the name scope it was made in, perhaps that of a network around `model`.
        around = block._scope._old_scope
        if around is not None and id(around._block) not in inside:
            memo[id(around)] = None
        if isinstance(block, HybridBlock):
            memo[id(block._cached_op)] = None
            graph = block._cached_graph
            memo[id(graph)] = graph if isinstance(block, SymbolBlock) else ()
    new = copy.deepcopy(model, memo)
    for block in blocks:
        if isinstance(block, HybridBlock):
            memo[id(block)]._clear_cached_op()
    return new, memo


def _held(model: Any, without: dict[int, Any]) -> tuple[list[Any], list[Any]]:
    """The blocks and arrays that a network's attributes lead to, registered or not."""
    held: dict[int, Any] = {}
    waiting = [model]
    while waiting:
        value = waiting.pop()
        if id(value) in held or id(value) in without:
            continue
        if isinstance(value, (Block, mx.nd.NDArray)):
            held[id(value)] = value
        if isinstance(value, Block):
            waiting.extend(vars(value).values())
        elif isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, (list, tuple, set)):
            waiting.extend(value)
    blocks = [value for value in held.values() if isinstance(value, Block)]
    return blocks, [value for value in held.values() if not isinstance(value, Block)]


def _parameters(blocks: list[Any]) -> Iterator[Any]:
    """Every parameter of the blocks, and of those that they share parameters with."""
    for block in blocks:
        yield from block._reg_params.values()
        held = block.params
        while held is not None:
            yield from held.values()
            held = held._shared


def _copied_parameter(parameter: Any) -> Any:
    """A parameter with the same values and no gradient yet; no trainer knows it."""
    new = copy.copy(parameter)
    new._var = new._trainer = None
    if new._data is not None:
        with autograd.pause():
            new._data = [array.copy() for array in new._data]
            new._init_grad()
    return new
