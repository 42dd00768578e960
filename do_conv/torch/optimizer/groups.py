"""The groups of an optimizer, with W and D' in the place of their kernel while it steps."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from do_conv.adapter import DELTA, array_name
from do_conv.core.errors import broken
from do_conv.torch.optimizer.kernels import TrainedKernel

# The first rate of a group, by a scheduler of PyTorch and without one.
_BY_SCHEDULER, _FIRST = "initial_lr", "first_lr"


class Expanded:
    """A context in which an optimizer's groups hold W and D' in the place of their kernel.

    The groups stay the same dictionaries and lists, which schedulers and optimizers keep. D' stands
    behind the parameters of its group, or in a group of its own where it has options.

    Attributes:
        origins: the number of the group that each of the groups comes from.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        trained: Mapping[Tensor, TrainedKernel],
        depthwise_options: Mapping[str, Any],
    ) -> None:
        self._optimizer, self._trained, self._options = optimizer, trained, depthwise_options
        self.origins: list[int] = []

    def __enter__(self) -> Expanded:
        self.expand()
        return self

    def __exit__(self, *_: object) -> None:
        self.contract()

    def expand(self) -> None:
        """Put W and D' in."""
        groups = self._optimizer.param_groups
        self._kept = [{name: list(group[name]) for name in lists_of(group)} for group in groups]
        self.origins = list(range(len(self._kept)))
        for origin, group in enumerate(list(groups)):
            kernels = [self._trained[p] for p in group["params"] if p in self._trained]
            group["params"][:] = [
                self._trained[p].weight if p in self._trained else p for p in group["params"]
            ]
            deltas: dict[str, list[Any]] = {"params": [kernel.delta for kernel in kernels]}
            if "param_names" in group:
                deltas["param_names"] = [array_name(kernel.name, DELTA) for kernel in kernels]
            if self._options and kernels:
                groups.append({**group, **scheduled(self._options, group), **deltas})
                self.origins.append(origin)
            else:
                for name, members in deltas.items():
                    group[name].extend(members)

    def contract(self) -> None:
        """Put the kernels back."""
        groups = self._optimizer.param_groups  # loading a state replaces the list
        del groups[len(self._kept) :]
        for group, lists in zip(groups, self._kept, strict=True):
            for name, members in lists.items():
                group[name][:] = members


def remember_rate(group: dict[str, Any], options: Mapping[str, Any]) -> None:
    """Keep the first rate of a group, which a rate of D' stands for: a state dict has it, too.

    Raises:
        DOConvError: if it is zero.
    """
    if "lr" not in options or group.get("lr") is None:
        return
    first = float(group.get(_BY_SCHEDULER, group["lr"]))
    if not first:
        raise broken(
            "a group must have a first rate for which that of D' stands",
            "a rate of 0",
            "make the optimizer with its largest rate, then wrap it, then schedule it",
        )
    group.setdefault(_FIRST, first)


def keep_rates(groups: Iterable[dict[str, Any]], before: Iterable[Mapping[str, Any]]) -> None:
    """Give groups the first rates that they had before, where a state that was loaded has none."""
    for group, old in zip(groups, before, strict=True):
        if _FIRST in old:
            group.setdefault(_FIRST, old[_FIRST])


def forget_rates(groups: Iterable[dict[str, Any]]) -> None:
    """Take out what `remember_rate` has kept."""
    for group in groups:
        group.pop(_FIRST, None)


def scheduled(options: Mapping[str, Any], group: Mapping[str, Any]) -> dict[str, Any]:
    """The options of D', with a rate that follows that of its group."""
    return {**options, **_of_delta(options, group, "lr")}


def _of_delta(options: Mapping[str, Any], group: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Rates of D', each in proportion to that of its group."""
    if "lr" not in options or _FIRST not in group:
        return {}
    return {n: options["lr"] * (group[n] / group[_FIRST]) for n in names if n in group}


def has_scheduler(groups: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a scheduler has been made for these groups."""
    return any(_BY_SCHEDULER in group for group in groups)


def schedule_apart(group: dict[str, Any], options: Mapping[str, Any]) -> None:
    """Give a group of D' the first rate that a scheduler of its own would have given it."""
    group.update(_of_delta(options, group, _BY_SCHEDULER))


def are_zero(groups: Iterable[Mapping[str, Any]]) -> bool:
    """Whether all rates are zero; one on an accelerator is not asked for."""
    rates = [group.get("lr") for group in groups]
    is_known = all(not isinstance(r, Tensor) or r.device.type == "cpu" for r in rates)
    return is_known and all(rate is not None and not rate for rate in rates)


def lists_of(group: Mapping[str, Any]) -> list[str]:
    """The entries of a group that have one value for each parameter."""
    return [name for name in ("params", "param_names") if name in group]


def places_of(groups: Iterable[Mapping[str, Any]]) -> dict[Tensor, int]:
    """The number of each parameter in a state dict."""
    return {p: place for place, p in enumerate(p for group in groups for p in group["params"])}


def check_options(optimizer: Optimizer, options: Mapping[str, Any]) -> None:
    """Refuse options of D' that are none of the optimizer's.

    Raises:
        DOConvError: if they are not.
    """
    if not isinstance(options, Mapping):
        raise broken(
            "depthwise_options must be a mapping of options of the optimizer",
            f"a {type(options).__name__}",
            'give a dict, such as {"weight_decay": 0}',
        )
    if options and hasattr(optimizer, "train") and hasattr(optimizer, "eval"):
        raise broken(
            "depthwise_options needs an optimizer that keeps no averages in its groups",
            f"{type(optimizer).__name__}, which has train() and eval()",
            "leave them out",
        )
    known = {*optimizer.defaults, *itertools.chain(*optimizer.param_groups)}
    known -= {"params", "param_names", _BY_SCHEDULER, _FIRST}
    for name, value in options.items():
        if name not in known:
            raise broken(
                f"depthwise_options must be of {', '.join(sorted(known))}, as the options of "
                f"{type(optimizer).__name__}",
                f"'{name}'",
                "correct it, or leave it out",
            )
        if name in ("lr", "weight_decay") and not value >= 0:
            raise broken(
                f"the {name} of D' must be zero or positive",
                f"{value}",
                "give such a number, or leave it out",
            )
