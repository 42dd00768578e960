"""The first page's picture: what a layer holds in training, and what is deployed."""

from __future__ import annotations

from pictures.blocks import Block, by_output, identity
from pictures.drawing import INK, MUTED, RULE, Drawing

W = Block("W", 2, 4, by_output, ("trained",))
D = Block("D", 4, 4, identity, ("trained, from the identity",))
COMPOSED = Block("W′", 2, 4, by_output, ("applied",))
FOLDED = Block("W′", 2, 4, by_output, ("stored and applied",))
LEFT = {"W": 20.0, "D": 192.0, "W′": 364.0}
WIDTH, HEIGHT = 660, 460
TRAINING, DEPLOYED = 128.0, 350.0  # the heights of the two rows


def picture() -> Drawing:
    """W and D composed into W' in training; W' alone after folding."""
    drawing = Drawing(
        WIDTH, HEIGHT, "DO-Conv in training and deployed",
        "In training the kernel W is multiplied by the depthwise kernel D, one matrix for each "
        "input channel, and the convolution applies the product W′. After folding, the layer "
        "is an ordinary convolution that stores W′ alone.",
    )  # fmt: skip
    drawing.text((20, 38), "Training", 21, INK, anchor="start", bold=True)
    for block in (W, D, COMPOSED):
        block.draw(drawing, LEFT[block.name], TRAINING, 222)
    _times(drawing, (LEFT["D"] - 17, TRAINING))
    _equals(drawing, (LEFT["W′"] - 17, TRAINING))
    _convolution(drawing, TRAINING)

    middle = LEFT["W′"] + 50
    drawing.line((20, 270), (middle - 40, 270), RULE)
    drawing.line((middle + 40, 270), (WIDTH - 20, 270), RULE)
    drawing.text((middle, 276), "fold", 18, INK, bold=True)
    drawing.arrow((middle, 284), (middle, 303))

    drawing.text((20, 310), "Deployed", 21, INK, anchor="start", bold=True)
    for line, text in enumerate(("An ordinary convolution:", "the plain layer's class,",
                                 "size and speed.")):  # fmt: skip
        drawing.text((20, 346 + 26 * line), text, 18, INK, anchor="start")
    FOLDED.draw(drawing, LEFT["W′"], DEPLOYED, 420)
    _convolution(drawing, DEPLOYED)
    return drawing


def _times(drawing: Drawing, centre: tuple[float, float]) -> None:
    (x, y), half = centre, 7
    drawing.line((x - half, y - half), (x + half, y + half), INK, 2)
    drawing.line((x - half, y + half), (x + half, y - half), INK, 2)


def _equals(drawing: Drawing, centre: tuple[float, float]) -> None:
    for up in (-4, 4):
        drawing.line((centre[0] - 9, centre[1] + up), (centre[0] + 9, centre[1] + up), INK, 2)


def _convolution(drawing: Drawing, middle: float) -> None:
    """An arrow to a box that stands for the framework's own operator."""
    left, size = 532.0, (108.0, 52.0)
    drawing.arrow((left - 28, middle), (left - 3, middle))
    drawing.rectangle((left, middle - size[1] / 2), size, edge=MUTED, radius=8)
    drawing.text((left + size[0] / 2, middle + 6), "convolution", 17, INK)
