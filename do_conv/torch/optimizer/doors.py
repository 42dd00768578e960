"""From W and D' in the optimizer to W and D' in layers, and back, in the middle of training."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer

from do_conv.adapter import DELTA
from do_conv.core.errors import broken
from do_conv.core.rules import DepthwiseInit
from do_conv.core.spec import Spec
from do_conv.models import checks
from do_conv.models.sharing import readers
from do_conv.torch.layout import laid_out_like
from do_conv.torch.models.classes import class_for
from do_conv.torch.models.copies import copied
from do_conv.torch.models.folding import check_foldable, fold, fold_inside
from do_conv.torch.models.guards import guard
from do_conv.torch.models.planning import described
from do_conv.torch.models.sharding import check_whole
from do_conv.torch.models.structure import holders, unwrapped
from do_conv.torch.optimizer import watch
from do_conv.torch.optimizer.groups import (
    check_options,
    forget_rates,
    has_scheduler,
    lists_of,
    places_of,
    remember_rate,
    schedule_apart,
)
from do_conv.torch.optimizer.kernels import TrainedKernel
from do_conv.torch.optimizer.layers import Held, held_layers, options_of_deltas
from do_conv.torch.optimizer.live import nested
from do_conv.torch.optimizer.wrapper import Wrapper, check_inner

DoorsT = TypeVar("DoorsT", bound="Doors")


class Doors(Wrapper):
    """An optimizer of W and D' whose training can go on in layers, or has begun in them."""

    model: nn.Module
    _planned: dict[Tensor, tuple[str, Spec]]
    _depthwise_init: DepthwiseInit

    def to_layers(self, *, inplace: bool = False) -> tuple[Any, Optimizer]:
        """Move W, D' and their states into `DOConv` layers, in which training goes on.

        The layers of `kernels` become DO-Conv layers, as `convert` makes them, and the optimizer
        inside gets their W and D'. Training goes on as it would have here, to rounding. Call it
        between two steps, since gradients are dropped. A wrapper of the network, such as
        `DistributedDataParallel`, has to be made anew.

        Args:
            inplace: change the network and the optimizer inside, not copies; then this optimizer
                trains the layers, too.

        Returns:
            the network with layers, and its optimizer, of the class of the one inside.

        Raises:
            DOConvError: if somebody else has written a kernel since the last step, the optimizer
                has a state that is not divided among parameters, or a kernel is one of a layer that
                `convert` leaves.
        """
        _check_states(self.optimizer)
        check_whole(self.model, "make layers before fully_shard")
        watch.check(list(self._trained.values()), is_late=lambda _: False)
        _check_schedulers(self.param_groups, inplace and bool(self.depthwise_options))
        for one in described(self.model).convolutions:
            if one.reason is not None and one.weight in self._trained:
                checks.kernel_for_a_layer(one.name, f"because {one.reason}", "optimizer")
        its = self
        if not inplace:
            memo = _shared(self.optimizer, self.model)
            copied(self.model, memo)
            _copy_of(self.optimizer, memo)
            its = copy.deepcopy(self, memo)
        its._become_layers()
        return its.model, its.optimizer

    @classmethod
    def from_layers(
        cls: type[DoorsT], optimizer: Optimizer, model: Any, *, inplace: bool = False
    ) -> tuple[Any, DoorsT]:
        """Move W, D' and their states out of `DOConv` layers, and fold the network.

        Training goes on as it would have with layers, to rounding. Call it between two steps,
        since gradients are dropped. Layers whose W and D' are not in the optimizer are folded.

        Args:
            optimizer: an optimizer over parameters of the model.
            model: a module with DO-Conv layers; of a wrapper, what it wraps.
            inplace: change the model and the optimizer, not copies.

        Returns:
            the plain network, and its optimizer, which has the given one, or its copy, inside.

        Raises:
            DOConvError: if a layer or the groups of the optimizer break a rule; then nothing has
                changed.
        """
        check_inner(optimizer, None)
        _check_states(optimizer)
        model = unwrapped(model)
        check_whole(model, "move W and D' into an optimizer before fully_shard")
        if not inplace:
            memo = _shared(optimizer, model)
            model = copied(model, memo)
            optimizer = _copy_of(optimizer, memo)
        found = held_layers(model, optimizer.param_groups)
        options = options_of_deltas(found, optimizer.param_groups, optimizer.defaults)
        deltas = {held.delta for held in found}
        groups = [group["params"] for group in optimizer.param_groups if group["params"]]
        are_apart = any(map(deltas.issuperset, groups))
        _check_schedulers(optimizer.param_groups, inplace and are_apart)
        check_options(optimizer, options)
        for group in optimizer.param_groups:
            remember_rate(dict(group), options)
        check_foldable(model, check_finite=False)
        saved, numbers = _saved(optimizer), places_of(optimizer.param_groups)
        optimizer.zero_grad()
        _leave_out(optimizer, deltas)
        model = fold(model, inplace=True, check_finite=False)
        _keep_parameters(model, found)
        its = cls.__new__(cls)
        Wrapper.__init__(its, optimizer, options)
        its.model, its._depthwise_init, its._has_state = model, "identity", True
        for group in optimizer.param_groups:
            remember_rate(group, options)
        its._planned = {held.parameter: (held.name, held.spec) for held in found}
        for held in found:
            values = held.weight, held.delta
            made = TrainedKernel(held.parameter, held.name, held.spec, held.depthwise_init, values)
            its._trained[held.parameter] = made
            numbers[made.weight], numbers[made.delta] = (
                numbers[held.parameter], numbers[held.delta],
            )  # fmt: skip
        with its._expanded():
            _give_states(saved, numbers)
        return model, its

    def _become_layers(self) -> None:
        """Turn the network's kernels into layers that hold W and D', and keep none here."""
        self.optimizer.zero_grad()
        count = len(self.param_groups)
        self._expanded().expand()
        for group in self.param_groups[count:]:
            schedule_apart(group, self.depthwise_options)
        forget_rates(self.param_groups)
        saved, numbers = _saved(self.optimizer), places_of(self.param_groups)
        of_layers: dict[Tensor, Tensor] = {}
        read_by = readers(holders(self.model))
        for parameter, kernel in self._trained.items():
            delta = _moved(kernel, read_by[id(parameter)])
            of_layers[kernel.weight], of_layers[kernel.delta] = parameter, delta
        guard(self.model, fold_inside)
        deltas = {of_layers[kernel.delta] for kernel in self._trained.values()}
        order: dict[Tensor, int] = {p: place for place, p in enumerate(self.model.parameters())}
        for group in self.param_groups:
            group["params"][:] = [of_layers.get(p, p) for p in group["params"]]
            _sort(group, order, deltas)
        numbers = {of_layers.get(p, p): number for p, number in numbers.items()}
        _give_states(saved, numbers)
        self._trained, self._planned, self.depthwise_options = {}, {}, {}


