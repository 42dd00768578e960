"""The parts that an optimizer around another leaves to that one."""

from __future__ import annotations

import warnings
from typing import Any

import keras
from keras import ops

from do_conv.core.errors import broken


def _of_inner(name: str) -> Any:
    """An option of the optimizer inside, which a training loop or a callback may set."""

    def read(self: Any) -> Any:
        return getattr(vars(self).get("optimizer"), name, None)

    def write(self: Any, value: Any) -> None:
        if "optimizer" in vars(self):  # Keras's constructor sets it before there is one
            setattr(self.optimizer, name, value)

    return property(read, write, doc="That of the optimizer inside.")


class Wrapper(keras.optimizers.Optimizer):
    """An optimizer around another, which has the learning rate, the options and the step.

    Attributes:
        optimizer: the optimizer inside.
    """

    def __init__(self, optimizer: Any, name: str | None) -> None:
        super().__init__(learning_rate=0.0, name=name)
        self.optimizer = _wrappable(optimizer)
        self._count_unbuilt = len(self._variables)

    @property
    def variables(self) -> list[Any]:
        """Its own variables, then those of the optimizer inside."""
        return [*self._variables, *self.optimizer.variables]

    def set_weights(self, weights: Any) -> None:
        """Set the values of `variables`."""
        count = len(self._variables)
        super().set_weights(weights[:count])
        self.optimizer.set_weights(weights[count:])

    @property
    def learning_rate(self) -> Any:
        """That of the optimizer inside."""
        return self.optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        self.optimizer.learning_rate = learning_rate

    @property
    def iterations(self) -> Any:
        """Those of the optimizer inside."""
        return self.optimizer.iterations

    loss_scale_factor = _of_inner("loss_scale_factor")
    weight_decay = _of_inner("weight_decay")
    clipnorm = _of_inner("clipnorm")
    clipvalue = _of_inner("clipvalue")
    global_clipnorm = _of_inner("global_clipnorm")

    def scale_loss(self, loss: Any) -> Any:
        """The loss, as the optimizer inside scales it."""
        return self.optimizer.scale_loss(loss)

    def save_own_variables(self, store: Any) -> None:
        """Write its own variables; Keras writes the optimizer inside beside them."""
        for number, variable in enumerate(self._variables):
            store[str(number)] = ops.convert_to_numpy(variable)

    def load_own_variables(self, store: Any) -> None:
        """Read what `save_own_variables` wrote; of others warn, as Keras does."""
        own, stored = len(self._variables), len(store.keys())
        if own != stored:
            warnings.warn(
                f"the state of optimizer '{self.name}' is not loaded, nor its W and D': it has "
                f"{own} variables of its own, and the file has {stored}; build it first, with "
                "optimizer.build(model.trainable_variables), or start from the kernels with its "
                "take_weights()",
                stacklevel=2,
            )
            return
        for number, variable in enumerate(self._variables):
            variable.assign(store[str(number)])


def _wrappable(optimizer: Any) -> Any:
    """An optimizer that can be inside.

    Raises:
        DOConvError: if it is not one.
    """
    is_one = isinstance(optimizer, keras.optimizers.Optimizer)
    is_around = isinstance(optimizer, (keras.optimizers.LossScaleOptimizer, Wrapper))
    found = type(optimizer).__name__ + (
        " that has been built" if is_one and optimizer.built else ""
    )
    if not is_one or is_around or optimizer.built:
        raise broken(
            "the optimizer inside must be a plain Keras optimizer that has not been built",
            f"a {found}",
            "give a new one of keras.optimizers, and put a LossScaleOptimizer around the "
            "DOConvOptimizer",
        )
    return optimizer
