"""What a run would do and cost, without its data."""

from __future__ import annotations

import argparse

from torch import nn

from do_conv.torch import plan
from examples import doors
from examples.recipes import distributed, options
from examples.recipes.recipe import Recipe

AFTERWARDS = {
    doors.LAYERS: "after folding those of the plain network",
    doors.OPTIMIZER: "W and D' are in the optimizer, and the network stays plain",
}


def told(recipe: Recipe, given: argparse.Namespace, model: nn.Module) -> str:
    """The plan, the number of steps, and the cost, for the plain network `model`."""
    shape = recipe.input_shape(given)
    planned = plan(model, input_shape=shape, where=options.where(given))
    before, composing = planned.macs or (0, 0)
    # A kernel is composed once for all images that a process has in a batch.
    training = before + (composing - before) // (given.batch // distributed.world() or 1)
    steps = given.images // given.batch
    size = " x ".join(map(str, shape[2:]))
    lines = [] if given.arm == "plain" else [str(planned), ""]
    parameters = f"{planned.parameters:,} parameters"
    macs = f"{before:,} multiply-accumulates of convolutions for an image of {size}"
    lines.append(f"{given.network}: {parameters}, {macs}")
    if given.arm != "plain":
        lines.append(
            f"in training: {planned.training_parameters:,} parameters, {training:,} "
            f"multiply-accumulates for an image; {AFTERWARDS[given.door]}"
        )
    lines.append(
        f"{given.epochs} epochs of {steps:,} steps of {given.batch} images out of {given.images:,}"
        f": {given.epochs * steps:,} steps"
    )
    return "\n".join(lines)
