"""Names that a user chooses from a list."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from do_conv.core.errors import broken


def known_name(kind: str, name: str, names: Iterable[str]) -> str:
    """`name`, if it is among `names`; otherwise the nearest ones are offered."""
    known = list(names)
    if name not in known:
        if len(known) == 1:
            rule, remedy = f"the {kind} must be '{known[0]}'", "give this one"
        elif len(known) <= 5:
            rule = f"the {kind} must be one of {', '.join(map(repr, known))}"
            remedy = "choose one of these"
        else:
            near = difflib.get_close_matches(name, known, n=3) or known[:3]
            rule = f"the {kind} must be one of {len(known)} names"
            remedy = f"choose for example {', '.join(near)}"
        raise broken(rule, repr(name), remedy)
    return name
