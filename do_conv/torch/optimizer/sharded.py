"""Kernels that `fully_shard` (FSDP2) divides among processes.

Composing never brings two rows of a kernel together (see `do_conv.core.composition`). So each
process has the rows of W that it has of W', and the whole D'. FSDP averages G over the batches of
the processes, as for a plain network. The gradient of D' is a sum over rows, and so over processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer

from do_conv.core.errors import broken
from do_conv.core.rules import DepthwiseInit
from do_conv.core.spec import Spec
from do_conv.core.starts import fill_from_kernel
from do_conv.torch.composition import compose_spec
from do_conv.torch.models.sharding import is_sharded
from do_conv.torch.optimizer.gradients import gradients
from do_conv.torch.optimizer.kernels import TrainedKernel
from do_conv.torch.starts import start_delta, start_kernel


class ShardedKernel(TrainedKernel):
    """A kernel of which each process holds some rows; its W is sharded alike, its D' replicated.

    Attributes:
        mesh: the processes.
        axes: the axes of the mesh over which the rows are divided, of which there is one.
    """

    def __init__(
        self, parameter: Any, name: str, spec: Spec, depthwise_init: DepthwiseInit
    ) -> None:
        self.mesh, self._placements = parameter.device_mesh, parameter.placements
        self.axes = sharded_axes(parameter)
        if [self._placements[axis].is_shard(0) for axis in self.axes] != [True]:
            raise broken(
                "a sharded kernel must be divided by its first axis, over one axis of the mesh",
                f"a kernel of layer '{name}' in placements {self._placements}",
                "call fully_shard without a shard_placement_fn, on a network that is not divided",
            )
        self._pieces = _pieces(spec, *self._rows(spec.rows))
        super().__init__(parameter, name, spec, depthwise_init)

    def _rows(self, rows: int) -> tuple[int, int]:
        """The first row of this process, and the first of the next: as of `torch.chunk`."""
        (axis,) = self.axes
        each = -(-rows // self.mesh.size(axis))
        first = min(self.mesh.get_local_rank(axis) * each, rows)
        return first, min(first + each, rows)

    def held(self, array: Tensor) -> Tensor:
        """The rows of this process; of D' and its gradient, the whole."""
        part: Tensor = held(array)
        return part

    def _empty(self, like: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        spec, rows = self.spec, self.held(self.parameter).shape[0]
        weight = torch.empty((rows, *spec.weight_shape[1:]), **like)
        return self._shard(weight), self._replica(torch.empty(spec.delta_shape, **like))

    def _shard(self, rows: Tensor) -> Tensor:
        """An array in the shape of W, of its rows in this process."""
        shape = self.spec.weight_shape
        stride = torch.empty(shape, device="meta").stride()
        return self._distributed(rows, self._placements, shape=torch.Size(shape), stride=stride)

    def _replica(self, whole: Tensor) -> Tensor:
        """An array in the shape of D', which each process has."""
        return self._distributed(whole, self._everywhere)

    def _distributed(self, local: Tensor, placements: Any, **sizes: Any) -> Tensor:
        from torch.distributed.tensor import DTensor

        return DTensor.from_local(local, self.mesh, placements, run_check=False, **sizes)

    @property
    def _everywhere(self) -> list[Any]:
        from torch.distributed.tensor import Replicate

        return [Replicate()] * self.mesh.ndim

    def _start_parts(self) -> None:
        kernel, weight = self.held(self.parameter), self.held(self.weight)
        if self.spec.has_plain_weight:
            weight.copy_(kernel)
        else:
            drawn = weight.new_empty(self.spec.weight_shape)
            start_kernel(drawn)
            weight.copy_(self._of_first(drawn, self._placements))
            fill_from_kernel(weight, kernel.to(weight.dtype), self.spec)
        delta = self.held(self.delta)
        start_delta(delta, self.depthwise_init, self.spec)
        if self.depthwise_init != "identity":
            delta.copy_(self._of_first(delta, self._everywhere))

    def _of_first(self, drawn: Tensor, placements: Any) -> Tensor:
        """The part of the first process's random numbers that this process holds."""
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(drawn, self.mesh, placements).to_local()

    def start_equally(self) -> None:
        """Nothing: the start has the random numbers of the first process."""

    def differentiate(self) -> None:
        """Give W its gradient, and D' the part of its gradient that is of these rows."""
        assert self.parameter.grad is not None
        weight, delta = self.held(self.weight), self.held(self.delta)
        grad = self.held(self.parameter.grad).to(weight.dtype)
        of_weight, of_delta = torch.empty_like(weight), torch.zeros_like(delta)
        for rows, channels, spec in self._pieces:
            of_weight[rows], of_delta[channels] = gradients(
                weight[rows], delta[channels], grad[rows], spec
            )
        self.give(self._shard(of_weight), self._replica(of_delta))

    @torch.no_grad()
    def composed(self) -> Tensor:
        """The rows of W', of W and D' as they are now, in the kernel's dtype."""
        weight, delta = self.held(self.weight), self.held(self.delta)
        composed = weight.new_empty((len(weight), *self.spec.composed_shape[1:]))
        for rows, channels, spec in self._pieces:
            composed[rows] = compose_spec(weight[rows], delta[channels], spec)
        return composed.to(self.parameter.dtype)


def _pieces(spec: Spec, first: int, last: int) -> list[tuple[slice, slice, Spec]]:
    """Divide rows of a kernel into pieces that are kernels themselves.

    Each is of whole groups, or of one group, so there are three at most.

    Args:
        spec: the sizes of the whole kernel.
        first, last: its first row of all, and the first row behind.

    Returns:
        the rows, counted from `first`, the channels of D', and the sizes of each piece.
    """
    pieces, row = [], first
    while row < last:
        group, within = divmod(row, spec.group_rows)
        whole = 0 if within else (last - row) // spec.group_rows
        end = row + whole * spec.group_rows if whole else min(last, (group + 1) * spec.group_rows)
        groups = max(whole, 1)
        rows, channels = end - row, groups * spec.group_channels
        sizes = (rows, channels) if spec.transposed else (channels, rows)
        piece = replace(spec, in_channels=sizes[0], out_channels=sizes[1], groups=groups)
        start = group * spec.group_channels
        pieces.append((slice(row - first, end - first), slice(start, start + channels), piece))
        row = end
    return pieces


def kernel_of(
    optimizer: Optimizer, parameter: Tensor, name: str, spec: Spec, depthwise_init: DepthwiseInit
) -> TrainedKernel:
    """The kernel for a parameter of an optimizer, whole or sharded.

    Raises:
        DOConvError: if the parameter is sharded, and by another axis than the first, or for an
            optimizer that joins all parameters.
    """
    if not is_sharded(parameter):
        return TrainedKernel(parameter, name, spec, depthwise_init)
    if isinstance(optimizer, LBFGS):
        raise broken(
            "the optimizer of a sharded network must step on each parameter by itself",
            "an LBFGS, which joins all parameters",
            "take another optimizer",
        )
    return ShardedKernel(parameter, name, spec, depthwise_init)


@torch.no_grad()
def held(array: Any) -> Any:
    """The part of an array that this process holds, without a copy."""
    return array.to_local() if is_sharded(array) else array


def sharded_axes(array: Any) -> tuple[int, ...]:
    """The axes of the mesh over which an array is divided."""
    placements = enumerate(array.placements)
    return tuple(axis for axis, placement in placements if not placement.is_replicate())
