"""Restore photographs with a small network, plain and with DO-Conv: take out noise, or a blur.

    python -m examples.restoration.train --task denoise --seeds 0 1 2 3 4
    python -m examples.restoration.train --task deblur --seeds 0 1 2 3 4

The network estimates what the degradation has added, which is subtracted. Noise of deviation 25 of
255 is taken out by a DnCNN (Zhang et al., IEEE TIP 2017) of 9 layers with 32 channels; motions and
Gaussians of up to 13 pixels with noise of deviation 2 by a U-Net of three levels. Both are trained
on patches of photographs that scikit-image ships, in shades of grey, and measured on five others:
PSNR in dB, and SSIM.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from examples import tasks
from examples.restoration.degradations import Blur, Degradation, Noise
from examples.restoration.networks import NETWORKS
from examples.restoration.photographs import Photographs, patches
from examples.restoration.quality import psnr, ssim

EPOCHS, STEPS, BATCH, PATCH = 5, 200, 16, 40
MEASURES = {"psnr": psnr, "ssim": ssim}
# The network of each task, and what it undoes.
TASKS: dict[str, tuple[str, Degradation]] = {
    "denoise": ("dncnn", Noise(sigma=25)),
    "deblur": ("unet", Blur(side=15, motion=(5, 13), gaussian=(1, 2.5), sigma=2)),
}
HELD_OUT = 0  # the seed of the degradations of the photographs held out: it is that of all runs


def main(arguments: list[str] | None = None) -> int:
    """Run every seed of both arms."""
    return tasks.run_all(_arguments().parse_args(arguments), made)


def _arguments() -> argparse.ArgumentParser:
    parser = tasks.arguments(__doc__.splitlines()[0])
    parser.add_argument("--task", choices=TASKS, default="denoise")
    return parser


def made(given: argparse.Namespace) -> Iterable[Restoration]:
    """The task, over the photographs that are given."""
    yield Restoration(Photographs(given.data), given.task)


class Restoration:
    """Degraded patches, and what was added to each; see `examples.tasks.Task`."""

    training, epochs = tasks.Training(), EPOCHS

    def __init__(self, photographs: Photographs, task: str) -> None:
        self._photographs = photographs
        network, self._degradation = TASKS[task]
        self._make, self._options = NETWORKS[network]
        generator = torch.Generator().manual_seed(HELD_OUT)
        self._pairs = list(self._degradation.held_out(photographs.test, generator))
        self.name = f"photographs-{network}"
        self.settings = {
            "network": network, **self._options, **self._degradation.settings, "steps": STEPS,
            "batch": BATCH, "patch": PATCH, "photographs": photographs.digest,
            "measures": list(MEASURES),
        }  # fmt: skip

    @cached_property
    def notes(self) -> dict[str, Any]:
        """The measures of what is not trained, which take half a minute."""
        return {"references": self._references()}

    def network(self) -> nn.Module:
        """A plain network."""
        return self._make(**self._options)

    def batches(self, generator: torch.Generator) -> Iterable[tuple[Tensor, Tensor]]:
        """Degraded patches, and what was added to them."""
        border = self._degradation.border
        for _ in range(STEPS):
            images = patches(self._photographs.train, BATCH, PATCH + 2 * border, generator)
            degraded = self._degradation.drawn(images, generator)
            true = images[:, :, border : border + PATCH, border : border + PATCH]
            yield degraded, degraded - true

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean squared error."""
        return nn.functional.mse_loss(outputs, targets)

    def measured(self, network: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """PSNR and SSIM, the means over the photographs held out."""
        return self._quality(one.degraded - network(one.degraded[None])[0] for one in self._pairs)

    def _references(self) -> dict[str, dict[str, float]]:
        """The same of the degraded photographs, and of a method that needs no training."""
        found = {self._degradation.name: self._quality(one.degraded for one in self._pairs)}
        classical = self._degradation.classical
        try:
            found[classical] = self._quality(map(self._degradation.restored, self._pairs))
        except ImportError:  # the photographs came by --data, or are read from a bare package
            print(f"{classical} is left out: pip install scikit-image", file=sys.stderr)
        return found

    def _quality(self, images: Iterable[Tensor]) -> dict[str, float]:
        pairs = [(image.clamp(0, 1), one.true)
                 for image, one in zip(images, self._pairs, strict=True)]  # fmt: skip
        return {
            name: round(sum(of(*pair) for pair in pairs) / len(pairs), 4)
            for name, of in MEASURES.items()
        }


if __name__ == "__main__":
    sys.exit(main())
