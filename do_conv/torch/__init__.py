"""DO-Conv for PyTorch: `DOConv1d`, `2d` and `3d` in place of `nn.Conv1d`, `2d` and `3d`.

layers        the layers
composition   W' from W and D' in PyTorch
"""

from do_conv.core.errors import require_installed

require_installed("torch", extra="torch", user="do_conv.torch")

from do_conv.torch.composition import compose  # noqa: E402
from do_conv.torch.layers import DOConv1d, DOConv2d, DOConv3d  # noqa: E402

__all__ = ["DOConv1d", "DOConv2d", "DOConv3d", "compose"]