@torch.no_grad()
def _moved(kernel: TrainedKernel, layers: Iterable[Any]) -> nn.Parameter:
    """Give W and D' of a kernel to the layers that hold it, and return their D'."""
    parameter, spec = kernel.parameter, kernel.spec
    weight, delta = (part.detach().to(parameter.dtype) for _, part in kernel.parts)
    if not spec.has_plain_weight:  # without spatial axes W has no memory format
        delta = laid_out_like(delta, parameter)
    made = nn.Parameter(delta.clone(), parameter.requires_grad)
    if spec.has_plain_weight:
        parameter.copy_(weight)
    else:
        parameter.data = weight.clone()
    for layer in layers:
        layer.__class__ = class_for(type(layer))
        layer.spec, layer.composition, layer.depthwise_init = spec, "kernel", kernel.depthwise_init
        layer.register_parameter(DELTA, made)
    return made


def _keep_parameters(model: nn.Module, found: Iterable[Held]) -> None:
    """Make W' the parameter that was W, also where it has another shape: its state moves, too."""
    read_by = readers(holders(model))
    for held in found:
        folded: Any = model.get_submodule(held.name)
        kernel = folded.weight
        if kernel is not held.parameter:
            held.parameter.data = kernel.detach()
            for layer in read_by[id(kernel)]:
                layer.weight = held.parameter


