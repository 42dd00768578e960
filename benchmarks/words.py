"""The prose of the page of speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

FRAMEWORKS = {
    "torch": "PyTorch on a CPU",
    "torch-cuda": "PyTorch on a GPU",
    "keras-tensorflow": "Keras on TensorFlow",
    "keras-jax": "Keras on JAX",
    "gluon": "MXNet Gluon",
}
HEAD = """# What DO-Conv costs

A folded network is the plain network: the same operators at the same cost. Training costs more, and
evaluation before folding, because every pass composes the kernels. This overhead is fixed per step:
negligible for large inputs and batches, noticeable for small ones.
"""
COMMON = """Each step includes the optimizer, SGD with momentum. `authors' formula` is the authors'
method, rewritten: it adds I to D in every pass and composes with one `einsum`. Here it also makes I
in every pass, which their layers do once: their own small layers are somewhat faster. Ratios carry
over to other machines better than milliseconds. `do-conv cost` [estimates the
ratio](command-line.md) for your network.
"""
GROWTH = """## How it grows

One 3 x 3 layer of 128 channels on 8 x 8 maps with batch 8, in PyTorch on a CPU. Each panel varies
one size and keeps the others.

![The overhead of one layer by batch, map size, channels and D_mul](images/speed/growth.svg)

- A larger batch or a larger map dilutes the overhead of kernel composition.
- It rises with `d_mul`, as the arithmetic of composing does.
- Feature composition avoids W' but convolves D_mul features for each channel at every position. It
  wins in no row here; in ResNet-18 it helps where there are many channels on small and few maps.
"""
AFTER = """## Where the time goes, and what helps

- PyTorch on a CPU: the C loops read W once in the forward pass, and W and the gradient of W' once
  in the backward pass. A large layer adds the time for that and the memory for W' and its gradient.
  Without the loops, composing takes about as long as the `einsum`.
- Kernels above 7 x 7 use PyTorch's matrix products everywhere: they are large enough to be fast.
- A small layer adds a fixed number of operators, however little each one does.
- TensorFlow's graph and Gluon multiply matrices with the channels in front, so they transpose W, W'
  and their gradients once each. TensorFlow's products without transposing are slower still, and
  MXNet's `linalg.gemm` along an axis takes as long in a graph and lacks float16.
- XLA is slow with small matrices. On a CPU, the sums of composition and of its gradients are
  written out for it, so that it computes each in one pass.

To reduce the overhead:

- train with W and D' [in the optimizer](optimizer.md#what-it-costs): the passes through the network
  stay as they are;
- use a larger batch;
- use feature composition where [a plan](models.md#see-what-it-would-do) recommends it;
- with `torch.compile` on a CPU, pass `options={"layout_optimization": False}`: the compiler's
  default converts inputs, outputs, W' and its gradient to channels last in every step;
- in Keras on TensorFlow, use XLA (`jit_compile=True`): most steps get faster, though the ratio to
  the plain step may rise;
- in Gluon, use `hybridize(static_alloc=True)`, as here: otherwise MXNet allocates memory anew in
  every operator;
- use `do_conv.torch.composed` when kernels are used several times between two steps;
- fold for everything except training.
"""
TABLES = """## All measurements

`make bench` measures; `make results` writes this page from the files in `benchmarks/results`, which
have every row. The contenders of a row took turns in one process, after a warm-up. A cell shows the
median in milliseconds, the interquartile range in brackets, then the median of each round's
ratio to the row's first contender, which is not the ratio of the medians.
"""


class Section(NamedTuple):
    """A benchmark's title, and what its table shows.

    Attributes:
        own: what is to be said of the table of one framework.
        chosen: which lines of the table are shown; None is all.
    """

    title: str
    text: str
    own: Mapping[str, str] = {}
    chosen: Callable[[Sequence[str], Sequence[str]], bool] | None = None


def _three_by_three(heads: Sequence[str], line: Sequence[str]) -> bool:
    return line[heads.index("kernel")] == "3"


SECTIONS = {
    "networks": Section("Whole networks", """Training steps, and evaluations of ten batches.""", {
        "torch": """ResNet and MobileNetV2 are torchvision's; there is also a network like U-Net.
`composed once` uses `do_conv.torch.composed`. `estimate` is the ratio that `do-conv cost` expects;
`by estimate` takes in each layer the composition that the estimate expects to be faster.
`contiguous` is `torch.compile(model, options={"layout_optimization": False})`.""",
        "torch-cuda": """Times are between two events. `captured` is a step in a CUDA graph, and
bfloat16 applies to parameters and features.""",
        "gluon": "The networks are those of MXNet's model zoo.",
    }),
    "optimizer": Section("W and D' in the optimizer", """Training steps with SGD and momentum.
`DO-Conv`: with our layers; `optimizer`: a plain network with W and D' in its optimizer.""", {
        "torch": """SGD has a weight decay. `not fused` is PyTorch's default on a CPU; all
others are fused. `one kernel` is the optimizer's step on a 3 x 3 kernel with equally many input and
output channels, and `without the C step` the way of optimizers other than SGD, Adam and AdamW.
`alone` are the parts of a step in passes of their own: both gradients, and W'.""",
        **dict.fromkeys(("keras-tensorflow", "keras-jax"), """`512 channels` is one 3 x 3 layer with
so many input and output channels. `alone` are the parts of the optimizer's step in passes of their
own: both gradients, and W'."""),
    }),
    "layer": Section("One layer", """A 3 x 3 layer with equally many input and output channels on
maps of `size` x `size`: the forward pass and all gradients."""),
    "growth": Section("How it grows", """One size varies. `fewer MACs` is the composition with fewer
multiply-accumulates, `estimate` the one that the estimate expects to be faster."""),
    "composition": Section("Composition alone", """W' from W and D', forward and backward, for
3 x 3 kernels and equally many input and output channels; the file has 5 x 5 and 7 x 7 too. `floor`
is the time to read and write each array once, or to do the arithmetic in one large product,
whichever is longer.""", {"torch": "`without C` is the pure-PyTorch fallback."}, _three_by_three),
    "memory": Section("Memory and operators", """The peak memory of a training step beyond its
start, and the operators that PyTorch's profiler counts. For a layer, the extra memory is also
counted in kernels. W, D' and the optimizer's states are kept between steps, and not counted."""),
    "separable": Section("Separable layers", """A separable layer trained by feature composition, as
it is deployed, and by kernel composition (section 3 of the paper), with the memory of the
intermediate P' or W'."""),
    "models": Section("Conversion and folding", """ResNet-152 of torchvision, and a Python process
that imports `do_conv`."""),
    "seeds": Section("Several seeds at once", """The gradients of one batch of 128 for three seeds
of the CIFAR network, one after the other and as one network with an additional axis. This is why
`examples/cifar` trains seeds one by one."""),
}  # fmt: skip
