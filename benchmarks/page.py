"""Write the page of what DO-Conv costs from the kept results: part of `make results`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.report import RESULTS, table
from do_conv.files import replacing

PAGE = Path(__file__).parents[1] / "docs" / "speed.md"
HEAD = """# What DO-Conv costs

A folded network is the plain one: it has the same operators and costs what it did. In training the
kernels are composed in every step. What that takes does not depend on the batch or on the image, so
it is little beside large maps and much beside a few small ones.

`make bench` measures, and `make results` writes this page from the files in `benchmarks/results`.
The contenders of a line took turns in one process, after a warm-up. A cell has the median in
milliseconds, in brackets the middle half of the rounds, then the median ratio to the line's first
contender. The ratios travel, the milliseconds do not. `authors` is the formula of the authors' code
written anew: I is added to D in every pass, and one `einsum` composes. A step of a layer has the
forward pass and all gradients; a step of a network has the optimizer (SGD with momentum) too.
"""
SECTIONS = {
    "composition": """Composition alone

W' of W and D', forward and backward, with as many output channels as input channels. The floor is
what the machine would take to read and write each array once, or to multiply as many numbers in one
large product, whichever is more. `without C` is what composes where the [loops in
C](torch.md#on-a-cpu) do not.
""",
    "layer": """One layer

A 3 x 3 layer with as many output channels as input channels, on maps of `size` x `size`. For
`contiguous` and XLA see [whole networks](#whole-networks).
""",
    "networks": """Whole networks

ResNet and MobileNetV2 as torchvision, Keras and MXNet have them, and a network of the kind of
U-Net. An evaluation is ten batches; `composed once` is within `do_conv.torch.composed`.

`estimate` is the ratio to plain that `do-conv cost` expects. In `by estimate` each layer has the
composition that the same estimate has for the faster one: where maps are small and few that is
feature composition.

`contiguous` is `torch.compile(model, options={"layout_optimization": False})`. By itself PyTorch's
compiler turns what goes into a convolution, and what comes of it, to channels last on a CPU, W' and
its gradient too; this option of its own leaves them as they are, which is faster for plain layers
of many channels, too. In Keras on TensorFlow, XLA is `jit_compile=True`; on a CPU `fit` takes the
graph unless it is told.

On a CUDA device the times are between two events; `captured` is a step in a CUDA graph, and in
bfloat16 parameters and features are of that type.
""",
    "memory": """Memory and operators

The most memory that a training step holds beyond what it begins with, and the operators that
PyTorch's profiler sees. For a layer, the memory beyond the plain one's is counted in kernels, too.
""",
    "growth": """How it grows

One size is varied at a time. Beside it stands the composition that has fewer multiply-accumulates,
and the one that the estimate of a step's time has for the faster.
Feature composition does without W', and pays for every position instead.
""",
    "separable": """Separable layers

A separable layer trained as it is deployed, by feature composition, and by kernel composition
(section 3 of the paper), with the memory of what lies in between.
""",
    "models": """Conversion and folding

ResNet-152 of torchvision on the CPU; and a Python process that imports `do_conv`.
""",
    "seeds": """Several seeds at once

The gradients of one batch of 128 for three seeds of the CIFAR network. Together they are one
network with an axis more. It is why `examples/cifar` runs one seed after the other, or a process
for each.
""",
}
TAIL = """## Where the time goes, and what helps

- In PyTorch on a CPU the loops in C go through W once forward, and through W and the gradient of W'
  once backward. What a large layer adds is the time of that, and of memory for W' and its gradient,
  which is new in every step. Without the loops a product for each channel has rows of D_mul numbers
  that lie a whole output channel apart, and takes about as long as the einsum.
- Kernels above 7 x 7 take PyTorch's products on every machine: there a product is large enough.
- What a small layer adds is a number of operators, however little they do.
- In TensorFlow's graph and in Gluon a product for each channel needs the channels in front: W, W'
  and their gradients are transposed, each once. What TensorFlow has for a product where they are is
  slower still; MXNet's `linalg.gemm` along an axis takes as long in a graph, and has no float16.
- XLA composes by the same products: about as fast as the authors' formula, not faster.
- What helps: a larger batch; feature composition where a plan says so ([See what it would
  do](models.md#see-what-it-would-do)); `contiguous` when PyTorch compiles for a CPU; XLA in Keras,
  and `hybridize(static_alloc=True)` in Gluon, as it is here, for otherwise MXNet asks for memory
  anew in every operator; `composed` when a kernel is used more than once between two steps; folding
  for everything that is not training.
"""


def main(arguments: list[str] | None = None) -> int:
    """Read, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    given = parser.parse_args(arguments)
    with replacing(given.page) as beside:
        beside.write_text(page(given.results), encoding="utf-8")
    return 0


def page(results: Path) -> str:
    """The page, in Markdown: a section for each benchmark of which there are results."""
    parts = [HEAD]
    for name, text in SECTIONS.items():
        paths = sorted(results.glob(f"{name}-*.json"))
        if paths:
            parts += [f"## {text}", *map(_section, paths)]
    return "\n".join([*parts, TAIL])


def _section(path: Path) -> str:
    found = table(path)
    framework = found.name.partition("-")[2]
    lines = ["| " + " | ".join(line) + " |" for line in (found.heads, *found.lines)]
    lines.insert(1, "| " + " | ".join(["---"] * len(found.heads)) + " |")
    return "\n".join([f"### {framework}\n", f"`{found.command}`; {found.about}\n", *lines, ""])


if __name__ == "__main__":
    sys.exit(main())
