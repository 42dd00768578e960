"""The names of our keyword arguments."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

from do_conv.core import rules

P = ParamSpec("P")


def checks_names(init: Callable[P, None]) -> Callable[P, None]:
    """Let a constructor refuse other spellings of `d_mul`, and say the right one.

    Its signature stays the plain layer's and ours, without a `**kwargs` that takes anything.
    """

    @functools.wraps(init)
    def checked(*args: P.args, **kwargs: P.kwargs) -> None:
        rules.own_names(kwargs)
        init(*args, **kwargs)

    return checked
