"""The cost of a layer: multiply-accumulates and bytes of both compositions (section 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from do_conv.core import rules
from do_conv.core.spec import SeparableSpec, Shape, Spec


@dataclass(frozen=True)
class Cost:
    """The cost of computing a layer's output in one way, for one batch.

    Attributes:
        macs: multiply-accumulates of the forward pass; sums without a product are not counted.
        parameter_bytes: the parameters, without the bias.
        intermediate_bytes: the array between the parameters and the output that is kept for the
            backward pass: W' in kernel composition, the features P' = D o P in feature composition.
    """

    macs: int
    parameter_bytes: int
    intermediate_bytes: int


@dataclass(frozen=True)
class LayerCost:
    """The costs of one layer.

    Attributes:
        plain: as deployed: an ordinary convolution, or a separable pair's two convolutions.
        kernel: in training, by kernel composition.
        feature: in training, by feature composition.

    Examples:
        >>> from do_conv import Spec, layer_cost
        >>> cost = layer_cost(Spec(256, 256, (3, 3)), (28, 28))
        >>> cost.plain.macs, cost.kernel.macs, cost.cheaper
        (462422016, 467730432, 'kernel')
    """

    plain: Cost
    kernel: Cost
    feature: Cost

    @property
    def cheaper(self) -> str:
        """The composition with fewer multiply-accumulates; "kernel" where they are equal."""
        return "feature" if self.feature.macs < self.kernel.macs else "kernel"


def layer_cost(spec: Spec, output_size: Shape, *, batch: int = 1, itemsize: int = 4) -> LayerCost:
    """The cost of a layer whose output has spatial size `output_size`.

    Kernel composition takes `D_mul*|K|*C_out*(C_in/G)` once a batch and `C_out*(C_in/G)*|K|` for
    each output position; feature composition `D_mul*|K|*C_in + C_out*(C_in/G)*D_mul` for each
    output position, which is also what a deployed separable pair takes. Where |K| = 1 all three are
    the plain layer.

    Args:
        spec: the layer's sizes, with known channels.
        output_size: the spatial size of the output; of a transposed layer, that of its input.
        batch: the number of samples.
        itemsize: bytes of one number.

    Returns:
        the three costs.

    Raises:
        DOConvError: if a size is not a positive integer.
    """
    size = rules.axes("output_size", output_size, spec.rank)
    batch = rules.integer("batch", batch)
    rules.integer("in_channels", spec.in_channels)  # None before an input has been seen
    channels = spec.depthwise_channels
    positions = batch * math.prod(size)
    pairs = spec.rows * channels // spec.groups
    ordinary = Cost(pairs * spec.area * positions, pairs * spec.area * itemsize, 0)
    if not spec.has_delta:
        return LayerCost(ordinary, ordinary, ordinary)
    depthwise = channels * spec.d_mul
    parameter_bytes = (pairs * spec.d_mul + depthwise * spec.area) * itemsize
    kernel = Cost(
        spec.d_mul * spec.area * pairs + ordinary.macs,
        parameter_bytes,
        ordinary.parameter_bytes,
    )
    feature = Cost(
        (depthwise * spec.area + pairs * spec.d_mul) * positions,
        parameter_bytes,
        depthwise * positions * itemsize,
    )
    deployed = feature if isinstance(spec, SeparableSpec) else ordinary
    return LayerCost(deployed, kernel, feature)
