"""The settings of the study: a base, and one change in each of the others; variants of D."""

from __future__ import annotations

from dataclasses import dataclass, replace

from examples import variants


@dataclass(frozen=True)
class Setting:
    """What a network is and how it is trained.

    Attributes:
        depth: how many convolutions it has.
        width: the channels of each.
    """

    optimizer: str = "SGD"
    rate: float = 0.1
    decay: float = 1e-4
    batch: int = 32
    width: int = 16
    depth: int = 4


BASE = Setting()
ADAM = replace(BASE, optimizer="Adam", rate=0.01)
FACTORS = (0.3, 1, 3)  # of the learning rate


def _rates(name: str, base: Setting) -> dict[str, Setting]:
    """The base at each learning rate; its own has the plain name."""
    return {
        name if factor == 1 else f"{name}-rate-{factor:g}": replace(base, rate=factor * base.rate)
        for factor in FACTORS
    }


# By the learning rate, for each optimizer: the rate is tuned among these.
RATES = {"SGD": _rates("sgd", BASE), "Adam": _rates("adam", ADAM)}
OTHERS = {
    "batch-8": replace(BASE, batch=8),
    "batch-128": replace(BASE, batch=128),
    "no-decay": replace(BASE, decay=0.0),
    "width-8": replace(BASE, width=8),
    "width-32": replace(BASE, width=32),
    "depth-2": replace(BASE, depth=2),
    "depth-8": replace(BASE, depth=8),
}
SETTINGS = {**RATES["SGD"], **RATES["Adam"], **OTHERS}
# Of D in the base setting: the options by what they add to its name.
VARIANTS = {
    "first1": ["--first", "1"],
    "first2": ["--first", "2"],
    "first3": ["--first", "3"],
    **variants.KNOWN,
}
