"""An optimizer around another: its groups and states are those of the network's parameters."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.optim import LBFGS, Optimizer

from do_conv.core.errors import broken
from do_conv.torch.optimizer.groups import Expanded, check_options, keep_rates, lists_of, places_of
from do_conv.torch.optimizer.kernels import TrainedKernel
from do_conv.torch.optimizer.live import Live, state_of
from do_conv.torch.optimizer.states import check_saved, packed, unpacked

# The attributes that a copy and a pickle hold.
_SAVED = (
    "defaults", "optimizer", "depthwise_options", "_depthwise_init", "_planned", "_trained",
    "_has_state", "model",
)  # fmt: skip
# The optimizer around another.
_HOLDERS: weakref.WeakValueDictionary[Optimizer, Wrapper] = weakref.WeakValueDictionary()


def with_own_hooks(step: Callable[..., Any]) -> Any:
    """A step with the hooks of its optimizer; the one inside calls those of all optimizers."""

    @functools.wraps(step)
    def hooked(self: Optimizer, *given: Any, **options: Any) -> Any:
        for pre_hook in self._optimizer_step_pre_hooks.values():
            given, options = pre_hook(self, given, options) or (given, options)
        result = step(self, *given, **options)
        for post_hook in self._optimizer_step_post_hooks.values():
            post_hook(self, given, options)
        return result

    hooked.hooked = True  # type: ignore[attr-defined]  # or PyTorch would add those of all
    return hooked


class Wrapper(Optimizer):
    """The groups, the state and the state dicts of an optimizer that trains W and D'.

    Attributes:
        optimizer: the optimizer inside.
        depthwise_options: the options of D' that differ from those of its group.
    """

    def __init__(self, optimizer: Optimizer, depthwise_options: Mapping[str, Any]) -> None:
        check_inner(optimizer, depthwise_options)
        check_options(optimizer, depthwise_options)
        # `__setstate__` makes the hooks; the constructor would also make parameter groups.
        self.__setstate__({"defaults": dict(optimizer.defaults)})
        self.optimizer, self.depthwise_options = optimizer, dict(depthwise_options)
        self._trained: dict[Tensor, TrainedKernel] = {}
        _HOLDERS[optimizer] = self
        self._has_state = False

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The groups of the optimizer inside; they hold the network's own parameters."""
        return self.optimizer.param_groups

    @property  # type: ignore[override]
    def state(self) -> Live:
        """The state of each parameter, once there is one; a kernel's has W, D' and that of both.

        Changes of its entries reach the optimizer inside. W and D' stay where they are removed.
        """
        return state_of(self.optimizer, self._trained, self._has_state)

    @state.setter
    def state(self, state: Mapping[Any, Any]) -> None:
        own = self.state
        own.clear()
        own.update(state)

    def _expanded(self) -> Expanded:
        return Expanded(self.optimizer, self._trained, self.depthwise_options)

    def state_dict(self) -> dict[str, Any]:
        """The state: under the number of each kernel W, D', and what the optimizer has of both."""
        for pre_hook in self._optimizer_state_dict_pre_hooks.values():
            pre_hook(self)
        with self._expanded():
            inner, inside = self.optimizer.state_dict(), places_of(self.param_groups)
        state = {key: value for key, value in inner["state"].items() if not isinstance(key, int)}
        of_parameters = {p: inner["state"][i] for p, i in inside.items() if i in inner["state"]}
        places = places_of(self.param_groups)
        for parameter, place in places.items():
            if parameter in self._trained:
                state[place] = packed(self._trained[parameter], of_parameters)
            else:  # also an empty one, which `torch.distributed.checkpoint` needs
                state[place] = of_parameters.get(parameter, {})
        groups: list[dict[str, Any]] = []
        for saved, group in zip(inner["param_groups"], self.param_groups, strict=False):
            lists = {name: list(group[name]) for name in lists_of(group)}
            groups.append({**saved, **lists, "params": [places[p] for p in group["params"]]})
        whole = {**inner, "state": state, "param_groups": groups}
        for post_hook in self._optimizer_state_dict_post_hooks.values():
            whole = post_hook(self, whole) or whole
        return whole

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load what `state_dict` gave. The network's kernels are compared at the next step.

        Raises:
            DOConvError: if the state has no W and D' for these kernels.
        """
        given = dict(state_dict)
        for pre_hook in self._optimizer_load_state_dict_pre_hooks.values():
            given = pre_hook(self, given) or given
        own, loaded = (
            [len(group["params"]) for group in groups]
            for groups in (self.param_groups, given["param_groups"])
        )
        if own != loaded:
            raise broken(
                f"a state must have groups of {own} parameters, as the optimizer has",
                f"groups of {loaded}",
                "load the state of an optimizer that was made in the same way",
            )
        # Numbers, or names from `torch.distributed.checkpoint`.
        numbers = [number for group in given["param_groups"] for number in group["params"]]
        saved = {
            p: given["state"].get(number, {})
            for p, number in zip(places_of(self.param_groups), numbers, strict=True)
        }
        loaded_kernels = {p: k for p, k in self._trained.items() if saved[p] or p.requires_grad}
        for parameter, kernel in loaded_kernels.items():
            check_saved(kernel, saved[parameter])
        state = {key: value for key, value in given["state"].items() if key not in set(numbers)}
        before = [dict(group) for group in self.param_groups]
        with self._expanded() as expanded:
            inside = places_of(self.param_groups)
            for parameter, values in saved.items():
                for part, its_values in unpacked(parameter, self._trained, values):
                    state[inside[part]] = its_values
            loaded_groups: list[dict[str, Any]] = []
            for group, origin in zip(self.param_groups, expanded.origins, strict=True):
                options = {} if origin == len(loaded_groups) else self.depthwise_options
                params = [inside[p] for p in group["params"]]
                loaded_groups.append({**given["param_groups"][origin], **options, "params": params})
            self.optimizer.load_state_dict({**given, "state": state, "param_groups": loaded_groups})
        keep_rates(self.param_groups, before)
        for parameter, kernel in loaded_kernels.items():
            kernel.load(*(saved[parameter][name] for name, _ in kernel.parts))
        self._has_state = True
        for post_hook in self._optimizer_load_state_dict_post_hooks.values():
            post_hook(self)

    def __getstate__(self) -> dict[str, Any]:
        # As in the base class, without hooks and without the `step` that schedulers replace.
        return {name: value for name, value in self.__dict__.items() if name in _SAVED}


def check_inner(optimizer: Optimizer, depthwise_options: Mapping[str, Any] | None) -> None:
    """Refuse what cannot be the optimizer inside.

    Raises:
        DOConvError: if it is such an optimizer.
    """
    has_parts = all(hasattr(optimizer, name) for name in ("param_groups", "state", "defaults"))
    if not has_parts or isinstance(optimizer, type):
        raise broken(
            "a DOConvOptimizer must be given an optimizer of torch.optim, or of the same kind",
            f"a {type(optimizer).__name__}",
            "give the optimizer first, made from the model's parameters, then the model",
        )
    if isinstance(optimizer, LBFGS) and any(optimizer.state.values()):
        raise broken(
            "an optimizer that has trained must have a state for each parameter",
            "an LBFGS that has stepped, which has one for all",
            "make a new LBFGS",
        )
    if getattr(optimizer, "is_second_order", False):
        raise broken(
            "the optimizer inside must step with the gradients of W and D' alone",
            f"{type(optimizer).__name__}, which differentiates them once more",
            "train DO-Conv layers with it: do_conv.torch.convert(model)",
        )
    holder = _HOLDERS.get(optimizer)
    if holder is not None and holder._trained:
        raise broken(
            "an optimizer may be inside of one DOConvOptimizer only",
            f"a {type(optimizer).__name__} that is inside of another",
            "use the one you have, or give a new optimizer",
        )
    if isinstance(optimizer, Wrapper):
        raise broken(
            "a DOConvOptimizer must hold another kind of optimizer",
            "one in which W and D' are trained already",
            "use the one you have",
        )
    if depthwise_options and isinstance(optimizer, LBFGS):
        raise broken(
            "depthwise_options needs an optimizer with groups of parameters",
            "an LBFGS, which has one group",
            "leave them out",
        )
