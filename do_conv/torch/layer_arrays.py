"""The layers of a PyTorch module and their arrays, whose axes are in the core's order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from do_conv.adapter import DELTA, SEPARABLE, Description, LayerArray, ModelLayer
from do_conv.checkpoints import checks
from do_conv.core import rules
from do_conv.torch.base import Composed, OverParameterized
from do_conv.torch.models.structure import unwrapped
from do_conv.torch.optimizer import DOConvOptimizer
from do_conv.torch.optimizer.kernels import TrainedKernel
from do_conv.torch.parametrization import is_over_parameterized

# Counters of steps: no output depends on them.
_COUNTERS = ("num_batches_tracked",)


def model_layers(model: nn.Module | DOConvOptimizer) -> Iterator[ModelLayer]:
    """Each layer with arrays of its own, a shared one once, in the module's order.

    Of a `DOConvOptimizer`, the layers of its network; a kernel's are W and D'. Whatever is written
    to one of them composes the kernel.

    Raises:
        DOConvError: if a layer has no parameters yet.
    """
    kernels: dict[Any, TrainedKernel] = {}
    if isinstance(model, DOConvOptimizer):
        kernels = {kernel.parameter: kernel for kernel in model.kernels.values()}
        model = model.model
    inside: set[nn.Module] = set()  # the parametrization that composes our kernels
    for name, module in unwrapped(model).named_modules():
        if module in inside:
            continue
        if is_over_parameterized(module):
            checks.one_parametrization(name, len(module.parametrizations.weight) == 1)
            inside.update(module.parametrizations.modules())
        description, tensors = _description(module), _tensors(module)
        arrays = {role: _array(module, tensor) for role, tensor in tensors.items()}
        if (kernel := kernels.get(tensors.get("weight"))) is not None:
            description = _convolution(module, kernel.delta)
            arrays = {
                **_parts(module, kernel),
                **{k: v for k, v in arrays.items() if k != "weight"},
            }
        if arrays:
            yield ModelLayer(name, description, arrays)


def _description(module: Any) -> Description | None:
    """The description of a layer; None if other frameworks have no such layer."""
    if isinstance(module, OverParameterized) or is_over_parameterized(module):
        return _convolution(module, _delta(module))
    if isinstance(module, Composed):  # separable
        spec = module.spec
        return Description("separable", spec.kernel_size, spec.groups, spec.d_mul)
    # Of a subclass with a forward pass of its own, it is not known what it does with its weight.
    known = type(module).forward.__module__.startswith("torch.nn.")
    return _plain(module) if known and "weight" in module._parameters else None


def _plain(module: Any) -> Description | None:
    if isinstance(module, _ConvNd):
        return _convolution(module, None)
    if isinstance(module, nn.Linear):
        return Description("dense")
    if isinstance(module, nn.PReLU):
        return Description("prelu")
    if isinstance(module, nn.GroupNorm):
        return Description("normalization", groups=module.num_groups, epsilon=module.eps)
    is_of_one_axis = isinstance(module, nn.LayerNorm) and len(module.normalized_shape) == 1
    if isinstance(module, _BatchNorm) or is_of_one_axis:
        return Description("normalization", epsilon=module.eps)
    return None


def _convolution(layer: Any, delta: Tensor | None) -> Description:
    kind = "transposed" if layer.transposed else "convolution"
    d_mul = None if delta is None else delta.shape[1]
    return Description(kind, tuple(layer.kernel_size), layer.groups, d_mul)


def _delta(layer: Any) -> Any:
    if is_over_parameterized(layer):
        return layer.parametrizations.weight[0].depthwise_delta
    return layer.depthwise_delta


def _tensors(module: Any) -> dict[str, Tensor]:
    """The arrays of a layer, without those of what it holds, by their names in the file."""
    own = {**module._parameters, **module._buffers}
    kept = {
        name: tensor
        for name, tensor in own.items()
        if tensor is not None
        and name not in module._non_persistent_buffers_set
        and name not in _COUNTERS
    }
    if is_over_parameterized(module):
        first = {"weight": module.parametrizations.weight.original, DELTA: _delta(module)}
        return {**first, **kept}
    return dict(sorted(kept.items(), key=lambda item: _ORDER.get(item[0], len(_ORDER))))


def _parts(module: Any, kernel: TrainedKernel) -> dict[str, LayerArray]:
    return {name: _array(module, part, kernel.compose) for name, part in kernel.parts}


_ORDER = {role: i for i, role in enumerate(("weight", DELTA, SEPARABLE, "bias"))}


def _array(module: Any, tensor: Tensor, then: Callable[[], None] = lambda: None) -> LayerArray:
    made = not nn.parameter.is_lazy(tensor) and not tensor.is_meta
    rules.built(type(module).__name__, made)

    def read() -> np.ndarray:
        kept = tensor.detach().cpu()
        wide = kept.float() if tensor.dtype == torch.bfloat16 else kept
        return np.array(wide.numpy())

    def write(array: np.ndarray) -> None:
        with torch.no_grad():
            tensor.copy_(torch.from_numpy(np.array(array)))
        then()

    return LayerArray(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), read, write)
