"""DO-Conv in OpenMMLab's tools: import this module by `custom_imports`, and name it in a config.

`conv_cfg=dict(type="DOConv")` makes DO-Conv layers wherever a network takes a `conv_cfg`.
`optim_wrapper=dict(constructor="DOConvOptimWrapperConstructor", ...)` leaves the network plain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from do_conv.core.errors import require_installed

require_installed("mmengine", extra="mmengine", user="do_conv.integrations.mmengine")

from torch import nn  # noqa: E402

from do_conv.core import rules  # noqa: E402
from do_conv.torch import DOConv1d, DOConv2d, DOConv3d, DOConvOptimizer  # noqa: E402

if TYPE_CHECKING:
    MODELS: Any
    CONSTRUCTORS: Any
    Constructor: Any
else:
    from mmengine.optim import DefaultOptimWrapperConstructor as Constructor
    from mmengine.registry import MODELS
    from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as CONSTRUCTORS

__all__ = ["DOConvOptimWrapperConstructor"]

_LAYERS: dict[str, tuple[Any, Any]] = {
    "DOConv1d": (DOConv1d, nn.Conv1d),
    "DOConv2d": (DOConv2d, nn.Conv2d),
    "DOConv3d": (DOConv3d, nn.Conv3d),
}


def _maker(ours: Any, plain: Any) -> Callable[..., nn.Module]:
    """A function that makes a layer: a plain one for a 1 x 1 kernel."""

    def make(
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        *args: Any,
        d_mul: int | None = None,
        depthwise_init: rules.DepthwiseInit = "identity",
        composition: rules.CompositionName = "kernel",
        **options: Any,
    ) -> nn.Module:
        sizes = kernel_size if isinstance(kernel_size, tuple) else (kernel_size,)
        arguments = (in_channels, out_channels, kernel_size, *args)
        if all(size == 1 for size in sizes):
            return plain(*arguments, **options)
        own = {"d_mul": d_mul, "depthwise_init": depthwise_init, "composition": composition}
        return ours(*arguments, **options, **own)

    return make


for _name, _classes in _LAYERS.items():
    MODELS.register_module(_name, module=_maker(*_classes))
# As `Conv` is `Conv2d` in mmcv.
MODELS.register_module("DOConv", module=_maker(*_LAYERS["DOConv2d"]))


@CONSTRUCTORS.register_module()  # type: ignore[untyped-decorator, unused-ignore]
class DOConvOptimWrapperConstructor(Constructor):  # type: ignore[misc]
    """Build mmengine's optimizer wrapper around a `DOConvOptimizer`, whose network is plain.

    Args:
        optim_wrapper_cfg: as for mmengine's constructor; an entry `do_conv` holds the options of
            `DOConvOptimizer`, such as `dict(where=["backbone.*"])`.
        paramwise_cfg: as for mmengine's constructor.

    Raises:
        DOConvError: when it is called: if an option breaks a rule, or no kernel can be
            over-parameterized.

    Example:
        >>> optim_wrapper = dict(
        ...     constructor="DOConvOptimWrapperConstructor",
        ...     optimizer=dict(type="SGD", lr=0.1, momentum=0.9),
        ... )
    """

    def __init__(
        self, optim_wrapper_cfg: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None
    ) -> None:
        config = dict(optim_wrapper_cfg)
        self.options = dict(config.pop("do_conv", {}))
        super().__init__(config, paramwise_cfg)

    def __call__(self, model: nn.Module) -> Any:
        """The optimizer wrapper of a model."""
        wrapper = super().__call__(model)
        wrapper.optimizer = DOConvOptimizer(wrapper.optimizer, model, **self.options)
        begin = wrapper.initialize_count_status

        def initialize_count_status(model: nn.Module, cur_iter: int, max_iters: int) -> None:
            # mmengine initializes or loads the network's weights after it has built this.
            if cur_iter == 0:
                wrapper.optimizer.take_weights()
            begin(model, cur_iter, max_iters)

        wrapper.initialize_count_status = initialize_count_status
        return wrapper
