"""From W and D' in the optimizer to W and D' in layers, and back, in the middle of training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from keras import ops, optimizers

from do_conv.adapter import DELTA
from do_conv.core.errors import broken
from do_conv.models import checks
from do_conv.tf.base import OverParameterized
from do_conv.tf.composed import Composed
from do_conv.tf.models.classes import kernel_of
from do_conv.tf.models.conversion import fill, over_parameterized
from do_conv.tf.models.copies import compile_as, copied
from do_conv.tf.models.folding import folded
from do_conv.tf.models.planning import described
from do_conv.tf.models.structure import check_known, check_model, named_layers
from do_conv.tf.optimizer.holder import Holder
from do_conv.tf.optimizer.kernels import TrainedKernel
from do_conv.tf.optimizer.planned import Find, Planned, PlannedKernel
from do_conv.tf.optimizer.states import anew, carry
from do_conv.tf.optimizer.wrapper import Wrapper

DoorsT = TypeVar("DoorsT", bound="Doors")


class Doors(Holder):
    """An optimizer of W and D' whose training can go on in layers, or has begun in them."""

    _find: Find | None

    def to_layers(self, model: Any) -> tuple[Any, Any]:
        """Copy W, D' and their states into `DOConv` layers, in which training goes on.

        It goes on as it would have here, to rounding.

        Args:
            model: the model that this optimizer has trained.

        Returns:
            a new model with layers in place of `kernels`, as `convert` makes them, and its
            optimizer, of the class of the one inside. If `model` is compiled, so is the new one,
            with this optimizer.

        Raises:
            DOConvError: if somebody else has written a kernel since the last step, or a kernel
                cannot be one of a layer: of a subclassed model, of a layer of another class, in a
                narrow dtype.
        """
        check_model(model)
        self.check_built()
        check_known(model, "go on with the optimizer, or use do_conv.tf's layers in its code")
        self.check_weights()
        kernels = self._in_layers(model)

        def replace(layer: Any) -> Any:
            kernel = kernels.get(id(layer))
            start = self.depthwise_init
            return kernel and over_parameterized(layer, kernel.spec, start, "kernel")

        layers: dict[int, Any] = {}

        def give(layer: Any, ours: Any) -> None:
            fill(layer, ours)
            kernel = kernels[id(layer)]
            for part, value in zip(_parts(ours), kernel.parts, strict=True):
                part.assign(ops.convert_to_numpy(value))
            layers[id(kernel)] = ours

        made = copied(model, replace, give, compiles=False)
        deltas = [layer.depthwise_delta for layer in layers.values()]
        twins = _twins(model, made, deltas)
        pairs = [(one, twins[id(one)]) for one in self._trainable_variables if id(one) in twins]
        own = {id(kernel.parameter): kernel.weight for kernel in self._trained}
        pairs = [(own.get(id(one), one), twin) for one, twin in pairs]
        pairs += [(k.delta, layers[id(k)].depthwise_delta) for k in self._trained]
        optimizer = anew(self.optimizer)
        variables = _trained_by(made, pairs)
        optimizer.build(variables)
        carry(self.optimizer, optimizer, _among(variables, pairs))
        compile_as(model, made, optimizer)
        return made, optimizer

    @classmethod
    def from_layers(cls: type[DoorsT], optimizer: Any, model: Any) -> tuple[Any, DoorsT]:
        """Copy W, D' and their states out of `DOConv` layers, and fold the model.

        Training goes on as it would have with layers, to rounding. Layers that are frozen are
        folded.

        Args:
            optimizer: a Keras optimizer that has been built for the variables of the model.
            model: a Functional or Sequential model with DO-Conv layers.

        Returns:
            the plain model, and its optimizer. If `model` is compiled, so is the plain one, with
            this optimizer.

        Raises:
            DOConvError: if a layer, or the optimizer, breaks a rule.
        """
        check_model(model)
        _check_built(optimizer)
        held = list(_held(model, optimizer))
        plain = folded(model, check_finite=False, compiles=False)
        deltas = [layer.depthwise_delta for _, layer in _ours(model)]
        twins = {id(old): new for new, old in _pairs(plain, model, deltas)}
        parts = {id(kernel_of(layer)): layer for _, layer in held}
        pairs = [(one, twins[id(one)]) for one in optimizer._trainable_variables
                 if id(one) in twins]  # fmt: skip
        variables = _trained_by(plain, pairs)
        places = {id(variable): place for place, variable in enumerate(variables)}
        own = cls(anew(optimizer), None)
        own._model = lambda: plain
        kernels = []
        for name, layer in held:
            kernel = twins[id(kernel_of(layer))]
            kernels.append(PlannedKernel(places[id(kernel)], name, layer.spec, kernel.shape))
        own._find = lambda _: Planned(kernels, len(variables))
        own.build(variables)
        of_variables = {id(kernel.parameter): kernel for kernel in own._trained}
        inner: list[tuple[Any, Any]] = []
        for old, new in _among(variables, pairs):
            kernel = of_variables.get(id(new))
            if kernel is None:
                inner.append((old, new))
                continue
            values = _parts(parts[id(old)])
            for part, value in zip(kernel.parts, values, strict=True):
                part.assign(ops.convert_to_numpy(value))
            kernel.compose()
            inner += zip(values, kernel.parts, strict=True)
        carry(optimizer, own.optimizer, inner)
        compile_as(model, plain, own)
        return plain, own

    def _in_layers(self, model: Any) -> dict[int, TrainedKernel]:
        """The kernels by the `id` of their layer in a model.

        Raises:
            DOConvError: if one is not there, or cannot belong to a DO-Conv layer.
        """
        by_variable = {id(kernel.parameter): kernel for kernel in self._trained}
        found: dict[int, TrainedKernel] = {}
        refused: dict[int, str] = {}
        for one in described(model).convolutions:
            kernel = by_variable.get(id(kernel_of(one.layer))) if one.layer.built else None
            if kernel is None:
                continue
            found[id(one.layer)] = kernel
            if one.reason is not None:
                refused[id(kernel)] = f"because {one.reason}"
            elif kernel.weight.dtype != kernel.parameter.dtype:
                refused[id(kernel)] = f"in {kernel.parameter.dtype}"
        there = {id(kernel) for kernel in found.values()}
        for kernel in self._trained:
            why = refused.get(id(kernel)) or (None if id(kernel) in there else "of another model")
            checks.kernel_for_a_layer(kernel.name, why, "optimizer")
        return found


