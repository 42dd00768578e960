"""The original authors' names and arguments, for code that was written for their PyTorch file.

`DOConv2d` takes the arguments of their layer in their order, and reads their checkpoints by
`load_state_dict`. It is `do_conv.torch.DOConv2d` in all else.

layer   their `DOConv2d`
edited  `DOConv2d` and `DOConv2d_eval` of the edited copy from image deblurring
state   the authors' arrays of one layer, as W and D'
"""

from do_conv.torch.authors.layer import DOConv2d

__all__ = ["DOConv2d"]
