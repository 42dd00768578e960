"""Networks and operators that make the recipes small enough for tests; as a script, a recipe."""

import sys
from functools import partial

import cpu_torchvision
import pytest
import torch
from torch import nn
from torchvision.ops import box_iou

from examples.recipes import classification, detection, segmentation, training

roi_align_module = sys.modules["torchvision.ops.roi_align"]


class Tiny(nn.Module):
    """Two convolutions, without normalisation: several processes do what one does."""

    def __init__(self, classes):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1)
        self.fc = nn.Linear(16, classes)

    def features(self, x):
        return torch.relu(self.conv2(torch.relu(self.conv1(x))))

    def forward(self, x):
        return self.fc(self.features(x).mean((2, 3)))


class TinyDeepLab(nn.Module):
    """The names and outputs of torchvision's DeepLabV3, with `Tiny` as its backbone."""

    def __init__(self, classes):
        super().__init__()
        self.backbone = Tiny(1)
        del self.backbone.fc
        self.classifier, self.aux_classifier = (
            nn.Conv2d(16, classes, 3, 1, 1),
            nn.Conv2d(16, classes, 1),
        )

    def forward(self, x):
        features, size = self.backbone.features(x), x.shape[2:]
        heads = {"out": self.classifier, "aux": self.aux_classifier}
        return {k: nn.functional.interpolate(h(features), size) for k, h in heads.items()}


classification.NETWORKS["tiny"] = Tiny
segmentation.NETWORKS["tiny_deeplab"] = TinyDeepLab
# Few boxes: torchvision's operators are slow in Python.
FEW = {f"rpn_{when}_nms_top_n_{mode}": 20 for when in ("pre", "post") for mode in ("train", "test")}
detection.NETWORKS["few_boxes"] = partial(
    detection.faster_rcnn, 18, box_batch_size_per_image=16, **FEW
)


def nms(boxes, scores, iou_threshold):
    """What torchvision's operator does, where its wheel has none for this PyTorch."""
    left, kept = scores.argsort(descending=True), []
    while len(left):
        kept.append(left[0])
        overlap = box_iou(boxes[left[:1]], boxes[left])[0]
        left = left[(overlap <= iou_threshold) & (torch.arange(len(left)) > 0)]
    return torch.stack(kept) if kept else left


def interrupted(run):
    """Run until the evaluation after the second epoch, as a person or a machine might."""
    evaluate, calls = training.Training.evaluate, []

    def stop(self):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate(self)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(training.Training, "evaluate", stop)
        with pytest.raises(KeyboardInterrupt):
            run()


def use_python_operators(monkeypatch):
    """Boxes without torchvision's compiled operators."""
    if cpu_torchvision.torchvision.extension._has_ops():
        return
    monkeypatch.setattr(cpu_torchvision.torchvision.ops.boxes, "nms", nms)
    # The hook would compile it, which takes longer than all tests.
    plain = roi_align_module._roi_align.__wrapped__
    monkeypatch.setattr(roi_align_module, "_roi_align", plain)
    monkeypatch.setattr(roi_align_module, "_assert_has_ops", lambda: None)


if __name__ == "__main__":
    sys.exit(training.main(classification.Classification(), sys.argv[1:]))
