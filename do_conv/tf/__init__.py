"""DO-Conv for Keras 3, on any of its backends, in place of `keras.layers.Conv1D` and the like.

layers           DOConv1D, DOConv2D, DOConv3D
depthwise        DODepthwiseConv2D
transposed       DOConv1DTranspose, DOConv2DTranspose, DOConv3DTranspose
separable        DepthwiseSeparableConv1D, DepthwiseSeparableConv2D
separable_delta  DOSeparableConv1D, DOSeparableConv2D
composed         the base of all of these
base             the base of those with a D'
plain            the plain layers' arguments, and layers made from the configuration of others
starts           how W and D' start
optimizer        DOConvOptimizer: W and D' beside a model that stays plain
composition      W' from W and D' in `keras.ops`, and gradients
authors          DOConv2D with the arguments of the original authors' code
models           `convert`, `fold`, `plan`, `verify` and `folded_weights`: whole models
"""

from do_conv.core.errors import require_installed
from do_conv.tf.missing import KERAS_BACKENDS, missing_keras_backend

require_installed("keras", extra="tf", user="do_conv.tf")

try:
    import keras  # noqa: F401
except ModuleNotFoundError as error:
    # Keras imports its backend; any other missing module is reported as it is.
    if error.name not in KERAS_BACKENDS:
        raise
    raise missing_keras_backend(error.name) from None

from do_conv.tf.composition import compose, compose_separable  # noqa: E402
from do_conv.tf.depthwise import DODepthwiseConv2D  # noqa: E402
from do_conv.tf.layers import DOConv1D, DOConv2D, DOConv3D  # noqa: E402
from do_conv.tf.models.conversion import convert  # noqa: E402
from do_conv.tf.models.folding import fold  # noqa: E402
from do_conv.tf.models.planning import plan  # noqa: E402
from do_conv.tf.models.state import folded_weights  # noqa: E402
from do_conv.tf.models.verification import verify  # noqa: E402
from do_conv.tf.optimizer import DOConvOptimizer  # noqa: E402
from do_conv.tf.separable import DepthwiseSeparableConv1D, DepthwiseSeparableConv2D  # noqa: E402
from do_conv.tf.separable_delta import DOSeparableConv1D, DOSeparableConv2D  # noqa: E402
from do_conv.tf.transposed import (  # noqa: E402
    DOConv1DTranspose,
    DOConv2DTranspose,
    DOConv3DTranspose,
)

__all__ = [
    "DOConv1D",
    "DOConv1DTranspose",
    "DOConv2D",
    "DOConv2DTranspose",
    "DOConv3D",
    "DOConv3DTranspose",
    "DOConvOptimizer",
    "DODepthwiseConv2D",
    "DOSeparableConv1D",
    "DOSeparableConv2D",
    "DepthwiseSeparableConv1D",
    "DepthwiseSeparableConv2D",
    "compose",
    "compose_separable",
    "convert",
    "fold",
    "folded_weights",
    "plan",
    "verify",
]
