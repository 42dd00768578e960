"""W and D' in the file of a trainer's states, beside those that the optimizer has of both."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from do_conv.core import rules
from do_conv.core.errors import broken


@contextmanager
def beside(states: dict[Any, Any], parts: Mapping[str, Any]) -> Iterator[None]:
    """A context in which the states of an optimizer, which are saved, hold W and D' by name."""
    states.update({key: part.list_data()[0] for key, part in parts.items()})
    try:
        yield
    finally:
        for key in parts:
            del states[key]


def read(fname: str, parts: Mapping[str, Any]) -> Mapping[Any, Any]:
    """The states in a file, W and D' by name.

    Raises:
        DOConvError: if they are not there, or of other sizes.
    """
    saved, _ = pickle.loads(Path(fname).read_bytes())
    for key, part in parts.items():
        if key not in saved:
            raise broken(
                "the states of a DOConvTrainer must hold W and D' of each kernel",
                f"states without '{key}'",
                "load the states of a trainer that was made in the same way",
            )
        rules.stored_shape(key, tuple(part.shape), tuple(saved[key].shape))
    return saved


def forget(updaters: list[Any], keys: Iterable[Any]) -> None:
    """Drop what the optimizer has under some numbers, or names, in every context."""
    for key in keys:
        for updater in updaters:
            for kept in (updater.states, updater.states_synced):
                kept.pop(key, None)
        for counts in updaters[0].optimizer._all_index_update_counts.values():
            counts.pop(key, None)
