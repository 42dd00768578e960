"""Small networks as public code builds them around a copy of the authors' layer.

Each function takes the layer's class, which is called with the authors' arguments.
"""

import math

import torch
from torch import nn
from torch.nn import functional


class Theirs(nn.Module):
    """A layer that stores and computes as the authors' does, under `DIAGONAL`."""

    DIAGONAL = "d_diag"

    def __init__(
        self, in_channels, out_channels, kernel_size, D_mul=None, stride=1, padding=0,  # noqa: N803
        dilation=1, groups=1, bias=True, padding_mode="zeros",
    ):  # fmt: skip
        super().__init__()
        sides = kernel_size if isinstance(kernel_size, tuple) else (kernel_size, kernel_size)
        padding = padding if isinstance(padding, tuple) else (padding, padding)
        self.shape = (out_channels, in_channels // groups, *sides)
        self.options = {"stride": stride, "dilation": dilation, "groups": groups}
        self.padding, self.mode = padding, padding_mode
        area = math.prod(sides)
        slots = area if D_mul is None or area == 1 else D_mul
        self.W = nn.Parameter(torch.randn(out_channels, in_channels // groups, slots) / area)
        self.bias = nn.Parameter(torch.randn(out_channels)) if bias else None
        if area > 1:
            self.D = nn.Parameter(0.1 * torch.randn(in_channels, area, slots))
            blocks = torch.eye(area).repeat(1, slots // area)
            diagonal = functional.pad(blocks, (0, slots % area)).repeat(in_channels, 1, 1)
            self.register_parameter(self.DIAGONAL, nn.Parameter(diagonal, requires_grad=False))

    def kernel(self):
        if not hasattr(self, "D"):
            return self.W.reshape(self.shape)
        total = self.D + getattr(self, self.DIAGONAL)
        by_output = self.W.reshape(-1, len(self.D), self.W.shape[2])
        return torch.einsum("ims,ois->oim", total, by_output).reshape(self.shape)

    def forward(self, x):
        padding = self.padding
        if self.mode != "zeros":
            # `pad` begins with the last axis, and theirs gives it the first number.
            x = functional.pad(x, (padding[0],) * 2 + (padding[1],) * 2, self.mode)
            padding = 0
        return functional.conv2d(x, self.kernel(), self.bias, padding=padding, **self.options)


class Edited(Theirs):
    """The edited copy of image deblurring."""

    DIAGONAL = "D_diag"

    def __init__(
        self, in_channels, out_channels, kernel_size=3, D_mul=None, stride=1, padding=1,  # noqa: N803
        dilation=1, groups=1, bias=False, padding_mode="zeros",
    ):  # fmt: skip
        super().__init__(
            in_channels, out_channels, kernel_size, D_mul, stride, padding, dilation, groups, bias,
            padding_mode,
        )  # fmt: skip


def plain(
    in_channels, out_channels, kernel_size, D_mul=None, stride=1, padding=0, dilation=1, groups=1,  # noqa: N803
    bias=True, padding_mode="zeros",
):  # fmt: skip
    """PyTorch's layer, given the authors' arguments."""
    return nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
        padding_mode,
    )  # fmt: skip


def plain_edited(in_channels, out_channels, kernel_size=3, D_mul=None, **options):  # noqa: N803
    """PyTorch's layer, given the edited copy's arguments."""
    options = {"padding": 1, "bias": False, **options}
    return plain(in_channels, out_channels, kernel_size, D_mul, **options)


class Block(nn.Module):
    """A restoration block: a branch of the image, and one of its spectrum."""

    def __init__(self, conv, channels):
        super().__init__()
        self.image = nn.Sequential(conv(channels, channels), nn.ReLU(), conv(channels, channels))
        self.spectrum = nn.Sequential(
            conv(2 * channels, 2 * channels, 1, padding=0), nn.ReLU(),
            conv(2 * channels, 2 * channels, 1, padding=0),
        )  # fmt: skip

    def forward(self, x):
        parts = torch.fft.rfft2(x, norm="backward")
        parts = self.spectrum(torch.cat([parts.real, parts.imag], 1))
        spectrum = torch.fft.irfft2(torch.complex(*parts.chunk(2, 1)), s=x.shape[-2:])
        return x + self.image(x) + spectrum


class Restoration(nn.Module):
    """A U-Net that restores images, with the edited copy's defaults."""

    image = (2, 3, 16, 12)

    def __init__(self, conv):
        super().__init__()
        self.entry, self.down = conv(3, 4), conv(4, 8, stride=2)
        self.body = Block(conv, 8)
        self.up = nn.ConvTranspose2d(8, 4, 4, 2, 1)
        self.out = conv(4, 3)

    def forward(self, x):
        first = self.entry(x)
        return x + self.out(self.up(self.body(self.down(first))) + first)


class Dilated(nn.Module):
    """A U-Net with dilated and grouped layers, and batch normalization."""

    image = (2, 3, 16, 12)

    def __init__(self, conv):
        super().__init__()
        self.layers = nn.ModuleList(
            [
                conv(3, 8, 3, padding=1, bias=False),
                conv(8, 8, 3, None, 1, 2, 2),
                conv(8, 8, (3, 5), padding=(1, 2), groups=8),
                conv(8, 8, 3, 18, padding=4, dilation=4, groups=2),
                conv(8, 4, 1),
            ]
        )
        self.norms = nn.ModuleList([nn.BatchNorm2d(n) for n in (8, 8, 8, 8, 4)])

    def forward(self, x):
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = norm(layer(x)).relu()
        return x


class Siamese(nn.Module):
    """Change detection: one encoder for two images."""

    image = (2, 6, 16, 12)

    def __init__(self, conv):
        super().__init__()
        self.encoder = nn.Sequential(
            conv(3, 6, 3, stride=2, padding=1), nn.ReLU(), conv(6, 6, 3, padding=1)
        )
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        before, after = map(self.encoder, x.chunk(2, 1))
        return self.head((before - after).abs().mean((2, 3)))


class Text(nn.Module):
    """A text CNN: kernels as wide as the embedding."""

    image = (2, 12)

    def __init__(self, conv):
        super().__init__()
        self.embedding = nn.Embedding(20, 7)
        self.layers = nn.ModuleList([conv(1, 4, (size, 7)) for size in (2, 3, 4)])
        self.head = nn.Linear(12, 3)
        self.register_buffer("scale", torch.ones(12))
        self.register_buffer("order", torch.arange(12))

    def forward(self, x):
        words = self.embedding((10 * x.abs()).long() % 20)[:, None]
        features = torch.cat([layer(words).amax((2, 3)) for layer in self.layers], 1)
        return self.head(self.scale * features[:, self.order])


class Detector(nn.Module):
    """A YOLO-like network, whose layer is chosen by its name in a configuration."""

    image = (2, 3, 16, 12)

    def __init__(self, conv):
        super().__init__()
        kinds = {"DOConv": conv, "Conv": plain}
        rows = [("DOConv", 3, 4, 3, 2), ("Conv", 4, 8, 1, 1), ("DOConv", 8, 8, 3, 1)]
        self.model = nn.Sequential()
        for kind, channels, outputs, size, stride in rows:
            layer = kinds[kind](
                channels, outputs, size, stride=stride, padding=size // 2, bias=False
            )
            self.model.append(nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.SiLU()))

    def forward(self, x):
        return self.model(x)


NETWORKS = {
    "restoration": Restoration,
    "dilated": Dilated,
    "siamese": Siamese,
    "text": Text,
    "detector": Detector,
}


def trained(kind):
    """A network with the authors' layers, as training leaves it."""
    torch.manual_seed(0)
    network = NETWORKS[kind](Edited if kind == "restoration" else Theirs)
    for name, buffer in network.named_buffers():
        if name == "scale":
            nn.init.uniform_(buffer, 0.5, 1.5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.running_mean, std=0.1)
    return network.eval()


def output(network):
    """A network's output for its image."""
    torch.manual_seed(1)
    with torch.no_grad():
        return network.eval()(torch.randn(network.image))


def assert_same_output(found, expected):
    """Two networks give the same output, to the rounding of float32."""
    there = output(expected)
    assert abs(output(found) - there).max() <= 1e-5 * abs(there).max()
