"""The work of several processes: a start in common, and steps on kernels that they share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from do_conv.core.errors import broken
from do_conv.torch.models.sharding import is_fully_sharded, is_sharded
from do_conv.torch.optimizer.kernels import TrainedKernel
from do_conv.torch.optimizer.sharded import ShardedKernel, held, sharded_axes


def start_equally(kernels: Iterable[TrainedKernel]) -> None:
    """Let every process have the random numbers of the first, as DistributedDataParallel does."""
    if distributed.is_available() and distributed.is_initialized():
        for kernel in kernels:
            if kernel.is_drawn:
                kernel.start_equally()


def sum_gradients(kernels: Iterable[TrainedKernel]) -> None:
    """Sum the gradients of D' over the processes that share the rows of its kernel."""
    shared = defaultdict(list)
    for kernel in kernels:
        if isinstance(kernel, ShardedKernel) and kernel.delta.grad is not None:
            grad = kernel.held(kernel.delta.grad)
            shared[kernel.mesh, kernel.axes, grad.dtype, grad.device].append(grad)
    for (mesh, axes, *_), grads in shared.items():
        together = torch.cat([grad.flatten() for grad in grads])
        summed = _reduced(together, mesh, axes).split([grad.numel() for grad in grads])
        for grad, its_sum in zip(grads, summed, strict=True):
            grad.copy_(its_sum.view_as(grad))


def agreed(
    found: Collection[TrainedKernel], kernels: Sequence[TrainedKernel]
) -> set[TrainedKernel]:
    """The kernels that one of the processes that share them has found.

    All of them have to refuse a kernel: they would wait for the one that does.
    """
    agreed, shared = set(found), defaultdict(list)
    for kernel in kernels:
        if isinstance(kernel, ShardedKernel):
            shared[kernel.mesh].append(kernel)
    for mesh, its in shared.items():
        flags = torch.tensor([kernel in found for kernel in its], dtype=torch.uint8)
        flags = _reduced(flags, mesh, range(mesh.ndim), "MAX")
        agreed.update(kernel for kernel, flag in zip(its, flags.tolist(), strict=True) if flag)
    return agreed


def check_order(model: nn.Module, kernels: Iterable[TrainedKernel]) -> None:
    """Refuse kernels that `fully_shard` has divided after the optimizer was made.

    Raises:
        DOConvError: if there is one.
    """
    # From then on such a kernel gets no gradient.
    silent = [kernel for kernel in kernels if kernel.parameter.grad is None]
    if not silent or not is_fully_sharded(model):
        return
    parameters = set(model.parameters())
    for kernel in silent:
        if not isinstance(kernel, ShardedKernel) and kernel.parameter not in parameters:
            raise broken(
                "the optimizer of a model must be made after fully_shard",
                f"a kernel of layer '{kernel.name}' that fully_shard has divided since",
                "call fully_shard first, then make the optimizer of model.parameters() and wrap it",
            )


def total_norm(grads: Sequence[Tensor], norm_type: float) -> Tensor:
    """The norm of gradients together, some of which may be divided among processes."""
    if not any(map(is_sharded, grads)):
        return get_total_norm(grads, norm_type)
    norms, kinds, norm_type = [], defaultdict(list), float(norm_type)
    for grad in grads:
        kinds[_processes(grad), grad.dtype].append(grad)
    for ((mesh, axes), dtype), alike in kinds.items():
        local = [held(grad) for grad in alike]
        # An empty shard has no largest value.
        norm = get_total_norm([grad for grad in local if grad.numel()], norm_type)
        norm = norm.to(local[0].device, torch.promote_types(dtype.to_real(), torch.float32))
        if axes and norm_type == torch.inf:
            norm = _reduced(norm, mesh, axes, "MAX")
        elif axes:
            norm = _reduced(norm**norm_type, mesh, axes) ** (1 / norm_type)
        norms.append(norm)
    return get_total_norm(norms, norm_type)


def clip(parameters: Iterable[Tensor], max_norm: float, norm: Tensor) -> None:
    """Scale the gradients of parameters to `max_norm` if `norm`, that of all, is larger."""
    kinds = defaultdict(list)  # one call cannot scale a mixture of dtypes and devices
    for parameter in parameters:
        if parameter.grad is not None:
            kinds[_processes(parameter.grad)[0]].append(parameter)
    for alike in kinds.values():
        clip_grads_with_norm_(alike, max_norm, norm)


def _processes(array: Any) -> tuple[Any, tuple[int, ...]]:
    """The mesh over which an array is divided, and along which axes of it."""
    return (array.device_mesh, sharded_axes(array)) if is_sharded(array) else (None, ())


def _reduced(values: Tensor, mesh: Any, axes: Iterable[int], operation: str = "SUM") -> Tensor:
    """Values of all processes along some axes of a mesh together."""
    # Parameters may be offloaded to a CPU, where NCCL cannot reduce them.
    reduced = values.to(mesh.device_type)
    for axis in axes:
        group = mesh.get_group(axis)
        distributed.all_reduce(reduced, getattr(distributed.ReduceOp, operation), group)
    return reduced.to(values.device)
