"""What D is, where it is not that of Table 1: the options of Tables 6 to 8, in every script.

A variant has a name of its own, and is compared with the same plain runs.
"""

from __future__ import annotations

import argparse
from typing import Any

from do_conv import choices

# D_mul of Table 8, for a kernel of M x N positions; 4MN is its (M x 2) x (N x 2).
D_MULS = {
    "MN": None,
    "(M+2)(N+2)": lambda spec: (spec.kernel_size[0] + 2) * (spec.kernel_size[1] + 2),
    "4MN": lambda spec: 4 * spec.area,
}
_IN_NAMES = {"(M+2)(N+2)": "dmul-wider", "4MN": "dmul-4"}
# The options of variants that any network can have, by what they add to its name.
KNOWN = {
    "he": ["--depthwise-init", "he"],
    "dmul-wider": ["--d-mul", "(M+2)(N+2)"],
    "dmul-4": ["--d-mul", "4MN"],
}
DEFAULTS = {"first": None, "depthwise_init": "identity", "d_mul": "MN"}


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("--depthwise-init", choices=("identity", "he"), default="identity", help="of D, Table 7")
    add("--d-mul", choices=D_MULS, default="MN", help="Table 8")


def add_first_to(parser: argparse.ArgumentParser) -> None:
    """Add the option of a network without stages, in the place of Table 6."""
    about = "convert only the first N convolutions, as Table 6 does with stages"
    parser.add_argument("--first", type=int, metavar="N", help=about)


def settings(given: argparse.Namespace) -> dict[str, Any]:
    """The options that were given and are not the default."""
    chosen = {name: getattr(given, name, default) for name, default in DEFAULTS.items()}
    return {name: value for name, value in chosen.items() if value != DEFAULTS[name]}


def in_name(given: argparse.Namespace) -> list[str]:
    """The parts of a run's name that say them."""
    found = settings(given)
    parts = [f"first{found['first']}"] if "first" in found else []
    parts += [found["depthwise_init"]] if "depthwise_init" in found else []
    return parts + ([_IN_NAMES[found["d_mul"]]] if "d_mul" in found else [])


def of_convert(given: argparse.Namespace) -> dict[str, Any]:
    """The options of `convert`, which the optimizers have too."""
    found = {**DEFAULTS, **settings(given)}
    where = {} if found["first"] is None else {"where": choices.first(found["first"])}
    return {"depthwise_init": found["depthwise_init"], "d_mul": D_MULS[found["d_mul"]], **where}
