"""DO-Conv in the optimizer: the network stays plain, and W and D' are trained beside it.

The loss depends on W and D through W' alone (equation 3 of the paper). So the network keeps W' as
its own weight, and from G = dL/dW' follow, for each input channel,

    dL/dW = G (I + D')^T        dL/dD' = W^T G

An optimizer steps on W and D' with these, and W' = W (I + D') is written back into the network.

gradients    of W and D', from that of W'
kernels      a plain kernel with its W and D'
planned      which kernels of a model have them
together     kernels of the same sizes as one
watch        whether somebody else has written a kernel
wrapper      the groups and the state of the optimizer inside, as the network's parameters see them
groups       W and D' in the place of their kernel while the optimizer inside works
states       what a state dict holds of a kernel
live         the state as others read and change it
doors        training that goes on in layers, or has begun in them
layers       W and D' of layers in an optimizer
fused        steps of SGD and Adam by the C loops
sharded      a kernel that `fully_shard` divides among processes
collectives  what such processes do together
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from do_conv.core import rules
from do_conv.core.rules import DepthwiseInit
from do_conv.models import checks
from do_conv.models.choices import Where
from do_conv.models.decisions import DMul
from do_conv.models.plan import Plan, of_trained
from do_conv.table import counted
from do_conv.torch.models.planning import described_in_place, plan
from do_conv.torch.models.structure import unwrapped
from do_conv.torch.optimizer import collectives, fused, together, watch
from do_conv.torch.optimizer.doors import Doors
from do_conv.torch.optimizer.groups import Expanded, are_zero, remember_rate, scheduled
from do_conv.torch.optimizer.kernels import TrainedKernel
from do_conv.torch.optimizer.live import forget, forget_others, nested
from do_conv.torch.optimizer.planned import planned
from do_conv.torch.optimizer.sharded import ShardedKernel, kernel_of
from do_conv.torch.optimizer.wrapper import with_own_hooks


class DOConvOptimizer(Doors):
    """An optimizer that trains a plain network's convolutions as DO-Conv layers.

    It wraps any optimizer of `torch.optim` or of the same kind, and takes its place: schedulers,
    `GradScaler`, gradient accumulation and checkpoints go on as before. The network needs no
    DO-Conv layers, and nothing has to be folded. Training is that of the converted network, to
    rounding: of `convert(model)` with the same optimizer over all its parameters.

    Args:
        optimizer: the optimizer, over parameters of the model.
        model: a module; of a wrapper (`DataParallel`, `DistributedDataParallel`, a compiled
            model), what it wraps. Its sizes must be known: run a lazy network once before. Call
            `fully_shard` before, too.
        where: which layers, as for `convert`.
        d_mul: D_mul, at least |K|, the default; or a function of a layer's `Spec`.
        depthwise_init: "identity", which changes no bit of the network, or "he" (Table 7), which
            writes its kernels at once.
        depthwise_options: the options of D' that differ from those of the group its kernel is in,
            such as `{"weight_decay": 0}`. A rate, `lr`, stands for the first rate of the group, and
            a schedule of the group's rate is one of D' too.

    Attributes:
        optimizer: the optimizer inside.
        model: the network.
        kernels: the kernels that have W and D', by the name of their layer.

    Raises:
        DOConvError: if no kernel of the model is in the optimizer, a size is not known yet, or an
            option breaks a rule.

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
        super().__init__(optimizer, {} if depthwise_options is None else depthwise_options)
        self._depthwise_init = rules.depthwise_init(depthwise_init)
        forget_others(optimizer)
        self.model = unwrapped(model)
        self._planned = planned(self.model, where, d_mul)
        for group in optimizer.param_groups:
            self._adopt(group)
        checks.something_to_optimize(
            len(self._trained), type(optimizer).__name__, "make it from model.parameters()"
        )

    def _adopt(self, group: dict[str, Any]) -> None:
        """Give W and D' to the planned kernels among the parameters of a group."""
        remember_rate(group, self.depthwise_options)
        found = [p for p in group["params"] if p in self._planned and p not in self._trained]
        made = [
            kernel_of(self.optimizer, p, *self._planned[p], self._depthwise_init) for p in found
        ]
        for kernel in made:
            for one in nested(self.optimizer):
                inherited = kernel.inherited(one.state.pop(kernel.parameter, {}))
                if inherited:
                    one.state[kernel.weight] = inherited
        collectives.start_equally(made)
        self._trained.update(zip(found, made, strict=True))

    @property
    def kernels(self) -> dict[str, TrainedKernel]:
        """The kernels that have W and D', by the name of their layer."""
        return {kernel.name: kernel for kernel in self._trained.values()}

    def plan(self, *, input_shape: tuple[int, ...] | None = None) -> Plan:
        """The plan of `do_conv.torch.plan`, in which the kernels that are trained are chosen.

        Args:
            input_shape: of the batch `(N, C, *size)` to count multiply-accumulates for.
        """
        specs = {
            one.name: self._trained[one.weight].spec
            for one in described_in_place(self.model).convolutions
            if one.weight in self._trained
        }
        return of_trained(plan, self.model, specs, input_shape)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of the network's parameters; its planned kernels get W and D'."""
        self.optimizer.add_param_group(param_group)
        self._adopt(self.param_groups[-1])

    def take_weights(self) -> None:
        """Start from the kernels that the network has now, as when the optimizer was made."""
        for kernel in self._trained.values():
            kernel.start()
            forget(self.optimizer, [part for _, part in kernel.parts])
        collectives.start_equally(self._trained.values())

    def restore_weights(self) -> None:
        """Write the kernels that W and D' compose to into the network."""
        for kernel in self._trained.values():
            kernel.compose()

    @with_own_hooks
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step W, D' and all other parameters, and write W' into the network.

        Args:
            closure: evaluates the model and returns the loss, as for the optimizer inside, which
                may call it several times.

        Raises:
            DOConvError: if somebody else has written a kernel since the last step, or
                `fully_shard` has divided it. Nothing has changed then.
        """
        collectives.check_order(self.model, self._trained.values())
        if closure is None or not fused.can(self.optimizer):
            return self._step(closure)
        own = watch.check(self._kernels())
        with torch.enable_grad():  # these evaluate once, before they do anything else
            loss = closure()
        self._step(None, own)
        return loss

    def _step(self, closure: Callable[[], Any] | None, asked: watch.Own | None = None) -> Any:
        # `torch.distributed.checkpoint` makes the state that it loads into by a step with rates and
        # gradients of zero, maybe after it has loaded the model. It changes no W and no D'.
        is_moving = closure is not None or not are_zero(self.param_groups) or self._has_gradients()
        if closure is None:
            given = [k for k in self._trained.values() if k.parameter.grad is not None]
            kernels = given if is_moving else []
        else:
            kernels = self._kernels()
        own = watch.check(kernels, asked=asked)
        try:
            stepped = self._step_fused() if closure is None and is_moving else []
            self._differentiate(stepped)
            with self._expanded() as expanded:
                evaluate = closure and self._evaluation(closure, kernels, expanded, own)
                loss = self.optimizer.step(evaluate) if evaluate else self.optimizer.step()
            together.compose((k for k in kernels if k not in stepped), own)
        finally:
            self._forget_gradients()
        self._has_state = True
        return loss

    def _kernels(self) -> list[TrainedKernel]:
        """The kernels that are not frozen."""
        return [kernel for kernel in self._trained.values() if kernel.parameter.requires_grad]

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

        Raises:
            DOConvError: if `fully_shard` has divided the model since the optimizer was made.
        """
        collectives.check_order(self.model, self._trained.values())
        self._differentiate()
        with self._expanded():
            inside = [p for group in self.param_groups for p in group["params"]]
            norm = collectives.total_norm([p.grad for p in inside if p.grad is not None], norm_type)
        self._forget_gradients()
        collectives.clip(
            (p for group in self.param_groups for p in group["params"]), max_norm, norm
        )
        return norm

    def _has_gradients(self) -> bool:
        """Whether a kernel that this process has as a whole has a gradient that is not zero."""
        return any(
            bool(kernel.grad.any())
            for kernel in self._trained.values()
            if kernel.parameter.grad is not None and not isinstance(kernel, ShardedKernel)
        )

    def _step_fused(self) -> list[TrainedKernel]:
        """Step the kernels that the C loops can step, and return them."""
        groups: list[fused.Group] = []
        for group in self.param_groups:
            kernels = [
                self._trained[p]
                for p in group["params"]
                if p.grad is not None and p in self._trained
            ]
            delta_options = {**group, **scheduled(self.depthwise_options, group)}
            groups.append((kernels, group, delta_options))
        return fused.step(self.optimizer, groups)

    def _differentiate(self, but: Collection[TrainedKernel] = ()) -> None:
        """Give W and D' their gradients, where their kernel has one."""
        for kernel in self._trained.values():
            kernel.forget_gradients()
        given = [k for k in self._trained.values() if k.parameter.grad is not None and k not in but]
        for kernel in given:
            kernel.check_shapes()
        together.differentiate(given)
        collectives.sum_gradients(self._trained.values())

    def _forget_gradients(self) -> None:
        """Free the gradients of W and D', and zero those of W' that the optimizer inside zeroed."""
        for kernel in self._trained.values():
            kernel.follow_zeroing()
            kernel.forget_gradients()

    def _evaluation(
        self,
        closure: Callable[[], Any],
        kernels: list[TrainedKernel],
        expanded: Expanded,
        own: watch.Own,
    ) -> Callable[[], Any]:
        """The closure between W' before it and the gradients of W and D' after it."""

        def evaluate() -> Any:
            together.compose(kernels, own)
            self._forget_gradients()
            expanded.contract()  # a closure calls `zero_grad`
            with torch.enable_grad():
                loss = closure()
            expanded.expand()
            watch.check(kernels, asked=own)
            self._differentiate()
            return loss

        return evaluate

    def __getattr__(self, name: str) -> Any:
        """An attribute of the optimizer inside, or a method such as `train` and `eval`."""
        if name.startswith("_") or "optimizer" not in vars(self) or hasattr(type(self), name):
            return object.__getattribute__(self, name)  # raises
        found = getattr(self.optimizer, name)
        return functools.partial(self._call, found) if inspect.ismethod(found) else found

    @torch.no_grad()
    def _call(self, method: Callable[..., Any], *given: Any, **options: Any) -> Any:
        """Let a method of the optimizer inside read and write W and D' in the place of W'."""
        kernels = self._kernels()
        own = watch.check(kernels)
        self._differentiate()
        try:
            with self._expanded():
                result = method(*given, **options)
            together.compose(kernels, own)
        finally:
            self._forget_gradients()
        return result

    def __repr__(self) -> str:
        """The optimizer inside, and how many kernels are trained as W and D'."""
        return f"{type(self).__name__}({self.optimizer!r}, {counted(len(self._trained), 'kernel')})"
