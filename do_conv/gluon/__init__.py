"""DO-Conv for MXNet Gluon: `DOConv1D`, `2D` and `3D` in place of `nn.Conv1D`, `2D` and `3D`.

Import it before `mxnet`: it sets names that MXNet 1.9.1 reads from NumPy and NumPy has removed.

layers        the layers
composition   W' from W and D' in MXNet
starts        the initializer of D'
arrays        MXNet's two kinds of arrays
numpy_names   the removed names
"""

from do_conv.core.errors import require_installed

require_installed("mxnet", extra="gluon", user="do_conv.gluon")

from do_conv.gluon import numpy_names  # noqa: E402

numpy_names.restore()

from do_conv.gluon.composition import compose  # noqa: E402
from do_conv.gluon.layers import DOConv1D, DOConv2D, DOConv3D  # noqa: E402

__all__ = ["DOConv1D", "DOConv2D", "DOConv3D", "compose"]
