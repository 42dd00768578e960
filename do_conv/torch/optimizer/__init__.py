"""DO-Conv in the optimizer: the network stays plain, and W and D' are trained beside it.

The loss depends on W and D through W' alone (equation 3 of the paper). So the network keeps W' as
its own weight, and from G = dL/dW' follow, for each input channel,

    dL/dW = G (I + D')^T        dL/dD' = W^T G

An optimizer steps on W and D' with these, and W' = W (I + D') is written back into the network.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from do_conv.core import rules
from do_conv.core.errors import broken
from do_conv.core.rules import DepthwiseInit
from do_conv.core.spec import Spec
from do_conv.models.choices import Where
from do_conv.models.decisions import DMul, to_convert
from do_conv.torch.models.planning import described
from do_conv.torch.models.sharding import check_whole
from do_conv.torch.models.structure import unwrapped
from do_conv.torch.optimizer import fused
from do_conv.torch.optimizer.groups import (
    Expanded,
    are_zero,
    lists_of,
    places_of,
    rate_of,
    scheduled,
)
from do_conv.torch.optimizer.kernels import TrainedKernel
from do_conv.torch.optimizer.states import check_saved, packed, unpacked

# What a copy and a pickle hold.
_SAVED = (
    "defaults", "optimizer", "depthwise_options", "_depthwise_init", "_planned", "_trained",
    "_rates", "_has_state",
)  # fmt: skip


class DOConvOptimizer(Optimizer):
    """An optimizer that trains a plain network's convolutions as DO-Conv layers.

    It wraps any optimizer of `torch.optim` or of the same kind, and takes its place: schedulers,
    `GradScaler`, gradient accumulation and checkpoints go on as before. The network needs no
    layers of ours, and nothing has to be folded. Training is that of the converted network, to
    rounding: of `convert(model)` with the same optimizer over all its parameters.

    Args:
        optimizer: the optimizer, over parameters of the model.
        model: a module; of a wrapper (`DataParallel`, `DistributedDataParallel`, a compiled
            model), what it wraps. Its sizes must be known: run a lazy network once before.
        where: which layers, as for `convert`.
        d_mul: D_mul, at least |K|, the default; or a function of a layer's `Spec`.
        depthwise_init: "identity", which changes no bit of the network, or "he" (Table 7), which
            writes its kernels at once.
        depthwise_options: the options of D' that differ from those of the group its kernel is in,
            such as `{"weight_decay": 0}`. A rate, `lr`, stands for the first rate of the group, and
            a schedule of the group's rate is one of D' too.

    Attributes:
        optimizer: the optimizer inside.
        kernels: the kernels that have W and D', by the name of their layer.

    Raises:
        DOConvError: if no kernel of the model is in the optimizer, a size is not known yet,
            `fully_shard` has divided the model, or an option breaks a rule.

    Example:
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> optimizer = do_conv.torch.DOConvOptimizer(optimizer, model)
    """

    def __init__(
        self,
        optimizer: Optimizer,
        model: nn.Module,
        *,
        where: Where = None,
        d_mul: DMul = None,
        depthwise_init: DepthwiseInit = "identity",
        depthwise_options: Mapping[str, Any] | None = None,
    ) -> None:
        _check_inner(optimizer, depthwise_options)
        # The base class makes its hooks here too: its constructor would make groups of its own.
        self.__setstate__({"defaults": dict(optimizer.defaults)})
        self.optimizer = optimizer
        self.depthwise_options = dict(depthwise_options or {})
        self._depthwise_init = rules.depthwise_init(depthwise_init)
        self._planned = _planned(unwrapped(model), where, d_mul)
        self._trained: dict[Tensor, TrainedKernel] = {}
        self._rates: list[Any] = []
        self._has_state = False
        for group in optimizer.param_groups:
            self._adopt(group)
        if not self._trained:
            raise broken(
                "an optimizer must hold a kernel of the model that can be over-parameterized",
                f"a {type(optimizer).__name__} without one",
                "make it from model.parameters(), or look at plan(model)",
            )

    def _adopt(self, group: Mapping[str, Any]) -> None:
        """Give W and D' to the planned kernels among the parameters of a group."""
        self._rates.append(rate_of(group))
        found = [p for p in group["params"] if p in self._planned and p not in self._trained]
        made = [TrainedKernel(p, *self._planned[p], self._depthwise_init) for p in found]
        for kernel in made:
            inherited = kernel.inherited(self.optimizer.state.pop(kernel.parameter, {}))
            if inherited:
                self.optimizer.state[kernel.weight] = inherited
        _make_equal_everywhere([kernel for kernel in made if kernel.is_drawn])
        self._trained.update(zip(found, made, strict=True))

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The groups of the optimizer inside; they hold the network's own parameters."""
        return self.optimizer.param_groups

    @property
    def state(self) -> dict[Any, Any]:  # type: ignore[override]
        """The state of each parameter, once there is one; a kernel's has W, D' and that of both."""
        inner = self.optimizer.state
        if not (inner or self._has_state):
            return {}
        own = {part for kernel in self._trained.values() for _, part in kernel.parts}
        state = {key: value for key, value in inner.items() if key not in own}
        own_states = {p: packed(k, inner) for p, k in self._trained.items()}
        return defaultdict(dict, {**state, **own_states})

    @property
    def kernels(self) -> dict[str, TrainedKernel]:
        """The kernels that have W and D', by the name of their layer."""
        return {kernel.name: kernel for kernel in self._trained.values()}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of the network's parameters; its planned kernels get W and D'."""
        self.optimizer.add_param_group(param_group)
        self._adopt(self.param_groups[-1])

    def take_weights(self) -> None:
        """Start from the kernels that the network has now, as when the optimizer was made."""
        for kernel in self._trained.values():
            kernel.start()
            for _, part in kernel.parts:
                self.optimizer.state.pop(part, None)
        _make_equal_everywhere([k for k in self._trained.values() if k.is_drawn])

    def restore_weights(self) -> None:
        """Write the kernels that W and D' compose to into the network."""
        for kernel in self._trained.values():
            kernel.compose()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step W, D' and all other parameters, and write W' into the network.

        Args:
            closure: evaluates the model and returns the loss, as for the optimizer inside, which
                may call it several times.

        Raises:
            DOConvError: if somebody else has written a kernel since the last step. Nothing has
                changed then.
        """
        # With rates of zero `torch.distributed.checkpoint` makes the state that it loads, maybe
        # after the model's. Such a step moves no W and no D'.
        is_moving = closure is not None or not are_zero(self.param_groups)
        for kernel in self._trained.values():
            if closure is not None or (is_moving and kernel.parameter.grad is not None):
                kernel.check()
        try:
            if closure is None:
                self._differentiate(self._step_fused() if is_moving else ())
                with self._expanded():
                    loss = self.optimizer.step()
            else:
                with self._expanded() as expanded:
                    loss = self.optimizer.step(self._evaluation(closure, expanded))
            for kernel in self._trained.values():
                if is_moving and kernel.weight.grad is not None:
                    kernel.compose()
        finally:
            for kernel in self._trained.values():
                kernel.forget_gradients()
        self._has_state = True
        return loss

    @torch.no_grad()
    def clip_grad_norm_(self, max_norm: float, norm_type: float = 2.0) -> Tensor:
        """Clip the gradients to a norm, as `torch.nn.utils.clip_grad_norm_` does with layers.

        The gradients of W and D' count, not those of W'. They are linear in those of W', which are
        scaled. With a `GradScaler` call its `unscale_` first.

        Args:
            max_norm: the largest norm of all gradients together.
            norm_type: the p of the norm, or infinity.

        Returns:
            the norm that they had, of all parameters of the optimizer together.
        """
        self._differentiate()
        with self._expanded():
            inside = [p for group in self.param_groups for p in group["params"]]
            norm = get_total_norm([p.grad for p in inside if p.grad is not None], norm_type)
        for kernel in self._trained.values():
            kernel.forget_gradients()
        own = [p for group in self.param_groups for p in group["params"]]
        clip_grads_with_norm_(own, max_norm, norm)
        return norm

    def _step_fused(self) -> set[TrainedKernel]:
        """Step the kernels that the C loops can step, and return them."""
        stepped = set()
        for group, rate in zip(self.param_groups, self._rates, strict=True):
            delta_group = {**group, **scheduled(self.depthwise_options, group, rate)}
            for parameter in group["params"]:
                kernel = self._trained.get(parameter)
                if kernel is None or parameter.grad is None:
                    continue
                if fused.can_step(self.optimizer, kernel, group, delta_group):
                    fused.step(self.optimizer, kernel, group, delta_group)
                    stepped.add(kernel)
        return stepped

    def _differentiate(self, but: Collection[TrainedKernel] = ()) -> None:
        """Give W and D' their gradients, where their kernel has one."""
        for kernel in self._trained.values():
            kernel.forget_gradients()
            if kernel.parameter.grad is not None and kernel not in but:
                kernel.differentiate()

    def _evaluation(self, closure: Callable[[], Any], expanded: Expanded) -> Callable[[], Any]:
        """The closure between W' before it and the gradients of W and D' after it."""

        def evaluate() -> Any:
            for kernel in self._trained.values():
                kernel.compose()
            expanded.contract()  # a closure calls `zero_grad`
            with torch.enable_grad():
                loss = closure()
            expanded.expand()
            self._differentiate()
            return loss

        return evaluate

    def _expanded(self) -> Expanded:
        return Expanded(self.optimizer, self._trained, self.depthwise_options, self._rates)

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
            else:  # an empty one too, which `torch.distributed.checkpoint` asks for
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
        for parameter, kernel in loaded_kernels.items():
            kernel.load(*(saved[parameter][name] for name, _ in kernel.parts))
        self._has_state = True
        for post_hook in self._optimizer_load_state_dict_post_hooks.values():
            post_hook(self)

    def __getstate__(self) -> dict[str, Any]:
        # As in the base class without hooks, and without the `step` that schedulers replace.
        return {name: value for name, value in self.__dict__.items() if name in _SAVED}

    def __repr__(self) -> str:
        """The optimizer inside, and how many kernels are trained as W and D'."""
        return f"{type(self).__name__}({self.optimizer!r}, {len(self._trained)} kernels)"


