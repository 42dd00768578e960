"""`over_parameterize`: a D' for the `weight` of a layer that keeps its own forward pass."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from do_conv.core import rules
from do_conv.core.rules import DepthwiseInit
from do_conv.core.spec import Spec
from do_conv.models import checks
from do_conv.torch.base import Composed
from do_conv.torch.composition import compose_spec
from do_conv.torch.starts import start_delta, weight_for

LayerT = TypeVar("LayerT", bound=nn.Module)


class Composition(nn.Module):
    """A parametrization of a kernel: it is composed of W, the original, and D'.

    Attributes:
        depthwise_delta: D' = D - I, `(C_in, D_mul, *K)`, for a transposed layer
            `(C_out, D_mul, *K)`.
    """

    def __init__(self, spec: Spec, kernel: Tensor) -> None:
        super().__init__()
        self.spec = spec
        self.depthwise_delta = nn.Parameter(
            kernel.new_zeros(spec.delta_shape), requires_grad=kernel.requires_grad
        )

    def forward(self, weight: Tensor) -> Tensor:
        """W', given W."""
        return compose_spec(weight, self.depthwise_delta, self.spec)

    @torch.no_grad()
    def right_inverse(self, kernel: Tensor) -> Tensor:
        """A W for a kernel that is assigned: D becomes the identity again."""
        self.depthwise_delta.zero_()
        return weight_for(kernel, self.spec)

    def extra_repr(self) -> str:
        """The sizes."""
        return f"kernel_size={self.spec.kernel_size}, d_mul={self.spec.d_mul}"


def over_parameterize(
    layer: LayerT, *, d_mul: int | None = None, depthwise_init: DepthwiseInit = "identity"
) -> LayerT:
    """Over-parameterize the kernel of a convolution, in place, by `torch.nn.utils.parametrize`.

    The layer's own forward pass goes on reading `layer.weight`, which is W' from then on: so it
    works for any subclass. W is `layer.parametrizations.weight.original`. The price is PyTorch's:
    the kernel is composed each time `weight` is read, the class changes, the keys of the state
    dict change, and the layer cannot be pickled.
    `parametrize.remove_parametrizations(layer, "weight")` folds it, together with every other
    parametrization of the weight.

    Args:
        layer: an `nn.Conv` or `nn.ConvTranspose` of any subclass.
        d_mul: D_mul, at least |K|, the default.
        depthwise_init: "identity", with which the outputs stay as they are, or "he" (Table 7).

    Returns:
        the layer. A layer with a 1 x 1 kernel stays as it is: it has no D.

    Raises:
        DOConvError: if it is no convolution, has no parameters yet, or has a D already; or if
            another parametrization computes its weight and d_mul is not |K|.
    """
    composed = isinstance(layer, Composed) or is_over_parameterized(layer)
    checks.plain_convolution(isinstance(layer, _ConvNd) and not composed, type(layer).__name__)
    rules.built(type(layer).__name__, not any(map(is_lazy, layer.parameters())))
    plain: Any = layer  # the checks above leave a convolution only
    sizes = (plain.in_channels, plain.out_channels, plain.kernel_size, plain.groups, d_mul)
    spec, start = Spec(*sizes, transposed=plain.transposed), rules.depthwise_init(depthwise_init)
    if spec.has_delta:
        if parametrize.is_parametrized(layer, "weight"):
            checks.slots_of_computed_weight(spec.d_mul, spec.area)
        composition = Composition(spec, plain.weight)
        parametrize.register_parametrization(layer, "weight", composition)
        start_delta(composition.depthwise_delta, start, spec)
    return layer


def is_over_parameterized(layer: Any) -> bool:
    """Whether the layer's `weight` has been given a D."""
    if not parametrize.is_parametrized(layer, "weight"):
        return False
    return any(isinstance(step, Composition) for step in layer.parametrizations.weight)
