#!/usr/bin/env python3
"""Fine-tune a network of timm with DO-Conv in the optimizer; the network stays plain.

    python examples/fine_tune/torch_optimizer.py --network resnet18 --pretrained

Without `--pretrained` the network starts from random weights, and nothing is downloaded. It trains
as `torch_digits.py` does, to rounding, and there is nothing to convert or to fold.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from do_conv.demo import digits
from do_conv.files import replacing
from do_conv.torch import DOConvOptimizer
from do_conv.zoo import import_timm


def main(arguments: list[str] | None = None) -> int:
    """Train, and write the network's weights after each epoch."""
    given = _arguments().parse_args(arguments)
    torch.manual_seed(given.seed)
    data = digits.load()
    # timm fits pretrained weights to images of one colour, and begins the classifier anew.
    network = import_timm().create_model(
        given.network, pretrained=given.pretrained, num_classes=10, in_chans=1
    )
    sgd = torch.optim.SGD(network.parameters(), given.rate, momentum=0.9, weight_decay=1e-4)
    optimizer = DOConvOptimizer(sgd, network, depthwise_init=given.depthwise_init)
    print(f"{len(optimizer.kernels)} kernels are trained as W and D'")
    for epoch in range(given.epochs):
        network.train()
        for step, (x, y) in enumerate(digits.batches(data, given.seed, epoch)):
            if step == given.steps:
                break
            loss = nn.functional.cross_entropy(network(_images(x)), torch.from_numpy(y).long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        right = _predicted(network, data) == torch.from_numpy(data.test_y)
        print(f"epoch {epoch + 1}: test accuracy {100 * right.float().mean():.1f} %")
        # Every checkpoint is one of the plain network: there is no D in it.
        with replacing(given.out) as file:
            torch.save(network.state_dict(), file)
    print(f"wrote {given.out}, a state dict of the plain network")
    return 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--network", default="resnet18", help="a name that timm knows")
    add("--pretrained", action="store_true", help="begin with timm's weights, which it downloads")
    add("--depthwise-init", choices=("identity", "he"), default="identity", help="of D")
    add("--epochs", type=int, default=5)
    add("--steps", type=int, help="at most so many steps in an epoch")
    add("--rate", type=float, default=0.02, help="the learning rate")
    add("--seed", type=int, default=0)
    add("--out", type=Path, default=Path("digits.pth"), help="where the weights go")
    return parser


def _images(x: object) -> Tensor:
    """The digits, four times as large, as the network takes them."""
    return nn.functional.interpolate(torch.as_tensor(x), scale_factor=4, mode="bilinear")


@torch.no_grad()
def _predicted(network: nn.Module, data: digits.Digits) -> Tensor:
    return network.eval()(_images(data.test_x)).argmax(1)


if __name__ == "__main__":
    sys.exit(main())
