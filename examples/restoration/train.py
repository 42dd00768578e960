"""Take the noise out of photographs with a small DnCNN, plain and with DO-Conv.

    python -m examples.restoration.train --seeds 0 1 2 3 4

DnCNN (Zhang et al., IEEE TIP 2017) estimates the noise, which is subtracted. Here it has 9 layers
of 32 channels, for shades of grey and noise of deviation 25 of 255. It is trained on patches of
photographs that scikit-image ships, and measured on five others: PSNR in dB, and SSIM.
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
from examples.restoration.photographs import Photographs, patches
from examples.restoration.quality import psnr, ssim

DEPTH, CHANNELS, SIGMA = 9, 32, 25
EPOCHS, STEPS, BATCH, PATCH = 20, 200, 16, 40
MEASURES = {"psnr": psnr, "ssim": ssim}
TEST_NOISE = 0  # the seed of the noise on the photographs held out: it is that of all runs


def main(arguments: list[str] | None = None) -> int:
    """Run every seed of both arms."""
    parser = tasks.arguments(__doc__.splitlines()[0], EPOCHS)
    return tasks.run_all(parser.parse_args(arguments), made)


def made(given: argparse.Namespace) -> Iterable[Restoration]:
    """The task, over the photographs that are given."""
    yield Restoration(Photographs(given.data))


class Restoration:
    """Noisy patches, and the noise in each; see `examples.tasks.Task`."""

    name = "photographs-dncnn"
    training = tasks.Training()

    def __init__(self, photographs: Photographs) -> None:
        self._photographs = photographs
        self._noisy = noisy_all(photographs.test)
        self.settings = {
            "network": "dncnn", "depth": DEPTH, "channels": CHANNELS, "sigma": SIGMA,
            "steps": STEPS, "batch": BATCH, "patch": PATCH, "photographs": photographs.digest,
            "measures": list(MEASURES),
        }  # fmt: skip

    @cached_property
    def notes(self) -> dict[str, Any]:
        """The measures of what is not trained, which take half a minute."""
        return {"references": self._references()}

    def network(self) -> nn.Module:
        """A plain DnCNN."""
        return dncnn(DEPTH, CHANNELS)

    def batches(self, generator: torch.Generator) -> Iterable[tuple[Tensor, Tensor]]:
        """Noisy patches, and their noise."""
        for _ in range(STEPS):
            true = patches(self._photographs.train, BATCH, PATCH, generator)
            noise = torch.randn(true.shape, generator=generator) * SIGMA / 255
            yield true + noise, noise

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean squared error."""
        return nn.functional.mse_loss(outputs, targets)

    def measured(self, network: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """PSNR and SSIM, the means over the photographs held out."""
        return self._quality(noisy - network(noisy[None])[0] for noisy in self._noisy)

    def _references(self) -> dict[str, dict[str, float]]:
        """The same of the noisy photographs, and of a method that needs no training."""
        found = {"noisy": self._quality(self._noisy)}
        try:
            from skimage.restoration import denoise_nl_means
        except ImportError:  # the photographs came by --data, or are read from a bare package
            print("non-local means is left out: pip install scikit-image", file=sys.stderr)
            return found
        # The settings of its documentation for noise of a known deviation.
        options: dict[str, Any] = {
            "patch_size": 5, "patch_distance": 6, "fast_mode": False, "h": 0.8 * SIGMA / 255,
            "sigma": SIGMA / 255,
        }  # fmt: skip
        smoothed = (denoise_nl_means(noisy[0].numpy(), **options) for noisy in self._noisy)
        found["non-local means"] = self._quality(torch.from_numpy(one)[None] for one in smoothed)
        return found

    def _quality(self, images: Iterable[Tensor]) -> dict[str, float]:
        pairs = [(image.clamp(0, 1), true)
                 for image, true in zip(images, self._photographs.test, strict=True)]  # fmt: skip
        return {
            name: round(sum(of(*pair) for pair in pairs) / len(pairs), 4)
            for name, of in MEASURES.items()
        }


def noisy_all(images: list[Tensor]) -> list[Tensor]:
    """The photographs with the noise that every run is measured on."""
    generator = torch.Generator().manual_seed(TEST_NOISE)
    return [one + torch.randn(one.shape, generator=generator) * SIGMA / 255 for one in images]


def dncnn(depth: int, channels: int) -> nn.Module:
    """Convolution and ReLU; convolution, normalisation, ReLU; and a convolution at the end."""
    layers = [nn.Conv2d(1, channels, 3, padding=1), nn.ReLU()]
    for _ in range(depth - 2):
        convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(channels, 1, 3, padding=1))


if __name__ == "__main__":
    sys.exit(main())