def _check_inner(optimizer: Optimizer, depthwise_options: Mapping[str, Any] | None) -> None:
    """Refuse what cannot be the optimizer inside.

    Raises:
        DOConvError: if it is such an optimizer.
    """
    if isinstance(optimizer, DOConvOptimizer):
        raise broken(
            "a DOConvOptimizer must hold another kind of optimizer",
            "one in which W and D' are trained already",
            "use the one you have",
        )
    if depthwise_options and isinstance(optimizer, torch.optim.LBFGS):
        raise broken(
            "depthwise_options needs an optimizer with groups of parameters",
            "an LBFGS, which has one group",
            "leave them out",
        )


def _planned(model: nn.Module, where: Where, d_mul: DMul) -> dict[Tensor, tuple[str, Spec]]:
    """The kernels of a model that would be over-parameterized: name of the layer, and sizes."""
    check_whole(model, "make the optimizer before fully_shard")
    planned: dict[Tensor, tuple[str, Spec]] = {}
    for layer, row in to_convert(described(model), where, d_mul, "kernel"):
        rules.built(row.name, not is_lazy(layer.weight))
        assert row.spec is not None
        planned.setdefault(layer.weight, (row.name, row.spec))
    return planned


def _make_equal_everywhere(kernels: list[TrainedKernel]) -> None:
    """Let every process have the random numbers of the first, as DistributedDataParallel does."""
    if kernels and distributed.is_available() and distributed.is_initialized():
        for kernel in kernels:
            for _, part in kernel.parts:
                distributed.broadcast(part.detach(), 0)
            kernel.compose()
