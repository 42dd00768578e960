"""The table of cases: every test and every proof of agreement runs over these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from do_conv.core import rules
from do_conv.core.convolution import Window
from do_conv.core.spec import SeparableSpec, Shape, Spec
from do_conv.core.transposed import transposed_size


@dataclass(frozen=True)
class Case:
    """One layer and the size of its input.

    Attributes:
        kind: what the layer replaces: "convolution", "transposed" or "separable"; "depthwise" is
            Keras's layer for a convolution with C_in groups.
        start: how D' is made: "identity" and "he" as a new layer's, "trained" away from both.
    """

    name: str
    channels: tuple[int, int]
    kernel_size: Shape
    size: Shape
    kind: str = "convolution"
    stride: Any = 1
    padding: Any = "valid"
    dilation: Any = 1
    groups: int = 1
    d_mul: int | None = None
    start: str = "trained"
    bias: bool = True
    padding_mode: str = "zeros"
    output_padding: Any = 0
    batch: int = 2

    @property
    def rank(self) -> int:
        """The number of spatial axes."""
        return len(self.kernel_size)

    @property
    def spec(self) -> Spec:
        """The layer's sizes."""
        sizes = (*self.channels, self.kernel_size, self.groups, self.d_mul)
        if self.kind == "separable":
            return SeparableSpec(*sizes)
        return Spec(*sizes, transposed=self.kind == "transposed")

    @property
    def window(self) -> Window:
        """How the kernel slides."""
        return Window(self.kernel_size, self.stride, self.padding, self.dilation, self.padding_mode)

    @property
    def layer_start(self) -> str:
        """The start to ask a layer for; a trained one is given its D' afterwards."""
        return "he" if self.start == "he" else "identity"

    @property
    def output_size(self) -> Shape:
        """The spatial size of the output."""
        if self.kind == "transposed":
            return transposed_size(self.size, self.window, self.output_padding)
        return self.window.output_size(self.size)


