"""Folding whole models: the result does not depend on do_conv."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar, overload

from torch import nn
from torch.fx import GraphModule
from torch.fx.experimental.optimization import fuse

from do_conv.core import rules
from do_conv.models import checks
from do_conv.models.folds import Folds
from do_conv.models.sharing import composed_kernels
from do_conv.torch.base import Composed, OverParameterized
from do_conv.torch.models.computed import compute_weights, settle
from do_conv.torch.models.copies import copied
from do_conv.torch.models.guards import unguard
from do_conv.torch.models.sharding import FOLDED_STATE, check_whole
from do_conv.torch.models.structure import holders, unwrapped
from do_conv.torch.parametrization import is_over_parameterized

ModelT = TypeVar("ModelT", bound=nn.Module)
PlainT = TypeVar("PlainT")


@overload
def fold(
    model: Folds[PlainT],
    *,
    inplace: bool = False,
    fuse_batchnorm: Literal[False] = False,
    check_finite: bool = True,
) -> PlainT: ...
@overload
def fold(
    model: nn.DataParallel[ModelT],
    *,
    inplace: bool = False,
    fuse_batchnorm: Literal[False] = False,
    check_finite: bool = True,
) -> ModelT: ...
@overload
def fold(
    model: nn.parallel.DistributedDataParallel,
    *,
    inplace: bool = False,
    fuse_batchnorm: bool = False,
    check_finite: bool = True,
) -> Any: ...
@overload
def fold(
    model: ModelT,
    *,
    inplace: bool = False,
    fuse_batchnorm: Literal[False] = False,
    check_finite: bool = True,
) -> ModelT: ...
@overload
def fold(
    model: nn.Module,
    *,
    inplace: bool = False,
    fuse_batchnorm: Literal[True],
    check_finite: bool = True,
) -> GraphModule: ...
@overload
def fold(  # the annotated return type of `torch.compile`
    model: Callable[..., Any],
    *,
    inplace: bool = False,
    fuse_batchnorm: bool = False,
    check_finite: bool = True,
) -> Any: ...
def fold(
    model: Any,
    *,
    inplace: bool = False,
    fuse_batchnorm: bool = False,
    check_finite: bool = True,
) -> Any:
    """The plain model that does the same, to the last bit in eager mode.

    Args:
        model: a module that holds DO-Conv layers, or one such layer; of a wrapper (`DataParallel`,
            `DistributedDataParallel`, a compiled model), what it wraps is folded and returned.
        inplace: fold `model` itself, not a copy. Its weights stay the same objects; where D_mul is
            not |K|, a kernel is a new parameter.
        fuse_batchnorm: fuse each batch normalisation into the convolution before it, by PyTorch's
            own `torch.fx` fusion. The result is in evaluation mode, a copy, and a `GraphModule`;
            `torch.fx` must be able to trace the model.
        check_finite: False folds parameters that hold NaN or infinity, too.

    Returns:
        the folded model.

    Raises:
        DOConvError: if it holds no DO-Conv layer, one has no parameters yet or is of a subclass
            with a forward pass of its own, or a kernel is not finite; then `model` is as it was.
    """
    model = unwrapped(model)
    check_foldable(model, check_finite)
    folded = fold_inside(model if inplace else copied(model))
    return fuse(folded.eval()) if fuse_batchnorm else folded


def check_foldable(model: nn.Module, check_finite: bool) -> None:
    """Refuse a model that `fold` refuses, before anything is changed.

    Raises:
        DOConvError: if it is one.
    """
    check_whole(model, FOLDED_STATE)
    ours = [module for module in model.modules() if _is_ours(module)]
    checks.something_to_fold(len(ours), type(model).__name__)
    compute_weights(model)
    for module in ours:
        _check(module, check_finite)


def fold_inside(model: nn.Module) -> Any:
    """Fold every DO-Conv layer of a model, and return the model that takes its place."""
    modules = list(model.modules())
    layers = [module for module in modules if isinstance(module, OverParameterized)]
    for layer in layers:
        settle(layer, ("weight", "depthwise_delta"))
    for tied, may_change in composed_kernels(layers, holders(model)):
        weight = _kernel(tied[0], may_change)
        for layer in tied:
            layer.weight = weight
    for layer in layers:
        _become_plain(layer)
    pairs: dict[nn.Module, nn.Module] = {}
    for module in modules:
        if is_over_parameterized(module):
            settle(module, ("weight",))
            module.weight.grad = None  # the gradient of W
        elif isinstance(module, Composed):
            pairs[module] = module.fold(check_finite=False)
    for parent in modules:
        for name, child in list(parent._modules.items()):
            if child in pairs:
                parent._modules[name] = pairs[child]
    unguard(model)
    return pairs.get(model, model)


def _kernel(layer: Any, may_change: bool) -> nn.Parameter:
    """The composed kernel of a layer: its W, or a new parameter.

    W has to stay where others hold it, and where it has another shape: an optimizer that knows it
    has a state of that shape. In a call of `torch.func` it is a tensor.
    """
    weight, kernel = layer.weight, layer.composed_weight().detach()
    is_parameter = isinstance(weight, nn.Parameter)
    if not (may_change and is_parameter and kernel.shape == weight.shape):
        return nn.Parameter(kernel, weight.requires_grad)
    weight.data, weight.grad = kernel, None
    return weight


def _become_plain(layer: Any) -> None:
    """Turn a layer with its kernel in `weight` into one of its plain class."""
    del layer._parameters["depthwise_delta"]
    for name in ("spec", "composition", "depthwise_init"):
        del layer.__dict__[name]
    layer.__class__ = layer._plain


def _is_ours(module: nn.Module) -> bool:
    return isinstance(module, Composed) or is_over_parameterized(module)


def _check(module: Any, check_finite: bool) -> None:
    """Refuse a layer that cannot be folded, before anything is changed."""
    if isinstance(module, Composed):
        rules.built(type(module).__name__, module.spec.is_known)
        module.check_forward()
        kernel = module.composed_weight()
    else:
        kernel = module.weight
    for name, tensor in (("weight", kernel), ("bias", module.bias)):
        if check_finite and tensor is not None and not tensor.is_meta:
            rules.finite(name, bool(tensor.isfinite().all()))
