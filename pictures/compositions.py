"""The paper's Figures 1 to 4, drawn anew: convolutions, and both compositions of DO-Conv.

As in the paper, a kernel has four positions, and there are three input channels and two output
channels. A row of a kernel makes one output of a column of the patch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from pictures.blocks import CHANNELS, Block, by_output, identity
from pictures.drawing import INK, MUTED, Drawing, of_hex

CONVOLVE, DEPTHWISE, GIVES, THEN = "*", "o", ">", ";"
WIDTHS = {CONVOLVE: 32.0, DEPTHWISE: 32.0, GIVES: 40.0, THEN: 46.0}
SUMMED = (of_hex("7a828c", "8b949e"),)  # over the input channels
W = Block("W", 2, 4, by_output)
D = Block("D", 4, 4, identity)
COMPOSED = Block("W′", 2, 4, by_output)
PATCH = Block("P", 4, 1)
FEATURES = Block("P′", 4, 1)
OUTPUT = Block("O", 2, 1, by_output, channels=SUMMED)
KERNEL = ("2 outputs ×", "4 positions")
MEASURED = replace(PATCH, notes=("4 positions",))
WIDE, NARROW, MARGIN, HEAD = 760, 490, 20.0, 44.0
Line = Sequence[Block | str]


def convolution() -> Drawing:
    """Figure 1."""
    output = replace(OUTPUT, notes=("2 outputs",))
    return _figure(
        "A convolution",
        "Each row of the kernel W is multiplied by the patch P and summed over positions and input "
        "channels, which gives one number of the output O.",
        [("Convolution", [replace(W, notes=KERNEL), CONVOLVE, MEASURED, GIVES, output])],
        NARROW,
    )


def depthwise_convolution() -> Drawing:
    """Figure 2."""
    output = Block("O", 2, 1, by_output, ("2 outputs",))
    return _figure(
        "A depthwise convolution",
        "Each input channel has a kernel of its own, which is multiplied by that channel of the "
        "patch P alone. The output O still has all channels.",
        [("Depthwise convolution",
          [Block("D", 2, 4, by_output, KERNEL), DEPTHWISE, MEASURED, GIVES, output])],
        NARROW,
    )  # fmt: skip


def do_conv() -> Drawing:
    """Figure 3."""
    return _figure(
        "DO-Conv by feature composition and by kernel composition",
        "Feature composition: D is applied to the patch P, then W to the features P′. Kernel "
        "composition: D is applied to W, then the composed kernel W′ to the patch. Both give O.",
        [
            ("Feature composition: D on the patch, then W",
             [D, DEPTHWISE, PATCH, GIVES, FEATURES, THEN, W, CONVOLVE, FEATURES, GIVES, OUTPUT]),
            ("Kernel composition: D on W, then W′ on the patch",
             [W, DEPTHWISE, D, GIVES, COMPOSED, CONVOLVE, PATCH, GIVES, OUTPUT]),
        ],
    )  # fmt: skip


def do_depthwise_conv() -> Drawing:
    """Figure 4."""
    kernel, composed, output = Block("W", 1, 4), Block("W′", 1, 4), Block("O", 1, 1)
    return _figure(
        "DO-DConv by feature composition and by kernel composition",
        "The same two ways where W is a depthwise kernel: input channels stay apart up to the "
        "output O.",
        [
            ("Feature composition",
             [D, DEPTHWISE, PATCH, GIVES, FEATURES, THEN,
              kernel, DEPTHWISE, FEATURES, GIVES, output]),
            ("Kernel composition",
             [kernel, DEPTHWISE, D, GIVES, composed, DEPTHWISE, PATCH, GIVES, output]),
        ],
    )  # fmt: skip


def _figure(
    title: str, description: str, lines: Sequence[tuple[str, Line]], width: int = WIDE
) -> Drawing:
    height = sum(_heights(line) for _, line in lines) + HEAD * len(lines)
    drawing = Drawing(width, round(height), title, description)
    top = 0.0
    for head, line in lines:
        drawing.text((MARGIN, top + 32), head, 20, INK, anchor="start", bold=True)
        top += HEAD
        _draw(drawing, line, top)
        top += _heights(line)
    _legend(drawing)
    return drawing


def _blocks(line: Line) -> Iterator[Block]:
    return (one for one in line if isinstance(one, Block))


def _heights(line: Line) -> float:
    notes = max(len(block.notes) for block in _blocks(line))
    return max(block.height for block in _blocks(line)) + 52 + 20 * notes


def _draw(drawing: Drawing, line: Line, top: float) -> None:
    height = max(block.height for block in _blocks(line))
    middle, base, left = top + 4 + height / 2, top + height + 34, MARGIN
    for one in line:
        if isinstance(one, Block):
            one.draw(drawing, left, middle, base)
            left += one.width
        else:
            _sign(drawing, one, left + WIDTHS[one] / 2, middle)
            left += WIDTHS[one]


def _sign(drawing: Drawing, sign: str, x: float, y: float) -> None:
    if sign == DEPTHWISE:
        drawing.circle((x, y), 6.5)
    elif sign == CONVOLVE:
        for run, rise in ((0, 8), (7, 4), (7, -4)):
            drawing.line((x - run, y - rise), (x + run, y + rise), INK, 2)
    elif sign == GIVES:
        drawing.arrow((x - 15, y), (x + 15, y), INK)
    else:
        drawing.text((x, y + 5), "then", 16, MUTED)


def _legend(drawing: Drawing) -> None:
    """A square of each input channel's colour."""
    left = drawing.size[0] - MARGIN - 116
    drawing.text((left, 31), "input channels", 16, MUTED, anchor="start")
    for index, colour in enumerate(reversed(CHANNELS)):
        drawing.rectangle((left - 22 - 18 * index, 18), (14, 14), colour, radius=3)
