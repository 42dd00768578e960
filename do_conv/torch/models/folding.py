"""Folding whole models: no trace of us is left."""

from __future__ import annotations

from typing import Any, Literal, TypeVar, overload

from torch import nn
from torch.fx import GraphModule
from torch.fx.experimental.optimization import fuse

from do_conv.core import rules
from do_conv.models import checks
from do_conv.models.folds import Folds
from do_conv.torch.base import Composed, OverParameterized
from do_conv.torch.models.computed import compute_weights, settle
from do_conv.torch.models.copies import copied
from do_conv.torch.models.guards import unguard
from do_conv.torch.models.sharding import FOLDED_STATE, is_sharded
from do_conv.torch.models.wrappers import unwrapped
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
def fold(
    model: Any,
    *,
    inplace: bool = False,
    fuse_batchnorm: bool = False,
    check_finite: bool = True,
) -> Any:
    """The plain model that does the same, to the last bit in eager mode.

    Args:
        model: a module that holds layers of ours, or one such layer; of a wrapper (`DataParallel`,
            `DistributedDataParallel`, a compiled model), what it wraps is folded and returned.
        inplace: fold `model` itself, not a copy. Its weights stay the same objects.
        fuse_batchnorm: fuse each batch normalisation into the convolution before it, by PyTorch's
            own `torch.fx` fusion. The result is in evaluation mode, a copy, and a `GraphModule`;
            `torch.fx` must be able to trace the model.
        check_finite: False folds parameters that hold NaN or infinity, too.

    Returns:
        the folded model.

    Raises:
        DOConvError: if it holds no layer of ours, one has no parameters yet, or a kernel is not
            finite; then `model` is as it was.
    """
    model = unwrapped(model)
    checks.whole_parameters(is_sharded(model), type(model).__name__, FOLDED_STATE)
    ours = [module for module in model.modules() if _is_ours(module)]
    checks.something_to_fold(len(ours), type(model).__name__)
    compute_weights(model)
    for module in ours:
        _check(module, check_finite)
    model = model if inplace else copied(model)
    model = fold_inside(model)
    return fuse(model.eval()) if fuse_batchnorm else model


def fold_inside(model: nn.Module) -> Any:
    """Fold everything of ours in a model, and return what takes the model's place."""
    folded: set[int] = set()
    others = [m for m in model.modules() if not isinstance(m, OverParameterized)]
    foreign = {id(parameter) for m in others for parameter in m._parameters.values()}
    replaced: dict[nn.Module, nn.Module] = {}
    for module in list(model.modules()):
        if is_over_parameterized(module):
            settle(module, ("weight",))
            module.weight.grad = None  # that of W
        elif isinstance(module, OverParameterized):
            settle(module, ("weight", "depthwise_delta"))
            _fold_layer(module, folded, foreign)
        elif isinstance(module, Composed):
            replaced[module] = module.fold(check_finite=False)
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child in replaced:
                parent._modules[name] = replaced[child]
    unguard(model)
    return replaced.get(model, model)


def _fold_layer(layer: Any, folded: set[int], foreign: set[int]) -> None:
    """Turn a layer into one of its plain class, whose parameters and hooks are the same objects.

    `folded` holds the W that are kernels already, since several layers may share one; `foreign`
    those that a layer without a D reads, too, and that have to stay.
    """
    weight: nn.Parameter = layer.weight
    if layer.depthwise_delta is not None and id(weight) in foreign:
        kernel = layer.composed_weight().detach()
        layer.weight = nn.Parameter(kernel, weight.requires_grad)
    elif layer.depthwise_delta is not None and id(weight) not in folded:
        weight.data, weight.grad = layer.composed_weight().detach(), None
        folded.add(id(weight))
    del layer._parameters["depthwise_delta"]
    for ours in ("spec", "composition", "depthwise_init"):
        del layer.__dict__[ours]
    layer.__class__ = layer._plain


def _is_ours(module: nn.Module) -> bool:
    return isinstance(module, Composed) or is_over_parameterized(module)


def _check(module: Any, check_finite: bool) -> None:
    """Refuse what cannot be folded before anything is changed."""
    if isinstance(module, Composed):
        rules.built(type(module).__name__, module.spec.is_known)
        kernel = module.composed_weight()
    else:
        kernel = module.weight
    for name, tensor in (("weight", kernel), ("bias", module.bias)):
        if check_finite and tensor is not None and not tensor.is_meta:
            rules.finite(name, bool(tensor.isfinite().all()))
