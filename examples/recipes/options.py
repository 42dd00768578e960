"""The options that all recipes have."""

from __future__ import annotations

import argparse
import functools
import operator
from pathlib import Path
from typing import Any

from do_conv import choices
from examples import doors, variants
from examples.recipes.recipe import Recipe
from examples.recipes.stages import Pretrained
from examples.records import ARMS, RESULTS

PRECISIONS = ("float32", "bfloat16", "float16")
# The settings of D; the plain arm has none.
OF_D = ("where", "stages", "depthwise_init", "d_mul", "door")
# What may change when a run is taken up; the arm and the seed are in its name.
FREE = ("data", "out", "workers", "device", "dry_run", "arm", "seed", "pretrained")


def parsed(recipe: Recipe, arguments: list[str] | None) -> argparse.Namespace:
    """The options, with the published values where none are given.

    Raises:
        ValueError: if there is no network of that name.
    """
    parser = argparse.ArgumentParser(description=recipe.summary)
    _add(parser, recipe)
    recipe.options(parser)
    given = parser.parse_args(arguments)
    if given.network not in recipe.networks:
        raise ValueError(f"no network {given.network!r}; there are {', '.join(recipe.networks)}")
    if not given.dry_run and given.data is None:
        raise ValueError("--data is missing: name the folder of the data set, or give --dry-run")
    for name, value in recipe.defaults(given).items():
        if getattr(given, name, None) is None:
            setattr(given, name, value)
    return given


def _add(parser: argparse.ArgumentParser, recipe: Recipe) -> None:
    add = parser.add_argument
    add("--data", type=Path, help="the folder of the data set")
    add("--network", default=next(iter(recipe.networks)), help=", ".join(recipe.networks))
    add("--arm", choices=ARMS, default="do-conv")
    doors.add_to(parser)
    add("--where", metavar="EXPRESSION", help="convert only layers in whose name it is found")
    add("--stages", nargs="+", type=int, metavar="N", help="convert only these (Table 6)")
    variants.add_to(parser)
    add("--pretrained", type=Path, metavar="FILE", help="weights of either arm to begin with")
    add("--pretrained-arm", choices=ARMS, help="how they were trained, if they are folded")
    add("--epochs", type=positive, help="default: as published")
    add("--batch", type=positive, help="images of a step, of all processes together")
    add("--rate", type=float, help="the highest learning rate")
    add("--decay", type=float, help="weight decay")
    add("--no-decay-of-norms", action="store_true", help="no decay of norms and biases")
    add("--precision", choices=PRECISIONS, default="float32", help="of the forward pass")
    add("--sync-bn", action="store_true", help="norms see the images of all GPUs")
    add("--device", choices=("cuda", "cpu"), help="default: a GPU if there is one")
    add("--workers", type=int, default=4, help="processes that read images; 0 is this one")
    add("--seed", type=int, default=0)
    add("--out", type=Path, default=RESULTS, help="where lines, checkpoints and weights go")
    add("--dry-run", action="store_true", help="say what would be done; needs no data")


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


def settings(given: argparse.Namespace, before: Pretrained | None) -> dict[str, Any]:
    """What makes two runs the same."""
    kept = {name: value for name, value in vars(given).items() if name not in FREE}
    kept = {k: str(v) if isinstance(v, Path) else v for k, v in kept.items()}
    if given.arm == "plain":
        for name in OF_D:
            del kept[name]
    return {**kept, "pretrained": None if before is None else before.digest}


def experiment(recipe: Recipe, given: argparse.Namespace, before: Pretrained | None) -> str:
    """The name of what is compared, with the arm of the stage before, and with what D varies."""
    parts = [recipe.experiment(given)]
    if before is not None:
        parts.append(f"from-{before.arm}")
    if given.arm != "plain" and given.stages is not None:
        parts.append("stages" + "".join(map(str, given.stages)))
    if given.arm != "plain":
        parts += variants.in_name(given)
    parts += doors.in_name(given.arm, given.door)
    return "-".join(parts)


def door(given: argparse.Namespace) -> doors.Door:
    """How the arm is trained."""
    of_d = {**variants.of_convert(given), "where": where(given)}
    return doors.Door(given.arm, given.door, **of_d)


def where(given: argparse.Namespace) -> choices.Choice | None:
    """The layers to convert; None is all."""
    chosen = [] if given.where is None else [choices.named(given.where)]
    chosen += [] if given.stages is None else [choices.stages(given.stages)]
    return functools.reduce(operator.and_, chosen) if chosen else None
