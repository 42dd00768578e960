"""How much longer a training step takes with DO-Conv: an estimate from sizes alone.

A step is taken for a sum of the parts below. They were fitted to whole networks in PyTorch's eager
mode on two processor cores, composed by the loops in C. With kernel composition they meet the
measured ratios to about a tenth (`docs/speed.md` has both side by side); for feature composition
they are an upper limit, good for choosing. Only the ratio is for other machines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from do_conv.core.rules import CompositionName
from do_conv.core.spec import Shape, Spec

# Seconds of a training step, forward and backward:
PER_USE = 3.3e-3  # each use of a convolution, with the normalisation and the activation that follow
PER_MAC = 7e-11  # each multiply-accumulate of the output, with the two of the gradients
PER_PARAMETER = 2e-9  # each parameter: its gradient, its update
# and what DO-Conv adds to a layer:
PER_KERNEL = 0.6e-3  # kernel composition, however small the kernel
PER_WEIGHT = 1.7e-9  # and each number of W
PER_FEATURES = 1e-3  # feature composition, however few features
PER_FEATURE = 15e-9  # and each of P'


def step(uses: int, macs: int, parameters: int) -> float:
    """Seconds of a training step without DO-Conv."""
    return PER_USE * uses + PER_MAC * macs + PER_PARAMETER * parameters


def added(spec: Spec, uses: Sequence[Shape], batch: int, composition: CompositionName) -> float:
    """Seconds that a layer adds to a step, whose outputs have these sizes in its uses."""
    if composition == "kernel":
        weights = spec.rows * spec.group_channels * spec.d_mul
        return len(uses) * (PER_KERNEL + PER_WEIGHT * weights)
    assert spec.depthwise_channels is not None
    features = spec.depthwise_channels * spec.d_mul * batch * sum(map(math.prod, uses))
    return len(uses) * PER_FEATURES + PER_FEATURE * features


def faster(spec: Spec, uses: Sequence[Shape], batch: int) -> str:
    """The composition that adds less; "kernel" where they add the same."""
    feature, kernel = (added(spec, uses, batch, name) for name in ("feature", "kernel"))
    return "feature" if feature < kernel else "kernel"
