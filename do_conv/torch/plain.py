"""The plain layers: their arguments, and the tensors they are given when they are deployed."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from do_conv.core import rules
from do_conv.core.errors import broken
from do_conv.core.spec import Spec


def plain_arguments(
    spec: Spec, stride: Any, padding: Any, dilation: Any, bias: Any, padding_mode: Any
) -> tuple[Any, ...]:
    """The arguments of `nn.Conv` up to `padding_mode`, each checked.

    Raises:
        DOConvError: if an argument breaks a rule.
    """
    stride, padding = rules.axes("stride", stride, spec.rank), rules.padding(padding, spec.rank)
    if padding == "same" and set(stride) != {1}:
        raise broken(
            "padding='same' needs stride 1 in PyTorch",
            f"stride={stride}",
            "give the padding in integers",
        )
    return (
        spec.in_channels or 0,
        spec.out_channels,
        spec.kernel_size,
        stride,
        padding,
        rules.axes("dilation", dilation, spec.rank),
        spec.groups,
        bias,
        rules.choice("padding_mode", padding_mode, rules.PADDING_MODES),
    )


def deploy(
    plain: nn.Module, check_finite: bool = False, **tensors: tuple[Tensor | None, Tensor | None]
) -> None:
    """Give a layer its tensors, by name, each with the parameter that it comes from.

    A tensor is trained if that parameter is.

    Raises:
        DOConvError: if `check_finite` is asked for, and a tensor is not finite.
    """
    for name, (tensor, source) in tensors.items():
        if tensor is None or source is None:
            continue
        if check_finite and not tensor.is_meta:
            rules.finite(name, bool(tensor.isfinite().all()))
        value = tensor.detach().clone()
        setattr(plain, name, nn.Parameter(value, requires_grad=source.requires_grad))
