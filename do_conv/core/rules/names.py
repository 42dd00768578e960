"""The rule on names that a user chooses from a list."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from do_conv.core.errors import DOConvError

# In a longer list more names are alike, and a guess is less likely right.
SHORT = 8


def known_name(kind: str, name: Any, names: Iterable[str]) -> str:
    """`name`, if it is one of `names`."""
    known = list(names)
    if not isinstance(name, str) or name not in known:
        raise unknown(kind, name, known)
    return name


def unknown(kind: str, name: Any, names: Iterable[str]) -> DOConvError:
    """The error for a name that is not one of `names`: it suggests the nearest."""
    known = [name or "''" for name in names]
    is_short = len(known) <= SHORT
    near = difflib.get_close_matches(str(name), known, n=1 if is_short else 3)
    parts = []
    if near:
        parts.append(f"did you mean {' or '.join(near)}?")
    if len(known) == 1:
        parts.append(f"the only one is {known[0]}.")
    elif is_short:
        parts.append(f"choose from {', '.join(known)}.")
    elif not near:
        parts.append(f"choose from {len(known)}, such as {', '.join(known[:3])}.")
    return DOConvError(f"unknown {kind} {name!r}; {' '.join(parts)}")
