"""The networks of the page of migration, with checkpoints that the authors' layers made.

`Theirs` and `Edited` store and compute what the authors' layers do, for other cases.
"""

import math
import re
from pathlib import Path

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


ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tasks" / "leave-the-authors-file.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
# Of each network its class on the page, and its file in `FOLDER`.
FOLDER = ROOT / "tests" / "data" / "authors" / "networks"
NETWORKS = {
    "text": ("Text", "text.pth"),
    "restoration": ("Restoration", "restoration.pth"),
    "dilated": ("DilatedUNet", "dilated.pth"),
    "siamese": ("Siamese", "siamese.ckpt"),
    "detector": ("Detector", "detector.pth"),
}
# The layers of the authors in each.
LAYERS = {
    "text": ["convs.0", "convs.1", "convs.2"],
    "restoration": [
        "entry.main.0", "down.main.0", "body.main.0.main.0", "body.main.1",
        "body.spectrum.0.main.0", "body.spectrum.1.main.0", "out.main.0",
    ],
    "dilated": ["first.0", "first.3", "second.0", "second.3", "decode.0", "decode.3", "out"],
    "siamese": ["encoder.0", "encoder.2", "head.0"],
    "detector": ["model.0.0", "model.2.0", "model.3.0"],
}  # fmt: skip


def network(name, conv=None):
    """A network of the page, with the layer that it imports, or another in its place."""
    kind, _ = NETWORKS[name]
    (block,) = (block for block in BLOCKS if f"class {kind}(" in block)
    scope = {"__name__": name, "DOConv2d": conv}
    exec(block if conv is None else re.sub(r"from do_conv\..*\n", "", block), scope)
    return scope[kind]()


def plain_network(name):
    """A network of the page, with PyTorch's layers."""
    return network(name, plain_edited if name == "restoration" else plain)


def state_of(name):
    """The network's arrays under the authors' names, without a wrapper's prefix."""
    content = torch.load(FOLDER / NETWORKS[name][1])
    state = content.get("state_dict", content.get("model", content))
    before = {"restoration": "module.", "siamese": "model."}.get(name, "")
    return {key.removeprefix(before): one for key, one in state.items() if key.startswith(before)}


def output(network, name):
    """A network's output for the input that was saved."""
    inputs, _ = torch.load(FOLDER / f"{name}_output.pth")
    with torch.no_grad():
        return network.eval()(inputs)


def assert_their_output(network, name):
    """A network gives what it gave with the authors' layers, to the rounding of float32."""
    _, expected = torch.load(FOLDER / f"{name}_output.pth")
    assert abs(output(network, name) - expected).max() <= 1e-5 * abs(expected).max()
