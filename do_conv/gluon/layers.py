"""The convolutions: `nn.Conv1D`, `2D` and `3D`, over-parameterized."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mxnet.gluon import nn

from do_conv.core import rules
from do_conv.core.rules import CompositionName, DepthwiseInit
from do_conv.core.spec import Spec
from do_conv.gluon.base import OverParameterized
from do_conv.gluon.plain import BlockOptions, operator_options

if TYPE_CHECKING:
    from typing_extensions import Unpack


class _DOConv(OverParameterized):
    """The convolutions of every rank; `OverParameterized` names the attributes."""

    def __init__(
        self,
        channels: int,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        layout: str | None = None,
        activation: str | None = None,
        use_bias: bool = True,
        weight_initializer: Any = None,
        bias_initializer: Any = "zeros",
        in_channels: int = 0,
        *,
        d_mul: int | None = None,
        depthwise_init: DepthwiseInit = "identity",
        composition: CompositionName = "kernel",
        **kwargs: Unpack[BlockOptions],
    ) -> None:
        """The arguments before `d_mul` are those of `nn.Conv1D`, `2D` or `3D`.

        Args:
            groups: G; 1 is DO-Conv, C_in is DO-DConv, anything between is DO-GConv.
            layout: the order of the input's axes; MXNet convolves in 'NCW', 'NCHW', 'NCDHW'.
            weight_initializer: how W starts; None is what `initialize` says.
            in_channels: C_in; 0 is to be seen from the first input.
            d_mul: D_mul, at least |K|, the default. Where |K| = 1 the layer is the plain one.
            depthwise_init: how D starts (Table 7): "identity", with which the layer starts as the
                plain one, or "he", normal with standard deviation `sqrt(2/|K|)`.
            composition: "kernel" composes one kernel and convolves once; "feature" convolves twice
                (equation 3). Both give the same output; the attribute may be changed at any time,
                but a graph that was hybridized before is kept until `hybridize()` is called again.
            kwargs: the keywords of every block, `prefix` and `params`.

        Raises:
            DOConvError: if an argument breaks a rule; the message names it.
        """
        rules.own_names(kwargs)
        in_channels = rules.integer("in_channels", in_channels, minimum=0)
        spec = Spec(
            in_channels or None,
            rules.integer("channels", channels),
            rules.axes("kernel_size", kernel_size, self._rank),
            groups,
            d_mul,
        )
        options = operator_options(spec, strides, padding, dilation, layout, use_bias)
        rules.warn_of_stride(options["stride"], spec.kernel_size)
        initializers = {"weight": weight_initializer, "bias": bias_initializer}
        super().__init__(
            spec, composition, depthwise_init, options, initializers, activation, kwargs
        )


class DOConv1D(_DOConv, nn.Conv1D):
    """An over-parameterized `nn.Conv1D`: its arguments, and ours by keyword.

    Shapes: input `(N, C_in, W)`, output `(N, channels, W')`; `weight` (W)
    `(channels, C_in/G, *K)`, `depthwise_delta` (D') `(C_in, D_mul, *K)`, `bias` `(channels,)`.

    Examples:
        >>> from do_conv.gluon import DOConv1D
        >>> import mxnet as mx
        >>> layer = DOConv1D(16, 3, padding=1, in_channels=3)
        >>> layer.initialize()
        >>> layer(mx.nd.ones((1, 3, 8))).shape
        (1, 16, 8)
        >>> layer.fold()
        Conv1D(3 -> 16, kernel_size=(3,), stride=(1,), padding=(1,))
    """

    _plain, _rank = nn.Conv1D, 1


class DOConv2D(_DOConv, nn.Conv2D):
    """An over-parameterized `nn.Conv2D`: its arguments, and ours by keyword.

    Shapes: input `(N, C_in, H, W)`, output `(N, channels, H', W')`; `weight` (W)
    `(channels, C_in/G, *K)`, `depthwise_delta` (D') `(C_in, D_mul, *K)`, `bias` `(channels,)`.

    Examples:
        >>> from do_conv.gluon import DOConv2D
        >>> import mxnet as mx
        >>> layer = DOConv2D(16, 3, padding=1, in_channels=3)
        >>> layer.initialize()
        >>> layer(mx.nd.ones((1, 3, 8, 8))).shape
        (1, 16, 8, 8)
        >>> layer.fold()
        Conv2D(3 -> 16, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    """

    _plain, _rank = nn.Conv2D, 2


class DOConv3D(_DOConv, nn.Conv3D):
    """An over-parameterized `nn.Conv3D`: its arguments, and ours by keyword.

    Shapes: input `(N, C_in, D, H, W)`, output `(N, channels, D', H', W')`; `weight` (W)
    `(channels, C_in/G, *K)`, `depthwise_delta` (D') `(C_in, D_mul, *K)`, `bias` `(channels,)`.

    Examples:
        >>> from do_conv.gluon import DOConv3D
        >>> import mxnet as mx
        >>> layer = DOConv3D(16, 3, padding=1, in_channels=3)
        >>> layer.initialize()
        >>> layer(mx.nd.ones((1, 3, 8, 8, 8))).shape
        (1, 16, 8, 8, 8)
        >>> layer.fold()
        Conv3D(3 -> 16, kernel_size=(3, 3, 3), stride=(1, 1, 1), padding=(1, 1, 1))
    """

    _plain, _rank = nn.Conv3D, 3
