"""Prefixes that a wrapper put before the names of a network's arrays, such as `module.`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from do_conv.core.errors import broken


def strip(states: Sequence[dict[str, Any]], prefix: str) -> None:
    """Take a prefix from all names that begin with it, in place.

    Raises:
        DOConvError: if no name begins with it, or two names would be one.
    """
    names = [name for state in states for name in state if isinstance(name, str)]
    trouble = None
    if not prefix or not any(name.startswith(prefix) for name in names):
        trouble = "with which no name begins"
    for state in states:
        counts = Counter(_without(name, prefix) for name in state)
        twice = [name for name, count in counts.items() if count > 1]
        trouble = trouble or (f"which leaves '{twice[0]}' twice" if twice else None)
    if trouble:
        raise broken(
            "a prefix to strip must begin names of the checkpoint, and leave each a name of its "
            "own",
            f"{prefix!r}, {trouble}",
            f"give what stands before the network's own names, as in {', '.join(names[:2])}",
        )
    for state in states:
        renamed = [(_without(name, prefix), tensor) for name, tensor in state.items()]
        state.clear()
        state.update(renamed)
        _strip_modules(state, prefix)


def _without(name: Any, prefix: str) -> Any:
    return name.removeprefix(prefix) if isinstance(name, str) else name


def _strip_modules(state: dict[str, Any], prefix: str) -> None:
    """Rename the modules in PyTorch's metadata, which has the version of each one's layout."""
    noted = getattr(state, "_metadata", None)
    if isinstance(noted, dict):
        for module in [name for name in noted if f"{name}.".startswith(prefix)]:
            noted[f"{module}.".removeprefix(prefix).removesuffix(".")] = noted.pop(module)
