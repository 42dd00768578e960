"""The state that a Keras optimizer keeps of each variable, such as momenta."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import ops

from do_conv.core.errors import broken

# Lists of variables, which are not state.
_OTHER_LISTS = ("_variables", "_trainable_variables")


def anew(optimizer: Any) -> Any:
    """An optimizer of the same configuration that has not been built.

    Raises:
        DOConvError: if its configuration does not make one.
    """
    try:
        return type(optimizer).from_config(optimizer.get_config())
    except Exception as error:  # whatever a class or a function of somebody else raises
        raise broken(
            "an optimizer that starts anew, or goes on elsewhere, must be one that "
            "from_config(get_config()) makes",
            f"a {type(optimizer).__name__}, for which it raises {type(error).__name__}: {error}",
            "give it a get_config, and no function",
        ) from error


def uses_averages(optimizer: Any) -> bool:
    """Whether averages overwrite variables."""
    return any(one.use_ema for one, _ in divided(optimizer, []))


def divided(optimizer: Any, variables: Sequence[Any]) -> Iterator[tuple[Any, list[Any]]]:
    """A built optimizer with its variables; of a `MultiOptimizer` each of those it has."""
    if not hasattr(optimizer, "optimizers"):
        yield optimizer, [*variables]
        return
    numbers = [optimizer._var_to_optimizer_idx[optimizer._var_key(one)] for one in variables]
    for number, one in enumerate(optimizer.optimizers):
        pairs = zip(numbers, variables, strict=True)
        yield one, [variable for its, variable in pairs if its == number]


# A built optimizer, some of its variables, and a new one of its kind.
Anew = tuple[Any, list[Any], Any]


def all_anew(optimizer: Any, variables: Sequence[Any]) -> list[Anew]:
    """A built optimizer, or each that a `MultiOptimizer` has, with a new one beside it.

    Raises:
        DOConvError: if its configuration does not make one.
    """
    return [(one, its, anew(one)) for one, its in divided(optimizer, variables) if its]


def states_of(optimizer: Any, variables: Sequence[Any], fresh: Any) -> Iterator[tuple[Any, Any]]:
    """Each state that a built optimizer has of these variables, with one as it starts."""
    fresh.build(list(variables))
    own = dict(_lists(optimizer))
    places = [optimizer._get_variable_index(variable) for variable in variables]
    for name, new in _lists(fresh):
        # An average starts from the current value.
        starts = variables if name == "_model_variables_moving_average" else new
        pairs = ((own[name][place], one) for place, one in zip(places, starts, strict=True))
        yield from (pair for pair in pairs if isinstance(pair[0], keras.Variable))


def carry(source: Any, target: Any, variables: Sequence[tuple[Any, Any]]) -> None:
    """Give a built optimizer the rate, the steps and the states that another has.

    Args:
        source: a built optimizer.
        target: one of the same configuration, built for other variables.
        variables: each variable of `source` with the one of `target` that takes its place.

    Raises:
        DOConvError: if there is a state that does not belong to one variable.
    """
    twins = {id(old): new for old, new in variables}
    theirs = (one for one, _ in divided(target, []))
    for one, other in zip(divided(source, [old for old, _ in variables]), theirs, strict=True):
        _carry(one[0], other, [(old, twins[id(old)]) for old in one[1]])
    if hasattr(source, "optimizers"):
        target.iterations.assign(ops.convert_to_numpy(source.iterations))


def _carry(source: Any, target: Any, variables: Sequence[tuple[Any, Any]]) -> None:
    to_target = [
        (source._get_variable_index(old), target._get_variable_index(new)) for old, new in variables
    ]
    own, theirs = dict(_lists(source)), dict(_lists(target))
    pairs = [(getattr(source, name), one) for name, one in _single(target)]
    for name, states in theirs.items():
        pairs += [(own[name][old], states[new]) for old, new in to_target]
    pairs = [pair for pair in pairs if isinstance(pair[1], keras.Variable)]
    of_all = {id(one) for states in theirs.values() for one in states}
    of_all |= {id(one) for _, one in _single(target)}
    if not {id(one) for one in target._variables} <= of_all:
        raise broken(
            "an optimizer that goes on with W and D' elsewhere must have a state for each variable",
            f"a {type(source).__name__}, which has one for several",
            "make a new optimizer: convert(model) or fold(model) changes no output",
        )
    for old, new in pairs:
        new.assign(ops.convert_to_numpy(old))
    if hasattr(source, "_exclude_from_weight_decay_pattern"):
        excluded = source._exclude_from_weight_decay
        target._exclude_from_weight_decay_pattern = source._exclude_from_weight_decay_pattern
        target._exclude_from_weight_decay = {
            target._var_key(new) for old, new in variables if source._var_key(old) in excluded
        }
        target._exclude_from_weight_decay_cache = {}


def _lists(optimizer: Any) -> Iterator[tuple[str, Any]]:
    """Keras's optimizers have a list for each kind of state, with an entry for each variable."""
    count = len(optimizer._trainable_variables)
    for name, value in vars(optimizer).items():
        is_one = name not in _OTHER_LISTS and isinstance(value, list) and len(value) == count
        if is_one and all(one is None or isinstance(one, keras.Variable) for one in value):
            yield name, value


def _single(optimizer: Any) -> Iterator[tuple[str, Any]]:
    """The states of the optimizer as a whole: steps, and rates that are no schedule."""
    for name, value in vars(optimizer).items():
        if isinstance(value, keras.Variable):
            yield name, value
