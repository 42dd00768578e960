"""What composing a kernel costs in PyTorch, beside the convolution it is for.

    python benchmarks/composition.py [--threads N] [--rounds N]

Three things take turns in one process, so that the machine's mood hits all alike: a training step
(forward and backward) of the plain convolution, of the formula of the authors' PyTorch code (the
identity added to D', then one einsum), and of `DOConv2d`. Medians, the range of the middle half,
and ratios to the plain step are printed; only the ratios mean anything on another machine.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn import functional

from do_conv.torch import DOConv2d

# (channels, image size, batch), all 3 x 3 with padding 1.
SIZES = ((64, 32, 4), (64, 32, 32), (512, 4, 4), (512, 4, 32))


def baseline(layer: DOConv2d) -> Callable[[torch.Tensor], torch.Tensor]:
    """The authors' formula on this layer's parameters: D = D' + I, then one einsum."""
    area = layer.spec.area
    identity = torch.eye(area).expand(layer.in_channels, area, area).contiguous()

    def forward(x: torch.Tensor) -> torch.Tensor:
        depthwise = layer.depthwise_delta.flatten(2) + identity
        composed = torch.einsum("ism,ois->oim", depthwise, layer.weight.flatten(2))
        return functional.conv2d(x, composed.reshape_as(layer.weight), layer.bias, padding=1)

    return forward


def measure(channels: int, size: int, batch: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each contender's training step, in turn."""
    layer = DOConv2d(channels, channels, 3, padding=1)
    contenders = {
        "plain": nn.Conv2d(channels, channels, 3, padding=1),
        "authors' formula": baseline(layer),
        "DOConv2d": layer,
    }
    x = torch.randn(batch, channels, size, size, requires_grad=True)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 5):
        for name, forward in contenders.items():
            began = time.perf_counter()
            forward(x).sum().backward()
            if turn >= 5:  # the first turns warm up
                seconds[name].append(time.perf_counter() - began)
    return seconds


def main() -> None:
    """Measure every size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=40)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    table = Table(
        title=f"torch {torch.__version__}, {given.threads} threads, {platform.machine()}: "
        "ms a training step, median (middle half), ratio to plain"
    )
    table.add_column("channels, size, batch")
    for name in ("plain", "authors' formula", "DOConv2d"):
        table.add_column(name)
    for sizes in SIZES:
        seconds = measure(*sizes, given.rounds)
        plain = statistics.median(seconds["plain"])
        cells = []
        for values in seconds.values():
            low, middle, high = (1000 * q for q in statistics.quantiles(values, n=4))
            cells.append(f"{middle:.2f} ({low:.2f} to {high:.2f}), {middle / plain / 1000:.2f}x")
        table.add_row(", ".join(map(str, sizes)), *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