def _parts(layer: Any) -> tuple[Any, Any]:
    """W and D' of a DO-Conv layer."""
    return kernel_of(layer), layer.depthwise_delta


def _ours(model: Any) -> Iterator[tuple[str, Any]]:
    """Each layer with a D', once."""
    seen: set[int] = set()
    for name, layer, _ in named_layers(model):
        is_new = isinstance(layer, Composed) and id(layer) not in seen
        if is_new and getattr(layer, DELTA, None) is not None:
            seen.add(id(layer))
            yield name, layer


def _held(model: Any, optimizer: Any) -> Iterator[tuple[str, Any]]:
    """The DO-Conv layers whose W and D' an optimizer trains."""
    for name, layer, _ in named_layers(model):
        if isinstance(layer, Composed):
            has_parts, kind = isinstance(layer, OverParameterized), type(layer).__name__
            checks.layer_with_parts(has_parts, name, kind, "model", "DOConvOptimizer")
    trained = {id(one) for one in optimizer._trainable_variables if one.trainable}
    found = [(n, layer, [id(p) in trained for p in _parts(layer)]) for n, layer in _ours(model)]
    for name, _, are in found:
        if any(are) and not all(are):
            raise broken(
                "W and D' of a layer must both be trained, or none of them",
                f"layer '{name}', of which one is frozen",
                "train both, or go on with layers",
            )
    if not any(all(are) for *_, are in found):
        raise broken(
            "a model that is to go on without layers must have one whose W and D' the optimizer "
            "trains",
            f"a {type(model).__name__} without one",
            "give the optimizer that has trained it, or make a DOConvOptimizer for a plain model",
        )
    yield from ((name, layer) for name, layer, are in found if all(are))


def _check_built(optimizer: Any) -> None:
    """Refuse anything but a plain Keras optimizer that has variables."""
    is_one = isinstance(optimizer, optimizers.Optimizer)
    is_around = isinstance(optimizer, (optimizers.LossScaleOptimizer, Wrapper))
    if not is_one or is_around or not optimizer.built:
        raise broken(
            "an optimizer that goes on without layers must be a plain Keras optimizer that has "
            "been built",
            f"a {type(optimizer).__name__}",
            "give the one that has trained the model; of a LossScaleOptimizer, its inner_optimizer",
        )


def _pairs(plain: Any, ours: Any, deltas: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Each variable of a plain model with the one that a model with DO-Conv layers has of it."""
    left_out = {id(delta) for delta in deltas}
    kept = (variable for variable in ours.weights if id(variable) not in left_out)
    return zip(plain.weights, kept, strict=True)


def _twins(plain: Any, ours: Any, deltas: Sequence[Any]) -> dict[int, Any]:
    return {id(one): other for one, other in _pairs(plain, ours, deltas)}


def _trained_by(model: Any, pairs: Sequence[tuple[Any, Any]]) -> list[Any]:
    """The second variables of pairs, in the order in which a model trains them."""
    wanted = {id(new) for _, new in pairs}
    return [variable for variable in model.trainable_variables if id(variable) in wanted]


def _among(variables: Sequence[Any], pairs: Sequence[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """The pairs whose second variable is one of these."""
    there = {id(variable) for variable in variables}
    return [(old, new) for old, new in pairs if id(new) in there]
