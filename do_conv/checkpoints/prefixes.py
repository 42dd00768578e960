"""Prefixes that a wrapper put before the names of a network's arrays, such as `module.`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from do_conv.checkpoints import checks


def strip(states: Sequence[dict[str, Any]], prefix: str) -> None:
    """Take a prefix from all names that begin with it, in place.

    Raises:
        DOConvError: if no name begins with it, or two names would be one.
    """
    names = [name for state in states for name in state if isinstance(name, str)]
    begins = bool(prefix) and any(name.startswith(prefix) for name in names)
    checks.strippable_prefix(prefix, names, begins=begins)
    for state in states:
        renamed = [(_without(name, prefix), tensor) for name, tensor in state.items()]
        counts = Counter(name for name, _ in renamed)
        twice = [name for name, count in counts.items() if count > 1]
        checks.strippable_prefix(prefix, names, twice=twice)
        state.clear()
        state.update(renamed)
        _strip_modules(state, prefix)


def _without(name: Any, prefix: str) -> Any:
    return name.removeprefix(prefix) if isinstance(name, str) else name


def _strip_modules(state: dict[str, Any], prefix: str) -> None:
    """Rename what PyTorch notes of each module: the version of its layout."""
    noted = getattr(state, "_metadata", None)
    if isinstance(noted, dict):
        for module in [name for name in noted if f"{name}.".startswith(prefix)]:
            noted[f"{module}.".removeprefix(prefix).removesuffix(".")] = noted.pop(module)
