"""DO-Conv for Keras 3, on any of its backends, in place of `keras.layers.Conv1D` and the like.

layers        DOConv1D, DOConv2D, DOConv3D
depthwise     DODepthwiseConv2D
base          what the two have in common
composition   W' from W and D' in `keras.ops`
"""

from do_conv.core.errors import KERAS_BACKENDS, missing_keras_backend, require_installed

require_installed("keras", extra="tf", user="do_conv.tf")

try:
    import keras  # noqa: F401
except ModuleNotFoundError as error:
    # Keras imports the framework it computes with; another missing module is Keras's own trouble.
    if error.name not in KERAS_BACKENDS:
        raise
    raise missing_keras_backend(error.name) from None

from do_conv.tf.composition import compose  # noqa: E402
from do_conv.tf.depthwise import DODepthwiseConv2D  # noqa: E402
from do_conv.tf.layers import DOConv1D, DOConv2D, DOConv3D  # noqa: E402

__all__ = ["DOConv1D", "DOConv2D", "DOConv3D", "DODepthwiseConv2D", "compose"]
