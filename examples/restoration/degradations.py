"""How a photograph is degraded, by noise or by a blur, and a classical method that restores it.

A degradation has `settings` that are kept with a run, the `name` of a photograph with it, the
`border` of pixels that it takes from each side, and these functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional


class Pair(NamedTuple):
    """A degraded photograph and the true one, `(1, height, width)`, and the blur's kernel."""

    degraded: Tensor
    true: Tensor
    kernel: Tensor | None = None


class Degradation(Protocol):
    """What is to be undone."""

    name: str
    settings: dict[str, Any]
    border: int
    classical: str

    def drawn(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images `(n, 1, height, width)`, degraded at random, without their borders."""

    def held_out(self, images: list[Tensor], generator: torch.Generator) -> Iterator[Pair]:
        """The pairs that a network is measured on."""

    def restored(self, pair: Pair) -> Tensor:
        """What the classical method makes of a pair; it needs scikit-image."""


class Noise:
    """Gaussian noise of a deviation, in 255ths; non-local means take it out."""

    name, classical, border = "noisy", "non-local means", 0

    def __init__(self, sigma: float) -> None:
        self._deviation = sigma / 255
        self.settings = {"sigma": sigma}

    def drawn(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images with noise."""
        return images + torch.randn(images.shape, generator=generator) * self._deviation

    def held_out(self, images: list[Tensor], generator: torch.Generator) -> Iterator[Pair]:
        """Each photograph with noise."""
        for image in images:
            yield Pair(self.drawn(image, generator), image)

    def restored(self, pair: Pair) -> Tensor:
        """With the settings of scikit-image's documentation for noise of a known deviation."""
        from skimage.restoration import denoise_nl_means

        smoothed = denoise_nl_means(
            pair.degraded[0].numpy(), patch_size=5, patch_distance=6, fast_mode=False,
            h=0.8 * self._deviation, sigma=self._deviation,
        )  # fmt: skip
        return torch.from_numpy(smoothed)[None]


class Blur:
    """A blur by a motion along a line or by a Gaussian, then noise of a deviation, in 255ths.

    Half of the patches have either kernel, drawn anew for each: a motion in any direction, of a
    length within `motion`, or a Gaussian of a deviation within `gaussian`, in pixels.
    """

    name, classical = "blurred", "Wiener's filter, which is told the kernel"

    def __init__(
        self, side: int, motion: tuple[float, float], gaussian: tuple[float, float], sigma: float
    ) -> None:
        self._side, self.border, self._noise = side, side // 2, Noise(sigma)
        self._kernels: tuple[tuple[Callable[..., Tensor], tuple[float, float]], ...] = (
            (motion_kernel, motion), (gaussian_kernel, gaussian),
        )  # fmt: skip
        self.settings = {
            "kernel": side, "motion": list(motion), "gaussian": list(gaussian), "sigma": sigma,
        }  # fmt: skip

    def drawn(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images, each blurred by a kernel of its own, with noise."""
        kinds = torch.randint(len(self._kernels), (len(images),), generator=generator)
        kernels = torch.stack([self._kernel(int(kind), generator) for kind in kinds])
        return self._noise.drawn(blurred(images, kernels), generator)

    def held_out(self, images: list[Tensor], generator: torch.Generator) -> Iterator[Pair]:
        """Each photograph with either kernel."""
        for image in images:
            true = image[:, self.border : -self.border, self.border : -self.border]
            for kind in range(len(self._kernels)):
                kernel = self._kernel(kind, generator)
                soft = blurred(image[None], kernel[None])[0]
                yield Pair(self._noise.drawn(soft, generator), true, kernel)

    def restored(self, pair: Pair) -> Tensor:
        """With the balance of scikit-image's documentation."""
        from skimage.restoration import wiener

        assert pair.kernel is not None
        # The filter takes a photograph for a periodic one: it is mirrored beyond its borders.
        margin = 2 * self._side
        mirrored = functional.pad(pair.degraded[None], (margin,) * 4, "reflect")[0, 0]
        sharp = wiener(mirrored.numpy(), pair.kernel.numpy(), balance=0.1, clip=False)
        return torch.from_numpy(sharp)[None, margin:-margin, margin:-margin]

    def _kernel(self, kind: int, generator: torch.Generator) -> Tensor:
        kernel, (low, high) = self._kernels[kind]
        size, turn = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        return kernel(self._side, low + (high - low) * size, math.pi * turn)


def blurred(images: Tensor, kernels: Tensor) -> Tensor:
    """Images `(n, 1, height, width)` under a kernel each, `(n, side, side)`, where it fits in."""
    # A convolution turns its kernel by half a turn.
    weights = kernels.flip(1, 2)[:, None]
    return functional.conv2d(images.transpose(0, 1), weights, groups=len(images)).transpose(0, 1)


def motion_kernel(side: int, length: float, angle: float) -> Tensor:
    """The kernel `(side, side)` of a steady motion over so many pixels, at an angle."""
    places = torch.linspace(-length / 2, length / 2, 8 * side, dtype=torch.float64)
    along = (side // 2 - places * math.sin(angle), side // 2 + places * math.cos(angle))
    pixels = torch.arange(side, dtype=torch.float64)
    # Each place is shared by the pixels around it, by bilinear weights.
    rows, columns = ((1 - (one[:, None] - pixels).abs()).clamp(min=0) for one in along)
    return _normalised(rows.T @ columns)


def gaussian_kernel(side: int, deviation: float, _: float = 0) -> Tensor:
    """The kernel `(side, side)` of a Gaussian of a deviation in pixels, alike at every angle."""
    places = torch.arange(side, dtype=torch.float64) - side // 2
    line = torch.exp(-0.5 * (places / deviation).square())
    return _normalised(torch.outer(line, line))


def _normalised(kernel: Tensor) -> Tensor:
    return (kernel / kernel.sum()).float()
