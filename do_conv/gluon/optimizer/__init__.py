"""DO-Conv in the optimizer: the network stays plain, and W and D' are trained beside it.

The loss depends on W and D through W' alone (equation 3 of the paper). So the network keeps W' as
its own weight, and from G = dL/dW' follow, for each input channel,

    dL/dW = G (I + D')^T        dL/dD' = W^T G

A trainer steps on W and D' with these, and W' = W (I + D') is written back into the network.
"""

from __future__ import annotations

import itertools
from typing import Any

from mxnet import gluon

from do_conv.core import rules
from do_conv.core.rules import DepthwiseInit
from do_conv.gluon.models.planning import described_in_place, plan
from do_conv.gluon.optimizer import doors, fused, states
from do_conv.gluon.optimizer.kernels import TrainedKernel, check, finish
from do_conv.gluon.optimizer.options import (
    among,
    check_contexts,
    check_optimizer,
    check_store,
    check_trainer,
    planned,
)
from do_conv.models.choices import Where
from do_conv.models.decisions import DMul
from do_conv.models.plan import Plan, of_trained
from do_conv.table import counted


class DOConvTrainer(gluon.Trainer):
    """A `gluon.Trainer` that trains a plain network's convolutions as DO-Conv layers.

    It takes the place of the plain trainer: rates and their schedules, micro-batches, frozen
    parameters, several contexts and saved states go on as before. The network needs no DO-Conv
    layers, and nothing has to be folded. Training is that of the converted network, to rounding: of
    `convert(net)` with the same optimizer over all its parameters. `lr_mult`, `wd_mult` and
    `grad_req` of a kernel are those of its W and D'.

    Args:
        net: a block, whose sizes must be known: initialize it, and run it once. Kernels inside of
            a `SymbolBlock` are trained, too.
        optimizer, optimizer_params, kvstore, compression_params: as for `gluon.Trainer`, but for an
            asynchronous store.
        update_on_kvstore: False or None: the trainer steps on W and D' itself.
        params: the parameters to train, as `gluon.Trainer` takes them, such as
            `net.collect_params(".*weight")`; None is all of the network. Other kernels stay as they
            are.
        where: which layers, as for `convert`; a convolution of a graph has the name that it has
            there.
        d_mul: D_mul, at least |K|, the default; or a function of a layer's `Spec`.
        depthwise_init: "identity", which changes no bit of the network, or "he" (Table 7), which
            writes its kernels at once.

    Attributes:
        net: the network.
        kernels: the kernels that have W and D', by the name of their layer.

    Raises:
        DOConvError: if no kernel of the network can be over-parameterized, a size is not known
            yet, or an option breaks a rule.

    Example:
        >>> options = {"learning_rate": 0.1, "momentum": 0.9}
        >>> trainer = do_conv.gluon.DOConvTrainer(net, "sgd", options)
    """

    _params: list[Any]

    def __init__(
        self,
        net: Any,
        optimizer: Any,
        optimizer_params: dict[str, Any] | None = None,
        kvstore: Any = "device",
        compression_params: dict[str, Any] | None = None,
        update_on_kvstore: bool | None = None,
        *,
        params: Any = None,
        where: Where = None,
        d_mul: DMul = None,
        depthwise_init: DepthwiseInit = "identity",
    ) -> None:
        check_optimizer(optimizer)
        has_workers = check_store({"kvstore": kvstore, "update_on_kvstore": update_on_kvstore})
        start = rules.depthwise_init(depthwise_init)
        found = planned(net, where, d_mul)
        given = net.collect_params() if params is None else params
        super().__init__(given, optimizer, optimizer_params, kvstore, compression_params, False)
        found = among(self._params, found)
        check_contexts(self._optimizer, found)
        kernels = {
            parameter: TrainedKernel(parameter, *name_and_spec, start)
            for parameter, name_and_spec in found.items()
        }
        self._take(net, kernels)
        if has_workers:  # now: the first gradients must belong to the values of the first worker
            self._init_kvstore()
            self._init_params()

    def _take(self, net: Any, kernels: dict[Any, TrainedKernel]) -> None:
        """Train these kernels of a network."""
        self.net, self._trained = net, kernels
        # The order, and so the indices, of a trainer for the parameters of layers.
        parameters = [*self._params, *(kernel.delta for kernel in self._trained.values())]
        self._places = sorted(parameters, key=lambda parameter: parameter.name)
        self._give_multipliers()
        self._keys = itertools.count(len(self._params))  # a store is given each once

    @property
    def kernels(self) -> dict[str, TrainedKernel]:
        """The kernels that have W and D', by the name of their layer."""
        return {kernel.name: kernel for kernel in self._trained.values()}

    def plan(self, *, input_shape: tuple[int, ...] | None = None) -> Plan:
        """The plan of `do_conv.gluon.plan`, in which the kernels that are trained are chosen.

        Args:
            input_shape: of the batch `(N, C, *size)` to count multiply-accumulates for.
        """
        specs = {
            one.name: self._trained[one.weight].spec
            for one in described_in_place(self.net).convolutions
            if one.weight in self._trained
        }
        return of_trained(plan, self.net, specs, input_shape)

    def step(self, batch_size: int, ignore_stale_grad: bool = False) -> None:
        """Step W, D' and all other parameters, and write W' into the network.

        Raises:
            DOConvError: if somebody else has written a kernel since the last step.
        """
        check(self._stepped())
        super().step(batch_size, ignore_stale_grad)

    def update(self, batch_size: int, ignore_stale_grad: bool = False) -> None:
        """Do the part of `step` that follows `allreduce_grads()`."""
        check(self._stepped())
        super().update(batch_size, ignore_stale_grad)

    def take_weights(self) -> None:
        """Start from the kernels that the network has now, as when the trainer was made."""
        for kernel in self._trained.values():
            kernel.check_contexts()
        for kernel in self._trained.values():
            kernel.start()
            parts = kernel.parameter, kernel.delta
            states.forget(self._updaters, [self._places.index(part) for part in parts])
        self._share_parts()

    def restore_weights(self) -> None:
        """Write the kernels that W and D' compose to into the network."""
        for kernel in self._trained.values():
            kernel.check_contexts()
            kernel.compose()

    def save_states(self, fname: str) -> None:
        """Save what the optimizer has, W and D' to a file."""
        with states.beside(self._updaters[0].states, self._parts()):
            super().save_states(fname)

    def load_states(self, fname: str) -> None:
        """Load what `save_states` wrote. The network's kernels are compared at the next step.

        Raises:
            DOConvError: if it has no W and D' for these kernels.
        """
        parts = self._parts()
        saved = states.read(fname, parts)
        super().load_states(fname)
        self._give_multipliers()
        states.forget(self._updaters, parts)
        for kernel in self._trained.values():
            kernel.load(*(saved[f"{kernel.name}.{name}"] for name, _ in kernel.parts))

    def to_layers(self) -> tuple[Any, gluon.Trainer]:
        """Copy W, D' and their states into `DOConv` layers, in which training goes on.

        It goes on as it would have here, to rounding.

        Returns:
            a network with layers in place of `kernels`, as `convert` makes them, and its trainer.

        Raises:
            DOConvError: if somebody else has written a kernel since the last step, or one is inside
                of a graph or in float16.
        """
        check(list(self._trained.values()))
        net = doors.with_layers(self.net, self._trained)
        options = doors.options_of(self)
        own = {parameter.name for parameter in self._places}
        trained = {name: one for name, one in net.collect_params().items() if one.name in own}
        trainer = gluon.Trainer(trained, **options, update_on_kvstore=False)
        doors.carry_states(self, trainer)
        return net, trainer

    @classmethod
    def from_layers(cls, net: Any, trainer: gluon.Trainer) -> tuple[Any, DOConvTrainer]:
        """Copy W, D' and their states out of `DOConv` layers, and fold the network.

        Training goes on as it would have with layers, to rounding.

        Args:
            net: a block with DO-Conv layers.
            trainer: its trainer, of all its parameters.

        Returns:
            the plain network, and its trainer.

        Raises:
            DOConvError: if a layer, or the trainer, breaks a rule.
        """
        check_trainer(trainer)
        options = doors.options_of(trainer)
        check_store(options)
        plain, kernels = doors.without_layers(net, trainer)
        check_contexts(options["optimizer"], kernels)
        its = cls.__new__(cls)
        gluon.Trainer.__init__(its, plain.collect_params(), **options, update_on_kvstore=False)
        its._take(plain, kernels)
        doors.carry_states(trainer, its)
        its._give_multipliers()
        return plain, its

    def _stepped(self) -> list[TrainedKernel]:
        """The kernels that a step changes."""
        return [kernel for kernel in self._trained.values() if kernel.is_stepped]

    def _init_params(self) -> None:
        """Give every context, and every worker, the values of the first."""
        is_first = len(self._params_to_init) == len(self._params)
        super()._init_params()
        if is_first:
            self._share_parts()

    def _share_parts(self) -> None:
        """Give every worker the W and D' of the first."""
        if self._distributed:
            for part in self._parts().values():
                arrays = part.list_data()
                self._kvstore.broadcast(next(self._keys), arrays[0], arrays)
            self.restore_weights()

    def _update(self, ignore_stale_grad: bool = False) -> None:
        """The plain trainer's update, with W and D' in the place of their kernel."""
        stepped, own = self._stepped(), self._params
        in_loops = fused.steppable(self, stepped, self._places)
        others = [kernel for kernel in stepped if kernel not in in_loops]
        try:
            for kernel in others:
                kernel.differentiate()
            self._params = self._by_number(stepped)
            super()._update(ignore_stale_grad)
            fused.step(self, in_loops)  # last: the plain update may refuse to step
            finish(others)
        finally:
            self._params = own
            for kernel in stepped:
                kernel.forget_gradients()

    def _give_multipliers(self) -> None:
        """Let W and D' have the multipliers of their kernel."""
        self._optimizer.param_dict = dict(enumerate(self._by_number([])))

    def _by_number(self, stepped: list[TrainedKernel]) -> list[Any]:
        """The parameters, W and D' of some kernels; others stand for their own W and D'."""
        given = {kernel.delta: kernel.parameter for kernel in self._trained.values()}
        for kernel in stepped:
            given.update({kernel.parameter: kernel.weight, kernel.delta: kernel.delta})
        return [given.get(place, place) for place in self._places]

    def _parts(self) -> dict[str, Any]:
        """W and D' of each kernel, by their names in a file."""
        kernels = self._trained.values()
        return {f"{kernel.name}.{name}": part for kernel in kernels for name, part in kernel.parts}

    def __repr__(self) -> str:
        """The optimizer inside, and how many kernels are trained as W and D'."""
        inside = type(self._optimizer).__name__
        return f"{type(self).__name__}({inside}, {counted(len(self._trained), 'kernel')})"
