"""DO-Conv for MXNet Gluon: `DOConv2D` in place of `nn.Conv2D`, and so on.

Import it before `mxnet`: it sets names that MXNet 1.9.1 reads from NumPy and NumPy has removed.

layers        DOConv1D, 2D, 3D
transposed    DOConv1DTranspose, 2DTranspose, 3DTranspose
separable     DepthwiseSeparableConv1D, 2D, 3D
authors       DOConv2D with the arguments of the original authors' code
base          the bases of all of these
deferred      the sizes of layers that see their input channels late
models        whole models: `convert`, `fold`, `plan`, `verify` and `folded_parameters`
optimizer     `DOConvTrainer`: W and D' beside a network that stays plain
plain         the plain layers' arguments, and the values they are given
composition   W' from W and D' in MXNet
starts        how W, D' and a separable pair start
loading       D' of layers that are given a plain file
arrays        MXNet's two kinds of arrays
numpy_names   the removed names
gluoncv_check GluonCV beside PyTorch 2
"""

from do_conv.core.errors import require_installed

require_installed("mxnet", extra="gluon", user="do_conv.gluon")

from do_conv.gluon import gluoncv_check, numpy_names  # noqa: E402

numpy_names.restore()
gluoncv_check.install()

from do_conv.gluon import loading  # noqa: E402
from do_conv.gluon.composition import compose, compose_separable  # noqa: E402
from do_conv.gluon.layers import DOConv1D, DOConv2D, DOConv3D  # noqa: E402
from do_conv.gluon.models.conversion import convert  # noqa: E402
from do_conv.gluon.models.folding import fold  # noqa: E402
from do_conv.gluon.models.planning import plan  # noqa: E402
from do_conv.gluon.models.state import folded_parameters  # noqa: E402
from do_conv.gluon.models.verification import verify  # noqa: E402
from do_conv.gluon.optimizer import DOConvTrainer  # noqa: E402
from do_conv.gluon.separable import (  # noqa: E402
    DepthwiseSeparableConv1D,
    DepthwiseSeparableConv2D,
    DepthwiseSeparableConv3D,
)
from do_conv.gluon.transposed import (  # noqa: E402
    DOConv1DTranspose,
    DOConv2DTranspose,
    DOConv3DTranspose,
)

loading.install()

__all__ = [
    "DOConv1D",
    "DOConv1DTranspose",
    "DOConv2D",
    "DOConv2DTranspose",
    "DOConv3D",
    "DOConv3DTranspose",
    "DOConvTrainer",
    "DepthwiseSeparableConv1D",
    "DepthwiseSeparableConv2D",
    "DepthwiseSeparableConv3D",
    "compose",
    "compose_separable",
    "convert",
    "fold",
    "folded_parameters",
    "plan",
    "verify",
]
