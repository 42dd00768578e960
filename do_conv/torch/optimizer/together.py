"""Kernels of the same sizes as one: few operators on an accelerator, little Python on a CPU.

N layers of G groups are one layer of N x G groups. The C loops, where they are fast, take kernels
one by one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from do_conv.core.spec import Spec
from do_conv.torch.composition import compose_spec
from do_conv.torch.optimizer import watch
from do_conv.torch.optimizer.gradients import gradients
from do_conv.torch.optimizer.kernels import TrainedKernel
from do_conv.torch.optimizer.sharded import ShardedKernel


@torch.no_grad()
def differentiate(kernels: Iterable[TrainedKernel]) -> None:
    """Give W and D' their gradients, by the chain rule from those of W'."""
    for alike in _alike(kernels):
        if len(alike) == 1:
            alike[0].differentiate()
            continue
        weights, deltas, spec = _joined(alike)
        grads = torch.cat([kernel.grad for kernel in alike]).to(weights.dtype)
        of_weights, of_deltas = gradients(weights, deltas, grads, spec)
        for kernel, of_weight, of_delta in zip(
            alike, of_weights.chunk(len(alike)), of_deltas.chunk(len(alike)), strict=True
        ):
            kernel.give(of_weight, of_delta)


@torch.no_grad()
def compose(kernels: Iterable[TrainedKernel], own: watch.Own | None = None) -> None:
    """Write each W' into the network.

    Args:
        kernels: those to write.
        own: of kernels on an accelerator, as `watch.check` gives it. A kernel that is not its own
            stays as it is.
    """
    for alike in _alike(kernels):
        flags = [own[kernel] for kernel in alike if own and kernel in own]
        if len(alike) == 1 and not flags:
            alike[0].compose()
            continue
        composed = compose_spec(*_joined(alike)).to(alike[0].parameter.dtype)
        composed = composed.unflatten(0, (len(alike), -1))
        if flags:
            watch.write(alike, composed, torch.stack(flags))
        else:
            for kernel, its_own in zip(alike, composed, strict=True):
                kernel.write(its_own)


def _alike(kernels: Iterable[TrainedKernel]) -> list[list[TrainedKernel]]:
    alike: dict[object, list[TrainedKernel]] = defaultdict(list)
    for kernel in kernels:
        is_alone = isinstance(kernel, ShardedKernel) or kernel.loops_pay
        place = kernel.parameter.dtype, kernel.weight.dtype, kernel.parameter.device
        alike[kernel if is_alone else (kernel.spec, *place)].append(kernel)
    return list(alike.values())


def _joined(kernels: Sequence[TrainedKernel]) -> tuple[Tensor, Tensor, Spec]:
    """All W, all D', and the sizes of the one layer whose they are."""
    spec, count = kernels[0].spec, len(kernels)
    weights, deltas = (
        torch.cat([part.detach() for part in parts])
        for parts in zip(*((kernel.weight, kernel.delta) for kernel in kernels), strict=True)
    )
    joined = replace(
        spec,
        in_channels=count * spec.in_channels,
        out_channels=count * spec.out_channels,
        groups=count * spec.groups,
    )
    return weights, deltas, joined
