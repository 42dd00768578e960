#!/usr/bin/env python3
"""Fine-tune a network of timm with DO-Conv on handwritten digits, fold it, prove it, save it.

    python examples/fine_tune/torch_digits.py --network resnet18 --weights plain.pth

`--weights` is a state dict of the plain network; without it the network starts from random weights.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from do_conv.demo import digits
from do_conv.files import replacing
from do_conv.torch import convert, fold, parameter_groups, plan, verify
from do_conv.zoo import import_timm


def main(arguments: list[str] | None = None) -> int:
    """Run all of it; `verify` refuses a folded network that does something else."""
    given = _arguments().parse_args(arguments)
    torch.manual_seed(given.seed)
    data = digits.load()
    plain = import_timm().create_model(given.network, num_classes=10, in_chans=1)
    if given.weights:
        plain.load_state_dict(torch.load(given.weights, weights_only=True))
    print(plan(plain, input_shape=(1, 1, 32, 32)))

    model = convert(plain)
    groups = parameter_groups(model, delta={"lr": given.rate}, lr=given.rate)
    optimizer = torch.optim.SGD(groups, momentum=0.9, weight_decay=1e-4)
    for epoch in range(given.epochs):
        model.train()
        for step, (x, y) in enumerate(digits.batches(data, given.seed, epoch)):
            if step == given.steps:
                break
            loss = nn.functional.cross_entropy(model(_images(x)), torch.from_numpy(y).long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        right = _predicted(model, data) == torch.from_numpy(data.test_y)
        print(f"epoch {epoch + 1}: test accuracy {100 * right.float().mean():.1f} %")

    folded = fold(model.eval())
    difference = verify(model, folded, _images(data.test_x[:64]))
    print(f"folded, with a largest difference of {difference:.1e}")
    with replacing(given.out) as file:
        torch.save(folded.state_dict(), file)
    print(f"wrote {given.out}, a state dict of the plain network")
    return 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--network", default="resnet18", help="a name that timm knows")
    add("--weights", type=Path, help="a state dict of the plain network")
    add("--epochs", type=int, default=5)
    add("--steps", type=int, help="at most so many steps in an epoch")
    add("--rate", type=float, default=0.02, help="the learning rate")
    add("--seed", type=int, default=0)
    add("--out", type=Path, default=Path("digits.pth"), help="where the folded weights go")
    return parser


def _images(x: object) -> Tensor:
    """The digits, four times as large, as the network takes them."""
    return nn.functional.interpolate(torch.as_tensor(x), scale_factor=4, mode="bilinear")


@torch.no_grad()
def _predicted(model: nn.Module, data: digits.Digits) -> Tensor:
    return model.eval()(_images(data.test_x)).argmax(1)


if __name__ == "__main__":
    sys.exit(main())
