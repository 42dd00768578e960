"""PyTorch, eager and compiled."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import machine, turns
from benchmarks.frameworks.unet import UNet
from do_conv.core.spec import Spec
from do_conv.torch import DOConv2d, DOConvOptimizer, composed, convert, fold, plan
from do_conv.torch.composition import compose_spec, formula, loops
from tests.support.cpu_torchvision import torchvision

# The compiler's own choice on a CPU is to turn what goes into a convolution, and what comes of it,
# to channels last; with this option of `torch.compile` it leaves arrays as they are.
COMPILED: dict[str, dict[str, Any]] = {
    "compiled": {}, "contiguous": {"layout_optimization": False},
}  # fmt: skip
MODES = ("eager", *COMPILED)
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "ResNet-18": torchvision.models.resnet18,
    "ResNet-50": torchvision.models.resnet50,
    "MobileNetV2": torchvision.models.mobilenet_v2,
    "U-Net": UNet,
}
# What is trained with W and D' in the optimizer, by mode.
SMALL = ("ResNet-18", 32, 4), ("ResNet-18", 32, 32)
LAST = "eager, channels last"
OPTIMIZED = {"eager": (*SMALL, ("ResNet-50", 224, 8)), LAST: SMALL, "compiled": SMALL}
timed, rates = turns.wall_clock, machine.rates


class _OtherSGD(torch.optim.SGD):
    """An optimizer that the C loops do not know: it steps by itself."""


OPTIMIZERS: dict[str, dict[str, Callable[..., torch.optim.Optimizer]]] = {
    "SGD": {"fused": torch.optim.SGD, "other": _OtherSGD},
    "AdamW": {"fused": torch.optim.AdamW},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 1e-3, "momentum": 0.9, "weight_decay": 1e-4}, "AdamW": {"lr": 1e-3},
}  # fmt: skip


def versions() -> dict[str, str]:
    """The version of PyTorch."""
    return {"torch": torch.__version__}


def set_threads(threads: int) -> None:
    """Compute with so many."""
    torch.set_num_threads(threads)


class Authors(DOConv2d):
    """A layer of ours that composes by the authors' formula; a layer may be made one of them.

    With groups their W has another order, `(C_out/G, C_in, D_mul)`, so that one einsum serves.
    """

    def composed_weight(self) -> Tensor:
        """W', by the formula."""
        return authors_kernel(self.weight, self.depthwise_delta, self.spec)


def authors_kernel(weight: Tensor, delta: Tensor, spec: Spec) -> Tensor:
    """W', of a W in the authors' order."""
    identity = torch.eye(spec.area, dtype=delta.dtype, device=delta.device)
    depthwise = delta.flatten(2) + identity.repeat(spec.in_channels, 1, 1)
    kernels = weight.reshape(-1, spec.in_channels, spec.d_mul)
    return torch.einsum("ism,ois->oim", depthwise, kernels).reshape(spec.composed_shape)


def _begin(mode: str) -> None:
    """The same numbers in every run; and what was compiled before leaves its room."""
    torch.manual_seed(0)
    if mode in COMPILED:
        torch._dynamo.reset()
        torch._dynamo.config.fail_on_recompile_limit_hit = True  # not eager instead


def composing(spec: Spec, mode: str) -> dict[str, Callable[[], Any]]:
    """Forward and backward of W'."""
    _begin(mode)
    weight = torch.randn(spec.weight_shape, requires_grad=True)
    delta = torch.randn(spec.delta_shape, requires_grad=True)
    grad = torch.randn(spec.composed_shape)
    functions = {
        "authors": lambda: authors_kernel(weight, delta, spec),
        "DO-Conv": lambda: compose_spec(weight, delta, spec),
    }
    if mode == "eager" and loops.pay(weight, delta, spec):
        functions["without C"] = lambda: formula.composed(weight, delta, spec)
    return {name: step_of(_in(mode, run), (weight, delta), grad) for name, run in functions.items()}


def _in(mode: str, function: Any) -> Any:
    if mode not in COMPILED:
        return function
    return torch.compile(function, dynamic=False, options=COMPILED[mode])


