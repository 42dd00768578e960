"""The original authors' names and arguments, for code that was written for their PyTorch file.

The layers take the authors' arguments in their order, and read their checkpoints by
`load_state_dict`. They are those of `do_conv.torch` in all else.

layer   their `DOConv2d`, and `DOConv1d` and `DOConv3d` of copies of their file
edited  `DOConv2d` and `DOConv2d_eval` of the edited copy from image deblurring
state   the authors' arrays of one layer, as W and D'
"""

from do_conv.torch.authors.layer import DOConv1d, DOConv2d, DOConv3d

__all__ = ["DOConv1d", "DOConv2d", "DOConv3d"]
