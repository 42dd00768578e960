"""Import this before torchvision or timm.

torchvision's wheel is built for PyTorch with CUDA and asks, when it is imported, for two operators
that a PyTorch for the CPU does not have. They are declared here, without an implementation: box
operators stay unusable, and networks do not need them.
"""

import torch

try:
    import torchvision
except RuntimeError:
    # The declarations live as long as the library.
    LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

__all__ = ["torchvision"]
