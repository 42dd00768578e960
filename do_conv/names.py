"""Names that a user chooses from a list."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from do_conv.core.errors import broken


def known_name(kind: str, name: str, names: Iterable[str]) -> str:
    """`name`, if it is among `names`; otherwise the nearest ones are offered."""
    known = list(names)
    if name in known:
        return name
    if len(known) == 1:
        raise broken(f"the {kind} must be '{known[0]}'", repr(name), "give this one")
    if len(known) <= 5:
        listed = ", ".join(map(repr, known))
        raise broken(f"the {kind} must be one of {listed}", repr(name), "choose one of these")
    near = difflib.get_close_matches(name, known, n=3) or known[:3]
    raise broken(
        f"the {kind} must be one of {len(known)} names",
        repr(name),
        f"choose for example {', '.join(near)}",
    )
