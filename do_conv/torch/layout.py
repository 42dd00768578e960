"""Channels last, the memory format in which a kernel's second axis is its innermost.

PyTorch reads a tensor's format off its strides, and those of axes of size one count.
"""

from __future__ import annotations

import torch
from torch import Tensor


def is_channels_last(tensor: Tensor) -> bool:
    """Whether a kernel of several positions, with two or three spatial axes, is channels last."""
    if torch.jit.is_tracing():  # sizes are constants of the graph there
        return False
    return tensor.dim() > 3 and tensor.stride(1) == 1 and tensor.shape[2:].numel() > 1


def channels_last(tensor: Tensor) -> Tensor:
    """The tensor in channels last, and in the backward pass its gradient.

    Both are views where the memory has that order already.
    """
    last = tensor.movedim(1, -1)
    # Flattening drops the strides of axes of size one; unflattening sets them anew.
    return last.flatten().unflatten(0, last.shape).movedim(-1, 1)


def laid_out_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """The tensor in channels last if the parameter is, and as it came otherwise."""
    if not is_channels_last(parameter) or tensor.stride() == parameter.stride():
        return tensor
    return channels_last(tensor)