def step_of(function: Callable[[], Tensor], leaves: Any, grad: Tensor) -> Callable[[], None]:
    """Forward and backward of a function without arguments, from no gradients."""

    def step() -> None:
        for leaf in leaves:
            leaf.grad = None
        function().backward(grad)

    return step


def training(spec: Spec, size: int, batch: int, mode: str) -> dict[str, Callable[[], Any]]:
    """A step of a layer whose output has its input's size, without an optimizer."""
    _begin(mode)
    options: dict[str, Any] = {"padding": "same", "groups": spec.groups}
    sizes = (spec.in_channels, spec.out_channels, spec.kernel_size)
    layers = {
        "plain": nn.Conv2d(*sizes, **options),
        "authors": Authors(*sizes, **options),
        "DO-Conv": DOConv2d(*sizes, **options),
    }
    layers["folded"] = layers["DO-Conv"].fold()
    x = torch.randn(batch, spec.in_channels, size, size, requires_grad=True)
    grad = torch.randn(batch, spec.out_channels, size, size)
    steps = {}
    for name, layer in layers.items():
        run = _in(mode, layer)
        steps[name] = step_of(lambda run=run: run(x), (x, *layer.parameters()), grad)
    return steps


def training_network(name: str, size: int, batch: int, mode: str) -> dict[str, Callable[[], Any]]:
    """A training step of a network, with SGD."""
    x = torch.randn(batch, 3, size, size)
    models = _variants(name, mode)
    if mode == "eager" and x.device.type == "cpu":  # the estimate is of that
        models["by estimate"] = by_estimate(models["plain"], x)
    return {
        kind: _update(_in(mode, model), x, torch.optim.SGD(model.parameters(), 1e-3, 0.9))
        for kind, model in models.items()
    }


def _variants(name: str, mode: str) -> dict[str, nn.Module]:
    _begin(mode)
    plain = NETWORKS[name]().train()
    return {"plain": plain, "authors": by_authors(convert(plain)), "DO-Conv": convert(plain)}


def by_authors(model: nn.Module) -> nn.Module:
    """The same model, whose layers of ours compose by the authors' formula."""
    for layer in model.modules():
        if type(layer) is DOConv2d:
            layer.__class__ = Authors
    return model


def by_estimate(plain: nn.Module, x: Tensor) -> nn.Module:
    """Converted, each layer in the composition that an estimate has for the faster one."""
    model, found = convert(plain), plan(plain, input_shape=tuple(x.shape))
    for row in found.converted:
        model.get_submodule(row.name).composition = row.faster(found.batch)
    return model


def step_ratio(name: str, size: int, batch: int) -> float | None:
    """What `do-conv cost` has for the ratio of a training step's time to the plain network's."""
    return plan(NETWORKS[name](), input_shape=(batch, 3, size, size)).step_ratio