def _leave_out(optimizer: Optimizer, deltas: set[Any]) -> None:
    """Take each D' out of its group, and groups out that held nothing else."""
    kept = []
    for group in optimizer.param_groups:
        places = [i for i, p in enumerate(group["params"]) if p not in deltas]
        if places or not group["params"]:
            kept.append(group)
        for name in lists_of(group):
            group[name][:] = [group[name][i] for i in places]
    optimizer.param_groups[:] = kept


def _sort(group: dict[str, Any], order: dict[Tensor, int], deltas: set[Tensor]) -> None:
    """Put each D' where a group of the converted model's parameters has it.

    A group that was not in the order of the model keeps the order that it has.
    """
    places = [order.get(p, len(order)) for p in group["params"]]
    before = [place for place, p in zip(places, group["params"], strict=True) if p not in deltas]
    if before == sorted(before):
        by_place = sorted(range(len(places)), key=places.__getitem__)
        for name in lists_of(group):
            group[name][:] = [group[name][i] for i in by_place]


# The states of an optimizer, and of those that it is around.
Saved = list[tuple[Optimizer, dict[str, Any]]]


def _saved(optimizer: Optimizer) -> Saved:
    _, *others = nested(optimizer)
    return [(optimizer, optimizer.state_dict()), *((o, Optimizer.state_dict(o)) for o in others)]


def _give_states(saved: Saved, numbers: dict[Tensor, int]) -> None:
    """Load states whose numbers are those that the parameters had before."""
    (outermost, of_outermost), *others = saved
    shared = [one for one, _ in others if one.param_groups is outermost.param_groups]
    groups = [
        {**group, "params": [numbers[p] for p in group["params"]]}
        for group in outermost.param_groups
    ]
    for one, state in others:
        Optimizer.load_state_dict(one, {**state, "param_groups": groups})
    outermost.load_state_dict({**of_outermost, "param_groups": groups})
    for one in shared:
        one.param_groups = outermost.param_groups


def _shared(optimizer: Optimizer, model: nn.Module) -> dict[int, Any]:
    """The parameters that are none of the model, which copies of both share."""
    own = set(map(id, model.parameters()))
    every = (p for group in optimizer.param_groups for p in group["params"])
    return {id(p): p for p in every if id(p) not in own}


def _copy_of(optimizer: Optimizer, memo: dict[int, Any]) -> Optimizer:
    """A copy with the attributes that `copy.deepcopy` leaves out, but not a scheduler's `step`."""
    twin = copy.deepcopy(optimizer, memo)
    own = {k: v for k, v in vars(optimizer).items() if k not in vars(twin) and k != "step"}
    for name, value in own.items():
        is_one = isinstance(value, Optimizer)
        vars(twin)[name] = _copy_of(value, memo) if is_one else copy.deepcopy(value, memo)
    return twin


def _check_schedulers(groups: Iterable[Mapping[str, Any]], changes_groups: bool) -> None:
    """Refuse to change, in place, the number of groups that a scheduler counts on.

    Raises:
        DOConvError: if there is such a scheduler.
    """
    if changes_groups and has_scheduler(groups):
        raise broken(
            "an optimizer with a scheduler must keep its groups where it is changed in place",
            "one in which D' has options, and so a group, of its own",
            "leave out inplace, and make a scheduler for the optimizer that is returned",
        )


def _check_states(optimizer: Optimizer) -> None:
    """Refuse an optimizer whose state cannot be divided among W and D'.

    Raises:
        DOConvError: if it is such an optimizer.
    """
    if isinstance(optimizer, LBFGS):
        raise broken(
            "an optimizer that goes on with W and D' elsewhere must have a state for each "
            "parameter",
            "an LBFGS, which has one for all",
            "make a new optimizer: convert(model) or fold(model) changes no output",
        )
