"""How much longer a training step takes with DO-Conv: an estimate from sizes alone.

A step is taken for a sum of the parts below. They were fitted to whole networks in PyTorch's eager
mode on two processor cores, and meet the measured ratios to about a tenth (`docs/speed.md` has both
side by side). Only the ratio is for other machines.
"""

from __future__ import annotations

import math

from do_conv.core.spec import Shape, Spec

# Seconds of a training step, forward and backward:
USE = 3e-3  # each use of a convolution, with the normalisation and the activation that follow
MAC = 6e-11  # each multiply-accumulate of the output, with the two of the gradients
PARAMETER = 3e-9  # each parameter: its gradient, its update
# and what DO-Conv adds to a layer:
COMPOSING = 1e-3  # either composition, however small
NUMBER = 6e-9  # each number of W, in kernel composition
FEATURE = 15e-9  # each of the features P', in feature composition


def step(uses: int, macs: int, parameters: int) -> float:
    """Seconds of a training step without DO-Conv."""
    return USE * uses + MAC * macs + PARAMETER * parameters


def added(spec: Spec, output_size: Shape, batch: int, composition: str) -> float:
    """Seconds that one use of a layer adds to a step."""
    if composition == "feature":
        assert spec.in_channels is not None
        features = spec.in_channels * spec.d_mul * batch * math.prod(output_size)
        return COMPOSING + FEATURE * features
    return COMPOSING + NUMBER * spec.out_channels * spec.group_in_channels * spec.d_mul