_TABLE = (
    # 2-D, what every framework offers.
    Case("plain", (4, 6), (3, 3), (8, 7)),
    Case("identity", (4, 6), (3, 3), (8, 7), start="identity"),
    Case("he", (4, 6), (3, 3), (8, 7), start="he"),
    Case("no-bias", (4, 6), (3, 3), (8, 7), bias=False),
    Case("one-channel", (1, 5), (3, 3), (8, 7)),
    Case("one-output", (4, 1), (3, 3), (8, 7)),
    Case("one-sample", (4, 6), (3, 3), (8, 7), batch=1),
    Case("kernel-1x1", (4, 6), (1, 1), (6, 5)),
    Case("kernel-1x1-d-mul", (4, 6), (1, 1), (6, 5), d_mul=4),
    Case("kernel-1x1-stride", (4, 6), (1, 1), (6, 5), stride=2, groups=2),
    Case("kernel-1x5", (4, 6), (1, 5), (6, 9)),
    Case("kernel-5x1", (4, 6), (5, 1), (9, 6), start="he"),
    Case("kernel-2x2", (4, 6), (2, 2), (7, 6)),
    Case("kernel-2x3", (4, 6), (2, 3), (7, 6)),
    Case("kernel-7x7", (2, 3), (7, 7), (11, 10)),
    Case("kernel-fills-input", (3, 4), (5, 4), (5, 4)),
    Case("d-mul-multiple", (4, 6), (3, 3), (8, 7), d_mul=18),
    Case("d-mul-multiple-identity", (4, 6), (3, 3), (8, 7), d_mul=27, start="identity"),
    Case("d-mul-between", (4, 6), (3, 3), (8, 7), d_mul=25),
    Case("d-mul-between-he", (4, 6), (3, 3), (8, 7), d_mul=13, start="he"),
    Case("d-mul-plus-one", (4, 6), (2, 2), (7, 6), d_mul=5, bias=False),
    Case("stride", (4, 6), (3, 3), (9, 8), stride=2),
    Case("stride-beyond-kernel", (4, 6), (2, 2), (9, 8), stride=3),
    Case("dilation", (4, 6), (3, 3), (10, 9), dilation=2),
    Case("dilation-not-square", (4, 6), (3, 2), (10, 9), dilation=(1, 3)),
    Case("group2", (4, 6), (3, 3), (8, 7), groups=2),
    Case("group2-he", (4, 6), (3, 3), (8, 7), groups=2, start="he"),
    Case("group4-of-8-to-16", (8, 16), (3, 3), (7, 6), groups=4),
    Case("group3-one-output-each", (6, 3), (3, 3), (7, 6), groups=3),
    Case("group2-d-mul", (4, 6), (3, 3), (8, 7), groups=2, d_mul=25),
    Case("group2-stride", (4, 6), (3, 3), (9, 8), groups=2, stride=2),
    Case("group2-dilation", (4, 6), (3, 3), (10, 9), groups=2, dilation=2),
    Case("group2-kernel-1x5", (4, 6), (1, 5), (6, 9), groups=2, d_mul=7),
    Case("depthwise", (4, 4), (3, 3), (8, 7), groups=4),
    Case("depthwise-multiplier2", (4, 8), (3, 3), (8, 7), groups=4),
    Case("depthwise-multiplier3-d-mul", (3, 9), (3, 3), (8, 7), groups=3, d_mul=11),
    Case("depthwise-stride", (4, 4), (3, 3), (9, 8), groups=4, stride=2, bias=False),
    Case("depthwise-layer", (4, 4), (3, 3), (8, 7), groups=4, kind="depthwise"),
    Case(
        "depthwise-layer-multiplier2",
        (4, 8), (3, 3), (8, 7), groups=4, d_mul=18, stride=2, kind="depthwise",
    ),
    Case(
        "depthwise-layer-dilation",
        (3, 6), (3, 2), (10, 9), groups=3, start="he", dilation=2, kind="depthwise",
    ),
    Case(
        "depthwise-layer-stride-dilation",
        (4, 8), (3, 3), (11, 10), groups=4, stride=2, dilation=2, kind="depthwise",
    ),
    # 2-D with `same`, which MXNet does not offer.
    Case("same", (4, 6), (3, 3), (8, 7), padding="same"),
    Case("same-even-kernel", (4, 6), (2, 4), (8, 7), padding="same"),
    Case("same-dilation", (4, 6), (3, 3), (9, 8), padding="same", dilation=2, groups=2),
    Case("same-d-mul", (4, 6), (3, 3), (8, 7), padding="same", d_mul=20, start="he"),
    Case("same-stride", (4, 6), (3, 3), (8, 7), padding="same", stride=2),
    Case("same-depthwise-layer", (4, 8), (5, 5), (8, 7), padding="same", groups=4,
         kind="depthwise"),
    # 2-D with padding in numbers, or stride with dilation, which Keras does not offer.
    Case("padding", (4, 6), (3, 3), (8, 7), padding=1),
    Case("padding-not-square", (4, 6), (3, 5), (8, 7), padding=(2, 0)),
    Case("padding-group2", (4, 6), (3, 3), (8, 7), padding=1, groups=2, d_mul=18),
    Case("padding-stride", (4, 6), (3, 3), (8, 7), padding=(1, 2), stride=(2, 3)),
    Case("stride-dilation", (4, 6), (3, 3), (11, 10), stride=2, dilation=2),
    Case("stride-dilation-padding", (4, 6), (3, 3), (9, 8), stride=(2, 1), dilation=(1, 2),
         padding=(2, 1), groups=2, start="he"),
    Case("depthwise-padding", (4, 8), (3, 3), (8, 7), groups=4, padding=1, stride=2),
    Case("kernel-7x7-padding", (2, 4), (7, 7), (8, 9), padding=3, stride=2),
    # 2-D with PyTorch's padding modes.
    Case("reflect", (4, 6), (3, 3), (8, 7), padding=1, padding_mode="reflect"),
    Case("reflect-not-square", (4, 6), (3, 3), (8, 7), padding=(2, 1), padding_mode="reflect",
         stride=2, groups=2),
    Case("replicate", (4, 6), (3, 3), (8, 7), padding=(1, 2), padding_mode="replicate"),
    Case("circular", (4, 6), (3, 3), (8, 7), padding=(2, 1), padding_mode="circular", d_mul=25),
    # 1-D.
    Case("1d", (4, 6), (3,), (11,)),
    Case("1d-group2-d-mul", (4, 6), (4,), (11,), groups=2, d_mul=6),
    Case("1d-stride", (4, 6), (5,), (13,), stride=3, start="he"),
    Case("1d-dilation", (4, 6), (3,), (12,), dilation=2, bias=False),
    Case("1d-depthwise", (4, 8), (3,), (11,), groups=4),
    Case("1d-padding", (4, 6), (3,), (11,), padding=2, stride=2),
    Case("1d-same", (4, 6), (4,), (11,), padding="same"),
    Case("1d-causal", (4, 6), (3,), (11,), padding="causal", dilation=2),
    Case("1d-circular", (4, 6), (3,), (11,), padding=2, padding_mode="circular"),
    # 3-D.
    Case("3d", (2, 4), (2, 3, 2), (5, 6, 5)),
    Case("3d-identity", (2, 4), (3, 3, 3), (5, 5, 4), start="identity"),
    Case("3d-group2", (4, 6), (2, 2, 2), (5, 4, 5), groups=2, d_mul=10),
    Case("3d-stride", (2, 4), (3, 2, 3), (6, 5, 7), stride=(1, 2, 2), start="he"),
    Case("3d-padding", (2, 4), (3, 3, 3), (4, 5, 4), padding=(1, 0, 1), dilation=(1, 2, 1)),
    Case("3d-same", (2, 4), (3, 2, 3), (4, 5, 4), padding="same"),
    Case("3d-depthwise", (3, 6), (2, 2, 2), (5, 4, 5), groups=3),
    # Transposed: D belongs to the output channels.
    Case("transposed", (4, 6), (3, 3), (5, 4), "transposed"),
    Case("transposed-identity", (4, 6), (3, 3), (5, 4), "transposed", start="identity"),
    Case("transposed-he", (4, 6), (3, 2), (5, 4), "transposed", start="he", bias=False),
    Case("transposed-stride", (4, 6), (4, 3), (5, 4), "transposed", stride=(2, 3)),
    Case("transposed-d-mul", (4, 6), (3, 3), (5, 4), "transposed", d_mul=20, stride=2),
    Case("transposed-dilation", (4, 6), (3, 2), (5, 4), "transposed", dilation=(2, 1)),
    Case("transposed-same", (4, 6), (4, 4), (5, 4), "transposed", padding="same", stride=2),
    Case("transposed-one-output", (4, 1), (3, 3), (5, 4), "transposed"),
    Case("transposed-kernel-1x1", (4, 6), (1, 1), (5, 4), "transposed"),
    Case("transposed-group2", (4, 6), (3, 3), (5, 4), "transposed", groups=2, stride=2),
    Case("transposed-group2-d-mul", (6, 4), (3, 2), (5, 4), "transposed", groups=2, d_mul=13),
    Case("transposed-depthwise", (4, 8), (3, 3), (5, 4), "transposed", groups=4),
    Case("transposed-padding", (4, 6), (4, 4), (5, 4), "transposed", padding=1, stride=2),
    Case("transposed-output-padding", (4, 6), (3, 3), (5, 4), "transposed", stride=(2, 3),
         padding=(1, 0), output_padding=(1, 2)),
    Case("transposed-all", (4, 6), (3, 2), (5, 4), "transposed", stride=(2, 1), padding=(2, 1),
         dilation=(1, 2), groups=2, output_padding=(1, 1), d_mul=8, start="he"),
    Case("transposed-1d", (4, 6), (3,), (6,), "transposed", stride=2),
    Case("transposed-1d-group2", (4, 6), (4,), (6,), "transposed", stride=3, padding=1, groups=2),
    Case("transposed-3d", (3, 4), (2, 3, 2), (3, 2, 3), "transposed", stride=(1, 2, 2)),
    # Depthwise separable: the same pair, where I is zero and D_mul is free.
    Case("separable", (4, 6), (3, 3), (8, 7), "separable"),
    Case("separable-no-bias", (4, 6), (2, 3), (8, 7), "separable", bias=False),
    Case("separable-d-mul", (4, 6), (3, 3), (8, 7), "separable", d_mul=3),
    Case("separable-d-mul-beyond-area", (4, 6), (2, 2), (7, 6), "separable", d_mul=5),
    Case("separable-kernel-1x1", (4, 6), (1, 1), (6, 5), "separable", d_mul=2),
    Case("separable-one-channel", (1, 5), (3, 3), (8, 7), "separable", d_mul=2),
    Case("separable-stride", (4, 6), (3, 3), (9, 8), "separable", d_mul=2, stride=2),
    Case("separable-dilation", (4, 6), (3, 3), (10, 9), "separable", dilation=2),
    Case("separable-same", (4, 6), (3, 4), (8, 7), "separable", padding="same", d_mul=2),
    Case("separable-padding", (4, 6), (3, 3), (8, 7), "separable", padding=(1, 2), stride=2),
    Case("separable-reflect", (4, 6), (3, 3), (8, 7), "separable", padding=1,
         padding_mode="reflect"),
    Case("separable-group2", (4, 6), (3, 3), (8, 7), "separable", groups=2, d_mul=2),
    Case("separable-1d", (4, 6), (3,), (11,), "separable", d_mul=2, stride=2),
    Case("separable-1d-causal", (4, 6), (3,), (11,), "separable", padding="causal"),
    Case("separable-3d", (2, 4), (2, 3, 2), (5, 6, 5), "separable"),
)  # fmt: skip

CASES = {case.name: case for case in _TABLE}


def named(names: list[str]) -> list[Case]:
    """The cases of these names; all of them for an empty list.

    Raises:
        DOConvError: if there is no case of a name.
    """
    chosen = [CASES[rules.known_name("case", name, CASES)] for name in names]
    return chosen or list(CASES.values())
