"""DO-Conv, the depthwise over-parameterized convolution (Cao et al., arXiv 2006.12030).

This package is the NumPy core. The layers live in a module per framework, imported by name:
`do_conv.torch`, `do_conv.tf` (Keras 3) and `do_conv.gluon` (MXNet).
"""

from do_conv.core.composition import (
    compose,
    compose_gradients,
    compose_separable,
    fold,
    identity_part,
)
from do_conv.core.convolution import Window, convolve
from do_conv.core.cost import Cost, LayerCost, layer_cost
from do_conv.core.errors import DOConvError, MissingFrameworkError
from do_conv.core.spec import SeparableSpec, Spec
from do_conv.core.starts import identity
from do_conv.models import choices

__version__ = "0.1.0"

__all__ = [
    "Cost",
    "DOConvError",
    "LayerCost",
    "MissingFrameworkError",
    "SeparableSpec",
    "Spec",
    "Window",
    "__version__",
    "choices",
    "compose",
    "compose_gradients",
    "compose_separable",
    "convolve",
    "fold",
    "identity",
    "identity_part",
    "layer_cost",
]
