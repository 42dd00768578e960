"""The groups of an optimizer, with W and D' in the place of their kernel while it steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from do_conv.adapter import DELTA, array_name
from do_conv.torch.optimizer.kernels import TrainedKernel


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
        rates: list[Any],
    ) -> None:
        self._optimizer, self._trained, self._options = optimizer, trained, depthwise_options
        self._rates = rates
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
                options = scheduled(self._options, group, self._rates[origin])
                groups.append({**group, **options, **deltas})
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


def rate_of(group: Mapping[str, Any]) -> Any:
    """The rate of a group, as it is now."""
    rate = group.get("lr")
    return rate.clone() if isinstance(rate, Tensor) else rate


def scheduled(options: Mapping[str, Any], group: Mapping[str, Any], first: Any) -> dict[str, Any]:
    """The options of D', with a rate that follows that of its group."""
    first = group.get("initial_lr", first)
    if "lr" not in options or not first:
        return dict(options)
    return {**options, "lr": options["lr"] * (group["lr"] / first)}


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
