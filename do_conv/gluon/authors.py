"""`DOConv2D` with the arguments of the original authors' Gluon layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from do_conv.core import rules
from do_conv.core.rules import CompositionName, DepthwiseInit
from do_conv.gluon import layers
from do_conv.gluon.plain import BlockOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["DOConv2D"]


class DOConv2D(layers.DOConv2D):
    """`do_conv.gluon.DOConv2D` with the arguments and the order of the authors' layer.

    Shapes are those of `do_conv.gluon.DOConv2D`. Gluon loads parameters by name:
    `do_conv.checkpoints.import_authors(net, path)` loads an authors' `.params` file.

    Examples:
        >>> from do_conv.gluon.authors import DOConv2D
        >>> import mxnet as mx
        >>> layer = DOConv2D(3, 16, 3, padding=1)
        >>> layer.initialize()
        >>> layer(mx.nd.ones((1, 3, 8, 8))).shape
        (1, 16, 8, 8)
        >>> layer.fold()
        Conv2D(3 -> 16, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel_size: int | tuple[int, int],
        strides: int | tuple[int, int] = (1, 1),
        padding: int | tuple[int, int] = (0, 0),
        dilation: int | tuple[int, int] = (1, 1),
        groups: int = 1,
        layout: str = "NCHW",
        activation: str | None = None,
        use_bias: bool = True,
        weight_initializer: Any = None,
        bias_initializer: Any = "zeros",
        do_conv_dtype: str = "float32",
        *,
        depthwise_init: DepthwiseInit = "identity",
        composition: CompositionName = "kernel",
        **kwargs: Unpack[BlockOptions],
    ) -> None:
        """The arguments before `depthwise_init` are those of the authors' layer.

        Args:
            in_channels: C_in, the first argument.
            do_conv_dtype: of no effect: the identity takes the dtype of the parameters.
            depthwise_init: as for `do_conv.gluon.DOConv2D`.
            composition: as for `do_conv.gluon.DOConv2D`.
            kwargs: the keywords of every block, `prefix` and `params`.

        Raises:
            DOConvError: if an argument breaks a rule; the message names it.
        """
        super().__init__(
            channels,
            kernel_size,
            strides,
            padding,
            dilation,
            groups,
            layout,
            activation,
            use_bias,
            weight_initializer,
            bias_initializer,
            rules.integer("in_channels", in_channels),
            depthwise_init=depthwise_init,
            composition=composition,
            **kwargs,
        )
