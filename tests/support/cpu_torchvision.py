"""Import this before torchvision or timm.

torchvision's wheel on PyPI is linked to the libraries of PyTorch with CUDA. With a PyTorch for the
CPU its operators do not load, and importing it asks for two that are absent. They are declared
here, and `nms` is written out, so that detection networks run. torchvision itself has the other
operators that these networks need, in Python.
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

    def nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
        """The boxes that overlap with no better one that is kept, the best first."""
        order = scores.argsort(descending=True, stable=True)
        overlap = torchvision.ops.box_iou(boxes[order], boxes[order]) > iou_threshold
        is_kept = torch.ones(len(order), dtype=torch.bool)
        for i in range(len(order)):
            if is_kept[i]:
                is_kept[i + 1 :] &= ~overlap[i, i + 1 :]
        return order[is_kept]

    LIBRARY.impl("nms", nms, "CPU")
    # The check before `nms`; the other operators have one of their own.
    torchvision.ops.boxes._assert_has_ops = lambda: None

__all__ = ["torchvision"]
