"""DO-Conv in the optimizer: the network stays plain, and W and D' are trained beside it.

The loss depends on W and D through W' alone (equation 3 of the paper). So the network keeps W' as
its own kernel, and from G = dL/dW' follow, for each input channel,

    dL/dW = G (I + D')^T        dL/dD' = W^T G

An optimizer steps on W and D' with these, and W' = W (I + D') is written back into the network.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from do_conv.core import rules
from do_conv.core.errors import broken
from do_conv.core.rules import DepthwiseInit
from do_conv.models import checks
from do_conv.models.choices import Where
from do_conv.models.decisions import DMul
from do_conv.models.plan import Plan, of_trained
from do_conv.table import counted
from do_conv.tf.models.classes import kernel_of
from do_conv.tf.models.planning import described_in_place, plan
from do_conv.tf.models.structure import check_model
from do_conv.tf.optimizer.compiled import at_most_once, at_once, is_symbolic, step_if
from do_conv.tf.optimizer.doors import Doors
from do_conv.tf.optimizer.kernels import TrainedKernel
from do_conv.tf.optimizer.planned import Planned, PlannedKernel, loaded, planned, saved
from do_conv.tf.optimizer.states import uses_averages


@keras.saving.register_keras_serializable("do_conv")
class DOConvOptimizer(Doors):
    """An optimizer that trains a plain network's convolutions as DO-Conv layers.

    It wraps a Keras optimizer and takes its place in `compile`. The network needs no DO-Conv
    layers, and nothing has to be folded. Training is that of the converted network, to rounding: of
    `convert(model)` with the same optimizer.

    Args:
        optimizer: a Keras optimizer that has not been built; not a `LossScaleOptimizer`, which goes
            around this one.
        model: a model of any kind, subclassed ones too, or a layer. It may be built later, before
            the first step. Convolutions with a forward pass of their own are trained like others.
            None only for an optimizer made from its configuration.
        where: which layers, as for `convert`.
        d_mul: D_mul, at least |K|, the default; or a function of a layer's `Spec`.
        depthwise_init: "identity", which changes no bit of the network, or "he" (Table 7), which
            writes its kernels when the optimizer is built.
        name: of the optimizer.

    Attributes:
        optimizer: the optimizer inside.
        kernels: the kernels that have W and D', by the name of their layer, once it is built.

    Raises:
        DOConvError: if the optimizer inside is not one that can be, or an option breaks a rule; in
            `build`, if no kernel of the model is trained, or a size is not known.

    Example:
        >>> optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
        >>> model.compile(do_conv.tf.DOConvOptimizer(optimizer, model), "mse")
    """

    def __init__(
        self,
        optimizer: Any,
        model: Any,
        *,
        where: Where = None,
        d_mul: DMul = None,
        depthwise_init: DepthwiseInit = "identity",
        name: str | None = None,
    ) -> None:
        super().__init__(optimizer, name)
        self.depthwise_init = rules.depthwise_init(depthwise_init)
        self._find = None
        self._model = lambda: model
        if model is not None:
            check_model(model)
            self._find = functools.partial(planned, model, where, d_mul)
            if model.built:
                self._find(model.trainable_variables)  # bad options are refused at once
        self._trained: list[TrainedKernel] = []

    def build(self, variables: Any) -> None:
        """Make W and D' for the planned kernels among these variables, and the optimizer's own.

        Raises:
            DOConvError: if no kernel is among them, they are variables of the backend, or the
                optimizer has no model.
        """
        if self.built:
            return
        variables = list(variables)
        for one in variables:
            if not isinstance(one, keras.Variable):
                raise broken(
                    "a step must be given the variables of the model, of keras.Variable",
                    f"one of {type(one).__module__}.{type(one).__qualname__}",
                    "give model.trainable_variables",
                )
        with at_once():
            found = self._found(variables)
            remedy = "give it the variables of the model that are trained"
            count, inside = len(found.kernels), type(self.optimizer).__name__
            checks.something_to_optimize(count, inside, remedy)
            self._frozen = [i for i, one in enumerate(found.kernels) if one.place is None]
            self._trained = [
                TrainedKernel(self, variables[one.place], one.layer, one.spec)
                for one in found.kernels
                if one.place is not None
            ]
            for kernel in self._trained:
                kernel.start(self.depthwise_init)
        self._find = None
        super().build(variables)
        self._exclude_both()
        self.optimizer.build(self._expanded(variables))

    def plan(self, *, input_shape: tuple[Any, ...] | None = None) -> Plan:
        """The plan of `do_conv.tf.plan`, in which the kernels that are trained are chosen.

        Args:
            input_shape: of the batch to count multiply-accumulates for, as for `do_conv.tf.plan`.

        Raises:
            DOConvError: if the optimizer was loaded without its model, or the model is not built.
        """
        if self.built:
            model = self.trained_model()
            of_kernels = {id(kernel.parameter): kernel.spec for kernel in self._trained}
        else:
            found, model = self._found().kernels, self._model()
            variables = model.trainable_variables
            of_kernels = {
                id(variables[one.place]): one.spec for one in found if one.place is not None
            }
        specs = {
            one.name: of_kernels[id(kernel_of(one.layer))]
            for one in described_in_place(model).convolutions
            if one.layer.built and id(kernel_of(one.layer)) in of_kernels
        }
        return of_trained(plan, model, specs, input_shape)

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Step W, D' and all other variables, and write W' into the network.

        Raises:
            DOConvError: if somebody else has written a kernel since the last step. In a compiled
                step the network and the optimizer are left as they are, and `fit` raises it at its
                end, or `check_weights`. If a start of He would write the kernels only now.
        """
        grads = list(grads)
        if not grads or (trainable_variables is None and not self.built):
            super().apply(grads, trainable_variables)  # does nothing, or raises
            return
        given = self._trainable_variables if trainable_variables is None else trainable_variables
        variables = list(given)
        if len(grads) != len(variables):
            raise broken(
                f"a step on {len(variables)} variables must be given as many gradients",
                f"{len(grads)}",
                "give None for a variable without a gradient",
            )
        self._check_start(grads, variables)
        self.build(variables)
        self._check_variables_are_known(variables)
        self._take_first_weights()
        as_composed = self._is_as_composed()
        if not is_symbolic(as_composed):
            if not as_composed:
                self._refuse()
            self._step(grads, variables)
        elif keras.backend.backend() == "tensorflow":
            step_if(as_composed, self._step, grads, variables)
        else:  # `stateless_apply` compares
            self._step(grads, variables)

    def stateless_apply(
        self, optimizer_variables: Any, grads: Any, trainable_variables: Any
    ) -> tuple[Any, Any]:
        """`apply` without side effects, for JAX; values of the variables are given and returned."""
        # A LossScaleOptimizer gives variables, whose values are those of its own scope.
        own = [ops.convert_to_tensor(one) for one in optimizer_variables]
        trained = [ops.convert_to_tensor(one) for one in trainable_variables]
        mapping = [*zip(self.variables, own, strict=False)]
        mapping += zip(self._trainable_variables, trained, strict=False)
        with keras.StatelessScope(mapping):
            as_composed = self._is_as_composed() if self.built else True
        apply = super().stateless_apply

        def step(kept: tuple[Any, Any]) -> tuple[Any, Any]:
            return apply(kept[1], grads, kept[0])

        return at_most_once(as_composed, step, (trained, own))

    def _take_first_weights(self) -> None:
        """Start from kernels that were written before the first step, when nothing can be lost.

        Keras builds the optimizer of a copy, or of a model from a file, before it has its weights.
        """
        if (
            is_symbolic(ops.convert_to_tensor(self.iterations))
            and keras.backend.backend() != "tensorflow"
        ):
            return  # jax has no values here: the steps are left out, and `fit` refuses them
        with at_once():
            if (
                not ops.convert_to_numpy(self.iterations)
                and not self._has_started()
                and not self._is_as_composed()
            ):
                self.take_weights()

    def _has_started(self) -> bool:
        """Whether a D' is not that of an identity start."""
        deltas = (ops.convert_to_numpy(kernel.delta) for kernel in self._trained)
        return self.depthwise_init != "identity" or any(delta.any() for delta in deltas)

    def _check_start(self, grads: Sequence[Any], variables: Sequence[Any]) -> None:
        """Refuse gradients that were taken before a He start has written the kernels."""
        if self.built or self.depthwise_init == "identity":
            return
        places = [one.place for one in self._found(variables).kernels]
        of_kernels = [grads[place] for place in places if place is not None]
        values = [ops.all(ops.isfinite(grad)) for grad in of_kernels if grad is not None]
        # A step that is compiled runs later, when the kernels have been written.
        if any(not is_symbolic(value) for value in values):
            raise broken(
                "a start of He must write the kernels before their gradients are taken",
                "gradients for an optimizer that has not been built",
                "call optimizer.build(model.trainable_variables) before the first step",
            )

    def _found(self, variables: Sequence[Any] | None = None) -> Planned:
        """The planned kernels among variables; without any, among those of the model."""
        if self._find is None:
            raise broken(
                "an optimizer must be given the model whose kernels it trains",
                "None",
                "leave the model out in from_config only",
            )
        model = self._model()
        if variables is None and model is not None and not model.built:
            raise broken(
                "a model must be built before the configuration of its optimizer is read, to be "
                "saved or copied",
                f"a {type(model).__name__} without variables",
                "call it on a batch, or model.build(shape), first",
            )
        return self._find(variables)

    def _still_trained(self) -> Planned:
        """The kernels, with their places among the variables that have not been frozen since."""
        variables = [variable for variable in self._trainable_variables if variable.trainable]
        places = {self._var_key(variable): place for place, variable in enumerate(variables)}
        kernels = [
            PlannedKernel(
                places.get(self._var_key(k.parameter)), k.name, k.spec, tuple(k.parameter.shape)
            )
            for k in self._trained
        ]
        return Planned(kernels, len(variables))

    def _step(self, grads: Sequence[Any], variables: Sequence[Any]) -> None:
        """The step of the optimizer inside on W and D', then W'."""
        by_variable = {self._var_key(kernel.parameter): kernel for kernel in self._trained}
        inner: list[tuple[Any, Any]] = []
        deltas: list[tuple[Any, Any]] = []
        stepped = []
        for grad, variable in zip(grads, variables, strict=True):
            kernel = by_variable.get(self._var_key(variable))
            if kernel is None:
                inner.append((grad, variable))
                continue
            of_kernel, of_delta = (None, None) if grad is None else kernel.differentiate(grad)
            inner.append((of_kernel, kernel.weight))
            deltas.append((of_delta, kernel.delta))
            stepped += [] if grad is None else [kernel]
        self.optimizer.apply(*zip(*inner, *deltas, strict=True))
        # With `use_ema` the averages overwrite every kernel's W and D'.
        for kernel in self._trained if uses_averages(self.optimizer) else stepped:
            kernel.compose()

    def finalize_variable_values(self, var_list: Any) -> None:
        """End the training: with `use_ema` the network has the averages from here on.

        Raises:
            DOConvError: if somebody else has written a kernel, and compiled steps were left out.
        """
        try:
            self.check_weights()
        except TypeError:  # A step has failed, and jax's variables have no values: Keras raises it.
            return
        if self.built and uses_averages(self.optimizer):
            variables = self._expanded(var_list)
            self.optimizer.finalize_variable_values(variables)
            for variable in variables:
                # On jax Keras gives each the array of its average, and a second `fit` would
                # donate this array twice.
                variable.assign(ops.copy(variable))
            self.restore_weights()

    def get_config(self) -> dict[str, Any]:
        """The optimizer inside, and the place and sizes of each kernel; never the model."""
        return {
            "name": self.name,
            "optimizer": keras.saving.serialize_keras_object(self.optimizer),
            "depthwise_init": self.depthwise_init,
            **saved(self._still_trained() if self.built else self._found()),
        }

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> DOConvOptimizer:
        """An optimizer for a model like the one it was saved with; `build` finds the kernels."""
        inner = keras.saving.deserialize_keras_object(
            config["optimizer"], custom_objects=custom_objects
        )
        init, name = config["depthwise_init"], config["name"]
        made = cls(inner, None, depthwise_init=init, name=name)
        made._find = functools.partial(loaded, config)
        return made

    def __repr__(self) -> str:
        """The optimizer inside, and how many kernels are trained as W and D'."""
        inside, kernels = type(self.optimizer).__name__, "not built"
        model = self._model()
        if self.built:
            kernels = counted(len(self._trained), "kernel")
        elif self._find is not None and (model is None or model.built):
            kernels = counted(len(self._found().kernels), "kernel")
        return f"{type(self).__name__}({inside}, {kernels})"
