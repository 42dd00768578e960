"""The state of an optimizer, made anew whenever it is read, whose changes reach the one inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from do_conv.core.errors import broken
from do_conv.torch.optimizer.kernels import TrainedKernel
from do_conv.torch.optimizer.states import packed

Trained = Mapping[Any, TrainedKernel]


class Live(dict[Any, Any]):
    """A dictionary that passes on each change. A copy of it is a plain one.

    Args:
        values: those that it has.
        put: is given a key and its new value.
        drop: is given a key that is removed.
        absent: gives the value of a key that it has not, or that was set.
    """

    def __init__(
        self,
        values: Any = (),
        put: Callable[[Any, Any], None] | None = None,
        drop: Callable[[Any], None] | None = None,
        absent: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(values)
        self._put, self._drop, self._absent = put, drop, absent

    def __setitem__(self, key: Any, value: Any) -> None:
        if self._put is not None:
            self._put(key, value)
        super().__setitem__(key, value if self._absent is None else self._absent(key))

    def __delitem__(self, key: Any) -> None:
        super().__delitem__(key)
        if self._drop is not None:
            self._drop(key)

    def __missing__(self, key: Any) -> Any:
        if self._absent is None:
            raise KeyError(key)
        return self._absent(key)

    def __reduce__(self) -> Any:
        return dict, (dict(self),)

    # Those of `dict` would pass nothing on.
    popitem, clear, update = MutableMapping.popitem, MutableMapping.clear, MutableMapping.update

    def pop(self, key: Any, *default: Any) -> Any:
        """Remove a key, and return its value or the default."""
        if key not in self:
            return {}.pop(key, *default)  # the default, or a KeyError
        value = self[key]
        del self[key]
        return value

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """The value of a key, which is the default if there was none."""
        if key not in self:
            self[key] = default
        return self[key]

    def __ior__(self, other: Any) -> Any:  # type: ignore[misc]
        self.update(other)
        return self


def state_of(optimizer: Optimizer, trained: Trained, has_kernels: bool) -> Live:
    """The state of each parameter; a kernel's has W, D' and the state of both.

    Args:
        optimizer: the one inside, maybe around others.
        trained: the kernels by their parameters.
        has_kernels: whether the kernels are there before the optimizer inside has a state.
    """
    own = {part for kernel in trained.values() for _, part in kernel.parts}
    keys = {key: None for one in nested(optimizer) for key in one.state if key not in own}
    has_kernels = has_kernels or any(one.state for one in nested(optimizer))

    def of(key: Any) -> Any:
        return _of_kernel(optimizer, trained[key]) if key in trained else _of_one(optimizer, key)

    def put(key: Any, values: Mapping[str, Any]) -> None:
        state = of(key)
        for name in [name for name in state if name not in values]:
            del state[name]
        state.update(values)

    def drop(key: Any) -> None:
        forget(optimizer, [part for _, part in trained[key].parts] if key in trained else [key])

    shown = [*keys, *(trained if has_kernels else ())]
    return Live({key: of(key) for key in shown}, put, drop, of)


def _of_one(optimizer: Optimizer, key: Any) -> Any:
    """The state of a parameter in an optimizer, and in those that it is around.

    Without one yet it is a new state of the innermost, which steps.
    """
    states = [one.state for one in nested(optimizer)]
    holders = [state for state in states if key in state]
    if len(holders) < 2:
        return (holders or states[-1:])[0][key]

    def holder(name: str) -> Any:
        return next((state[key] for state in holders if name in state[key]), holders[0][key])

    values = {name: value for state in reversed(holders) for name, value in state[key].items()}
    return Live(
        values,
        lambda name, value: holder(name).__setitem__(name, value),
        lambda name: holder(name).__delitem__(name),
    )


def _of_kernel(optimizer: Optimizer, kernel: TrainedKernel) -> Live:
    parts = dict(kernel.parts)

    def place(name: str) -> tuple[Any, str]:
        part, _, of_part = name.partition(".")
        if part not in parts or not of_part:
            raise broken(
                f"the state of a kernel must be that of {' or of '.join(parts)}",
                f"'{name}' for layer '{kernel.name}'",
                "put another optimizer, such as Lookahead, inside of DOConvOptimizer, not around "
                "it",
            )
        return _of_one(optimizer, parts[part]), of_part

    def put(name: str, value: Any) -> None:
        if name in parts:
            values = {**parts, name: value}
            kernel.load(*(values[part] for part in parts))
        else:
            state, of_part = place(name)
            state[of_part] = value

    def drop(name: str) -> None:
        if name not in parts:  # W and D' stay
            state, of_part = place(name)
            del state[of_part]

    states: dict[Tensor, Any] = {
        part: _of_one(optimizer, part)
        for part in parts.values()
        if any(part in one.state for one in nested(optimizer))
    }
    return Live(packed(kernel, states), put, drop)


def nested(optimizer: Optimizer) -> Iterator[Optimizer]:
    """An optimizer, and those that it is around, which have states of their own."""
    yield optimizer
    for value in vars(optimizer).values():
        if isinstance(value, Optimizer):
            yield from nested(value)


def forget(optimizer: Optimizer, parameters: Any) -> None:
    """Let an optimizer start anew with parameters."""
    for one in nested(optimizer):
        for parameter in parameters:
            one.state.pop(parameter, None)


def forget_others(optimizer: Optimizer) -> None:
    """Let an optimizer forget what is none of its parameters, as W and D' of an earlier wrapper."""
    known = {p for group in optimizer.param_groups for p in group["params"]}
    for one in nested(optimizer):
        for key in [key for key in one.state if isinstance(key, Tensor) and key not in known]:
            del one.state[key]