def _update(run: Any, x: Tensor, optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    def step() -> None:
        _differentiate(run, x, optimizer)
        optimizer.step()

    return step


def _differentiate(run: Any, x: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Both passes of a training step."""
    optimizer.zero_grad()
    functional.mse_loss(output := run(x), torch.zeros_like(output)).backward()


def evaluating_network(name: str, size: int, batch: int, mode: str) -> dict[str, Callable[[], Any]]:
    """Ten batches through a network."""
    models = {kind: model.eval() for kind, model in _variants(name, mode).items()}
    models["folded"] = fold(models["DO-Conv"])
    x = torch.randn(batch, 3, size, size)
    steps = {kind: _batches(_in(mode, model), x) for kind, model in models.items()}
    ours = models["DO-Conv"]
    if mode == "eager":
        steps["composed once"] = _batches(ours, x, lambda: composed(ours))
    return steps


def _batches(
    run: Any, x: Tensor, context: Callable[[], Any] = contextlib.nullcontext
) -> Callable[[], None]:
    def evaluate() -> None:
        with torch.no_grad(), context():
            for _ in range(10):
                run(x)

    return evaluate


def optimizing(name: str, channels: int) -> dict[str, Callable[[], Any]]:
    """The optimizer's step on one 3 x 3 kernel with a gradient, and for SGD its parts alone."""
    torch.manual_seed(0)
    layer = nn.Conv2d(channels, channels, 3, bias=False)
    layer.weight.grad = torch.randn_like(layer.weight)
    kinds, options = OPTIMIZERS[name], OPTIONS[name]
    contenders = {
        "plain": kinds["fused"]([_with_gradient(layer)], fused=True, **options),
        "plain, not fused": kinds["fused"]([_with_gradient(layer)], fused=False, **options),
    }
    for kind, optimizer in kinds.items():
        own = copy.deepcopy(layer)
        own.weight.grad = _with_gradient(layer).grad
        contenders["optimizer" if kind == "fused" else "optimizer, without the C step"] = (
            DOConvOptimizer(optimizer(own.parameters(), **options), own)
        )
    steps: dict[str, Callable[[], Any]] = {k: one.step for k, one in contenders.items()}
    return {**steps, **_parts(layer)} if name == "SGD" else steps


PARTS = ("gradients alone", "composing alone", "copying the kernel")


def _parts(layer: nn.Conv2d) -> dict[str, Callable[[], Any]]:
    """The arithmetic of W and D' in passes of their own, and a copy, which has none."""
    weight, spec = layer.weight.detach(), Spec(layer.out_channels, layer.in_channels, (3, 3))
    grad, other = torch.randn_like(weight), torch.empty_like(weight)
    delta = 0.01 * torch.randn(spec.delta_shape)
    steps = (
        lambda: loops.differentiate(weight, delta, grad, True),
        lambda: loops.compose(weight, delta, True),
        lambda: other.copy_(weight),
    )
    return dict(zip(PARTS, steps, strict=True))


def _with_gradient(layer: nn.Conv2d) -> Tensor:
    weight = layer.weight.detach().clone().requires_grad_()
    weight.grad = torch.randn_like(weight)
    return weight


def optimizing_network(name: str, size: int, batch: int, mode: str) -> dict[str, Callable[[], Any]]:
    """A training step with a fused SGD: with our layers, and with W and D' in the optimizer."""
    return {kind: _update(*one) for kind, one in _optimized(name, size, batch, mode).items()}


def stepping_network(name: str, size: int, batch: int, mode: str) -> dict[str, Callable[[], float]]:
    """The seconds of the optimizer's step alone, in such a training step."""

    def step(run: Any, x: Tensor, optimizer: torch.optim.Optimizer) -> float:
        _differentiate(run, x, optimizer)
        return timed(optimizer.step)

    optimized = _optimized(name, size, batch, mode)
    return {kind: partial(step, *one) for kind, one in optimized.items()}


def evaluating_trained(name: str, size: int, batch: int, mode: str) -> dict[str, Callable[[], Any]]:
    """Ten batches through a network between two training steps."""
    steps = {}
    for kind, (run, x, optimizer) in _optimized(name, size, batch, mode).items():
        if "not" not in kind:
            _update(run, x, optimizer)()
            steps[kind] = _batches(run.eval(), x)
    return steps


def _optimized(
    name: str, size: int, batch: int, mode: str
) -> dict[str, tuple[Any, Tensor, torch.optim.Optimizer]]:
    """The network to run, its images, and the optimizer: what `_update` takes."""
    _begin(mode)
    laid_out = {"memory_format": torch.channels_last if mode == LAST else torch.contiguous_format}
    x = torch.randn(batch, 3, size, size).contiguous(**laid_out)
    plain = NETWORKS[name]().train().to(**laid_out)
    models = {"plain": plain, "plain, not fused": copy.deepcopy(plain), "DO-Conv": convert(plain)}
    models["optimizer"] = copy.deepcopy(plain)
    optimized = {}
    for kind, model in models.items():
        inner = torch.optim.SGD(model.parameters(), **OPTIONS["SGD"], fused="not" not in kind)
        optimizer = DOConvOptimizer(inner, model) if kind == "optimizer" else inner
        optimized[kind] = _in(mode, model), x, optimizer
    return optimized
