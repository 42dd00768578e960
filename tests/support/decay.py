"""Weight decay alone, in a framework: with no images there is no other gradient."""

import dataclasses

import numpy as np

from do_conv import compose
from do_conv.parity import training

STEPS = 400


def distances(adapter):
    """How far W' is from W, relative to W, before and after decay by the framework's optimizer.

    The framework trains its layer on images that are zero, so that neither the kernel nor D' has
    another gradient than the decay's.
    """
    run = training.make_run("float64")
    still = dataclasses.replace(
        run, inputs=[np.zeros_like(run.inputs[0])] * STEPS, targets=run.targets[:1] * STEPS
    )
    return [
        _distance(parameters) for parameters in (run.start, training.train_with(adapter, still))
    ]


def _distance(parameters):
    weight, delta = (parameters[f"first.{name}"] for name in ("weight", "depthwise_delta"))
    return np.abs(compose(weight, delta) - weight).max() / np.abs(weight).max()
