"""DO-Conv for PyTorch: `DOConv2d` in place of `nn.Conv2d`, and so on.

layers           DOConv1d, 2d, 3d
transposed       DOConvTranspose1d, 2d, 3d
separable        DepthwiseSeparableConv1d, 2d, 3d
lazy             the first two kinds, for inputs of unknown channels
base             the bases of all of these
plain            the plain layers' arguments, and the tensors they are given
parametrization  `over_parameterize`: for layers with a forward pass of their own
models           whole models: `convert`, `fold`, `plan`, `verify` and what goes with them
composition      W' from W and D' in PyTorch
optimizer        `DOConvOptimizer`: W and D' beside a network that stays plain
starts           how W and D' start
authors          layers with the arguments of the original authors' code
other_tools      the marks that pruning and quantisation leave on a layer
"""

from do_conv.core.errors import require_installed

require_installed("torch", extra="torch", user="do_conv.torch")

from do_conv.torch.composition import compose, compose_separable  # noqa: E402
from do_conv.torch.layers import DOConv1d, DOConv2d, DOConv3d  # noqa: E402
from do_conv.torch.lazy import (  # noqa: E402
    LazyDOConv1d,
    LazyDOConv2d,
    LazyDOConv3d,
    LazyDOConvTranspose1d,
    LazyDOConvTranspose2d,
    LazyDOConvTranspose3d,
)
from do_conv.torch.models.conversion import convert  # noqa: E402
from do_conv.torch.models.folding import fold  # noqa: E402
from do_conv.torch.models.optimization import adaptive_clip_grad, parameter_groups  # noqa: E402
from do_conv.torch.models.planning import plan  # noqa: E402
from do_conv.torch.models.state import folded_state_dict  # noqa: E402
from do_conv.torch.models.training import composed  # noqa: E402
from do_conv.torch.models.verification import verify  # noqa: E402
from do_conv.torch.optimizer import DOConvOptimizer  # noqa: E402
from do_conv.torch.parametrization import over_parameterize  # noqa: E402
from do_conv.torch.separable import (  # noqa: E402
    DepthwiseSeparableConv1d,
    DepthwiseSeparableConv2d,
    DepthwiseSeparableConv3d,
)
from do_conv.torch.transposed import (  # noqa: E402
    DOConvTranspose1d,
    DOConvTranspose2d,
    DOConvTranspose3d,
)

__all__ = [
    "DOConv1d",
    "DOConv2d",
    "DOConv3d",
    "DOConvOptimizer",
    "DOConvTranspose1d",
    "DOConvTranspose2d",
    "DOConvTranspose3d",
    "DepthwiseSeparableConv1d",
    "DepthwiseSeparableConv2d",
    "DepthwiseSeparableConv3d",
    "LazyDOConv1d",
    "LazyDOConv2d",
    "LazyDOConv3d",
    "LazyDOConvTranspose1d",
    "LazyDOConvTranspose2d",
    "LazyDOConvTranspose3d",
    "adaptive_clip_grad",
    "compose",
    "compose_separable",
    "composed",
    "convert",
    "fold",
    "folded_state_dict",
    "over_parameterize",
    "parameter_groups",
    "plan",
    "verify",
]
