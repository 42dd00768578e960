"""MobileNet v1, of plain layers (Howard et al., arXiv 1704.04861); torchvision has v2 and v3."""

from __future__ import annotations

from torch import Tensor, nn

# The channels after each depthwise separable pair, and the stride of the pair.
PAIRS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2),
    (1024, 1),
)  # fmt: skip


class MobileNetV1(nn.Module):
    """Depthwise and pointwise convolutions by turns, each normalised."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        channels, layers = 32, [_layer(3, 32, 3, 2)]
        for outputs, stride in PAIRS:
            layers += [_layer(channels, channels, 3, stride, channels)]
            layers += [_layer(channels, outputs, 1)]
            channels = outputs
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """The classes' scores, `(N, classes)`."""
        return self.classifier(self.features(x).mean((2, 3)))


def _layer(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
