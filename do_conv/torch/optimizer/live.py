"""The state of an optimizer, made anew whenever it is read, whose changes reach the one inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from torch.optim import Optimizer

from do_conv.core.errors import broken
from do_conv.torch.optimizer.kernels import TrainedKernel
from do_conv.torch.optimizer.states import packed

Trained = Mapping[Any, TrainedKernel]


class Live(dict[Any, Any]):
    """A dictionary that passes on each change. A copy of it is a plain one."""

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
        super().__setitem__(key, value)

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
    pop, popitem, clear = MutableMapping.pop, MutableMapping.popitem, MutableMapping.clear
    update, setdefault = MutableMapping.update, MutableMapping.setdefault

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
    inside: dict[Any, Any] = {}
    for one in nested(optimizer):
        for key, value in one.state.items():
            inside[key] = {**value, **inside[key]} if key in inside else value
    own = {part for kernel in trained.values() for _, part in kernel.parts}
    state = {key: value for key, value in inside.items() if key not in own}
    if inside or has_kernels:
        state |= {p: _of_kernel(optimizer, kernel, inside) for p, kernel in trained.items()}

    def put(key: Any, values: Mapping[str, Any]) -> None:
        if key not in trained:
            optimizer.state[key] = values
            return
        of_kernel = _of_kernel(optimizer, trained[key], inside)
        for name in of_kernel.keys() - values.keys():
            del of_kernel[name]
        of_kernel.update(values)

    def drop(key: Any) -> None:
        forget(optimizer, [part for _, part in trained[key].parts] if key in trained else [key])

    return Live(state, put, drop, lambda key: optimizer.state[key])


def _of_kernel(optimizer: Optimizer, kernel: TrainedKernel, inside: Mapping[Any, Any]) -> Live:
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
        states = [one.state for one in nested(optimizer)]
        holds = [state for state in states if of_part in state.get(parts[part], {})]
        return (holds or states)[0][parts[part]], of_part

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
            state.pop(of_part, None)

    return Live(packed(kernel, inside), put, drop)


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
