"""SGD and Adam on a CPU: W, D' and W' by the C loops.

A step by MXNet's operators reads and writes each array several times, and memory is what a step
waits for. The optimizer's own state is used, under its own numbers, so each step can go either way.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import mxnet as mx
import numpy as np

from do_conv import native
from do_conv.gluon.optimizer import loops
from do_conv.gluon.optimizer.kernels import TrainedKernel

# Kernels, each with the optimizer's indices of its W and its D'.
Numbered = Mapping[TrainedKernel, tuple[int, int]]


def steppable(trainer: Any, kernels: Iterable[TrainedKernel], places: list[Any]) -> Numbered:
    """The kernels that the loops can step as a trainer's optimizer would.

    Args:
        trainer: of which the updaters and the optimizer are used.
        kernels: with a new gradient.
        places: the parameters in the order of their numbers.
    """
    # A loss scaler looks at the gradients of W and D'.
    if hasattr(trainer, "_amp_loss_scaler") or not _is_usual(trainer._optimizer):
        return {}
    number = {place: i for i, place in enumerate(places)}
    found = {kernel: (number[kernel.parameter], number[kernel.delta]) for kernel in kernels}
    return {one: its for one, its in found.items() if _is_readable(one, trainer._updaters, its)}


def _is_usual(optimizer: Any) -> bool:
    # NAG goes the other way: MXNet's operator reads the weight again once it has written it.
    is_known = type(optimizer) in (mx.optimizer.SGD, mx.optimizer.Adam)
    return is_known and getattr(optimizer, "momentum", 0) >= 0 and not optimizer.clip_gradient


def _is_readable(kernel: TrainedKernel, updaters: Iterable[Any], numbers: Iterable[int]) -> bool:
    """Whether the loops can read the arrays of a kernel, in all contexts, and are fast for it."""
    kernels, grads = kernel.parameter.list_data(), kernel.parameter.list_grad()
    parts = [part.list_data() for _, part in kernel.parts]
    arrays = [*kernels, *grads, *parts[0], *parts[1]]
    return (
        all(array._fresh_grad for array in kernels)
        and loops.pay(kernel.spec, *arrays)
        and native.can_step(loops.name_of(kernels[0]), kernel.spec.area)
        and all(
            _is_like(updater.states.get(number), array)
            for number, own in zip(numbers, parts, strict=True)
            for updater, array in zip(updaters, own, strict=True)
        )
    )


def _is_like(state: Any, array: Any) -> bool:
    """Whether the arrays of a state, if there are any, are as large as its array."""
    return all(
        isinstance(one, mx.nd.NDArray)
        and (one.shape, one.dtype, one.stype) == (array.shape, array.dtype, array.stype)
        for one in _arrays_of(state)
    )


def _arrays_of(state: Any) -> tuple[Any, ...]:
    """The momentum of SGD, if there is one, or the two averages of Adam."""
    return state if isinstance(state, tuple) else () if state is None else (state,)


def step(trainer: Any, kernels: Numbered) -> None:
    """Step W and D' of steppable kernels, and write each W'."""
    steps: dict[str, list[native.Step]] = {}
    for i, updater in enumerate(trainer._updaters if kernels else ()):
        arrays = {
            number: part.list_data()[i]
            for kernel, numbers in kernels.items()
            for number, (_, part) in zip(numbers, kernel.parts, strict=True)
        }
        updates = _updates(trainer._optimizer, updater, arrays)
        mx.nd.waitall()
        for kernel, numbers in kernels.items():
            own = steps.setdefault(loops.name_of(arrays[numbers[0]]), [])
            own.append(_step(kernel, i, *(updates[number] for number in numbers)))
    for dtype, own in steps.items():
        native.step(dtype, loops.threads(), own)
    for kernel in kernels:
        for array in kernel.parameter.list_data():
            array._fresh_grad = False
        kernel.values.mark()


# The update rule of an array, and the arrays of its state.
_Update = tuple[native.Rule, tuple[Any, ...]]


def _step(kernel: TrainedKernel, i: int, *updates: _Update) -> native.Step:
    spec = kernel.spec
    arrays = kernel.weight, kernel.delta, kernel.parameter
    weight, delta, composed = (loops.address(array.list_data()[i]) for array in arrays)
    states = [tuple(map(loops.address, state)) for _, state in updates]
    return native.Step(
        weight=weight,
        delta=delta,
        grad=loops.address(kernel.parameter.list_grad()[i]),
        composed=composed,
        weight_state=states[0],
        delta_state=states[1],
        groups=spec.groups,
        rows=spec.group_rows,
        channels=spec.group_channels,
        area=spec.area,
        weight_rule=updates[0][0],
        delta_rule=updates[1][0],
    )


def _updates(optimizer: Any, updater: Any, arrays: Mapping[int, Any]) -> dict[int, _Update]:
    """How the arrays of a context are updated, by the optimizer's numbers."""
    numbers = list(arrays)
    optimizer._set_current_context(arrays[numbers[0]].context.device_id)
    optimizer._update_count(numbers)
    rates, decays = optimizer._get_lrs(numbers), optimizer._get_wds(numbers)
    own = _adam if type(optimizer) is mx.optimizer.Adam else _sgd
    found = {}
    for number, rate, decay in zip(numbers, rates, decays, strict=True):
        rule = own(optimizer, rate, optimizer._index_update_count[number])
        rule.scale, rule.decay = _rounded(optimizer.rescale_grad), _rounded(decay)
        state = _arrays_of(_state(updater, number, arrays[number]))
        found[number] = rule, state if rule.is_adam or rule.momentum else ()
    return found


def _sgd(optimizer: Any, rate: float, _: int) -> native.Rule:
    rate, momentum = _rounded(rate), _rounded(optimizer.momentum)
    if not momentum:
        return native.Rule(rate=rate)
    # MXNet multiplies momentum by the rate: it is the change of the array.
    return native.Rule(rate=-1, momentum=momentum, added=-rate)


def _adam(optimizer: Any, rate: float, count: int) -> native.Rule:
    beta1, beta2 = optimizer.beta1, optimizer.beta2
    # MXNet corrects both averages by the rate.
    rate *= math.sqrt(1 - beta2**count) / (1 - beta1**count)
    return native.Rule(
        is_adam=1,
        rate=_rounded(rate),
        beta1=_rounded(beta1),
        beta2=_rounded(beta2),
        epsilon=_rounded(optimizer.epsilon),
        correction1=1,
        correction2=1,
    )


def _rounded(number: float) -> float:
    """The number as MXNet's operators take it, in float64 too."""
    return float(np.float32(number))


def _state(updater: Any, number: int, array: Any) -> Any:
    """The state that an updater has for an array, or makes."""
    if number not in updater.states:
        state = updater.optimizer.create_state_multi_precision(number, array)
    elif updater.states_synced[number]:
        return updater.states[number]
    else:
        state = updater.sync_state_context(updater.states[number], array.context)
    updater.states[number], updater.states_synced[number] = state, True
    return state
