"""How near a restored photograph is to the true one: PSNR and SSIM.

SSIM is that of Wang et al. (IEEE TIP 2004), with a Gaussian window of 11 x 11 pixels and deviation
1.5, wherever it lies within the photograph.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d

WINDOW, DEVIATION = 11, 1.5
STABILISERS = (0.01**2, 0.03**2)  # for values from 0 to 1


def psnr(image: Tensor, true: Tensor) -> float:
    """The peak signal-to-noise ratio in dB, for values from 0 to 1."""
    error = (image.double() - true.double()).square().mean()
    return float(-10 * torch.log10(error))


def ssim(image: Tensor, true: Tensor) -> float:
    """The structural similarity: 1 for the true photograph.

    Args:
        image, true: `(1, height, width)`, values from 0 to 1.
    """
    x, y = image.double()[None], true.double()[None]
    mean_x, mean_y, xx, yy, xy = (_blurred(one) for one in (x, y, x * x, y * y, x * y))
    luminance, contrast = STABILISERS
    product = mean_x * mean_y
    squares = mean_x.square() + mean_y.square()
    covariance, variances = xy - product, xx + yy - squares
    similarity = (2 * product + luminance) * (2 * covariance + contrast)
    return float((similarity / ((squares + luminance) * (variances + contrast))).mean())


def _blurred(image: Tensor) -> Tensor:
    """The weighted mean of each window."""
    steps = torch.arange(WINDOW, dtype=image.dtype) - WINDOW // 2
    weights = torch.exp(-0.5 * (steps / DEVIATION).square())
    weights = weights / weights.sum()
    return conv2d(conv2d(image, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
