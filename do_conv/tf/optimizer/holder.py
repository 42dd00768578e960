"""The W and D' that an optimizer has, beside the network's kernels."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from do_conv.core.errors import broken
from do_conv.core.rules import DepthwiseInit
from do_conv.models import checks
from do_conv.tf.optimizer.kernels import VARIABLES, TrainedKernel
from do_conv.tf.optimizer.states import all_anew, divided, states_of
from do_conv.tf.optimizer.wrapper import Wrapper


class Holder(Wrapper):
    """An optimizer around another, which steps on the W and D' that this one has."""

    depthwise_init: DepthwiseInit
    _trained: list[TrainedKernel]
    _frozen: Sequence[int] = ()  # the numbers of kernels that were frozen when they were saved
    _model: Callable[[], Any]  # a closure: neither Keras nor TensorFlow shall track the model

    @property
    def kernels(self) -> dict[str, TrainedKernel]:
        """The kernels that have W and D', by the name of their layer."""
        return {kernel.name: kernel for kernel in self._trained}

    def check_built(self) -> None:
        """Refuse an optimizer that has no W and D' yet.

        Raises:
            DOConvError: if it has not been built.
        """
        if not self.built:
            raise broken(
                "an optimizer has W and D' to save, to load, or to give to layers once it is built",
                f"a {type(self).__name__} that has not been built",
                "call optimizer.build(model.trainable_variables) first",
            )

    def trained_model(self) -> Any:
        """The model whose kernels these are.

        Raises:
            DOConvError: if the optimizer has not been built, or was made from its configuration,
                as `load_model` makes it.
        """
        self.check_built()
        model = self._model()
        if model is None:
            raise broken(
                "an optimizer whose W and D' are saved or loaded must know its model",
                f"a {type(self).__name__} that was made from its configuration, without the model",
                "save the network that its to_layers(model) returns, or make a new "
                "DOConvOptimizer for the model",
            )
        return model

    def _expanded(self, variables: Sequence[Any]) -> list[Any]:
        """The variables with W in the place of W', and every D' behind them."""
        own = {self._var_key(kernel.parameter): kernel.weight for kernel in self._trained}
        deltas = [kernel.delta for kernel in self._trained]
        return [own.get(self._var_key(variable), variable) for variable in variables] + deltas

    def _is_as_composed(self) -> Any:
        if not self._trained:  # all were frozen
            return True
        return ops.all(ops.stack([kernel.is_as_composed() for kernel in self._trained]))

    def check_weights(self) -> None:
        """Refuse kernels that somebody else has written since the last step.

        A compiled step cannot raise: it is left out. `fit` calls this at its end; call it after
        `train_on_batch`, or in a compiled loop of your own.

        Raises:
            DOConvError: if there are such kernels.
        """
        if self._trained and not bool(self._is_as_composed()):
            self._refuse()

    def _refuse(self) -> None:
        """Say which kernels somebody else has written."""
        others = [f"'{k.name}'" for k in self._trained if not k.is_as_composed()]
        many = "kernels" if len(others) > 1 else "a kernel"
        listed = f"{many} of layer {', '.join(others)} written since"
        checks.kernels_as_composed(listed, "optimizer")

    def load_own_variables(self, store: Any) -> None:
        """Read W and D'; one that was saved before it was built starts from the network's kernels.

        Keras builds an optimizer before it loads the network's weights.
        """
        model = self._model()
        if not self.built and model is not None and model.built:
            self.build(model.trainable_variables)
        if self.built and len(store.keys()) == self._count_unbuilt:
            self.take_weights()
        else:
            super().load_own_variables(self._without_frozen(store))

    def _without_frozen(self, store: Any) -> Any:
        """The variables of a file, without those of kernels that were frozen when it was saved."""
        count = len(self._variables) + VARIABLES * len(self._frozen)
        if not self._frozen or len(store.keys()) != count:
            return store
        first = [self._count_unbuilt + VARIABLES * number for number in self._frozen]
        left_out = {number for start in first for number in range(start, start + VARIABLES)}
        kept = (number for number in range(count) if number not in left_out)
        return {str(place): store[str(number)] for place, number in enumerate(kept)}

    def take_weights(self) -> None:
        """Start from the kernels that the network has now, with the states of a new optimizer.

        `iterations`, which all variables share, goes on. Adam and its like divide by `1 - beta^t`
        of it, so their first steps on the kernels are up to some three times the rate.

        Raises:
            DOConvError: if the optimizer inside cannot be made from its configuration; then nothing
                has changed.
        """
        parts = [part for kernel in self._trained for part in kernel.parts]
        new = all_anew(self.optimizer, parts)
        for kernel in self._trained:
            kernel.start(self.depthwise_init)
        for state, start in itertools.chain.from_iterable(itertools.starmap(states_of, new)):
            state.assign(ops.convert_to_numpy(start))

    def restore_weights(self) -> None:
        """Write the kernels that W and D' compose to into the network."""
        for kernel in self._trained:
            kernel.compose()

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Any = None) -> None:
        """As Keras's optimizers; a kernel in `var_list` stands for its W and its D'."""
        self.optimizer.exclude_from_weight_decay(var_list, var_names)
        self._exclude_both()

    def _exclude_both(self) -> None:
        for inside, _ in divided(self.optimizer, []):
            excluded: set[Any] = getattr(inside, "_exclude_from_weight_decay", set())
            for kernel in self._trained:
                if self._var_key(kernel.parameter) in excluded:
                    excluded.update(self._var_key(part) for part in kernel.parts)
