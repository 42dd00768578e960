"""The transposed convolutions: `nn.Conv1DTranspose`, `2D` and `3D`, over-parameterized.

D belongs to the stored kernel's second axis, the output channels (see `do_conv.core.transposed`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon import nn

from do_conv.core import rules
from do_conv.core.rules import CompositionName, DepthwiseInit
from do_conv.core.spec import Spec
from do_conv.gluon.base import OverParameterized
from do_conv.gluon.plain import BlockOptions, operator_options

if TYPE_CHECKING:
    from typing_extensions import Unpack


class _DOConvTranspose(OverParameterized):
    """The transposed layers of every rank; `OverParameterized` names the attributes."""

    _operator = "Deconvolution"

    def __init__(
        self,
        channels: int,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] = 0,
        output_padding: int | tuple[int, ...] = 0,
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
        """The arguments before `d_mul` are those of the plain layer.

        Args:
            padding: an integer or one per axis, taken away from the output.
            output_padding: an integer or one per axis, added at the output's end; smaller than
                the stride.
            dilation: an integer or one per axis; 1 where there are three axes.
            layout: the order of the input's axes; MXNet convolves in 'NCW', 'NCHW', 'NCDHW'.
            weight_initializer: how W starts; None is what `initialize` says.
            in_channels: C_in; 0 is to be seen from the first input.
            d_mul: D_mul, at least |K|, the default. Where |K| = 1 the layer is the plain one.
            depthwise_init: how D starts (Table 7), "identity" or "he".
            composition: "kernel" or "feature" (equation 3); it may be changed at any time, but a
                graph that was hybridized before is kept until `hybridize()` is called again.
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
            transposed=True,
        )
        options = operator_options(spec, strides, padding, dilation, layout, use_bias)
        # MXNet requires output_padding below the stride, whatever the dilation.
        options["adj"] = rules.output_padding(output_padding, options["stride"], (1,) * spec.rank)
        self.outpad = options["adj"]
        initializers = {"weight": weight_initializer, "bias": bias_initializer}
        super().__init__(
            spec, composition, depthwise_init, options, initializers, activation, kwargs
        )

    def _convolve_composed(self, F: Any, x: Any, kernel: Any, bias: Any) -> Any:  # noqa: N803
        """Spread `x` by a kernel that is computed.

        On the CPU, MXNet's float32 operator writes the gradient of its kernel into memory that only
        a parameter has; for a computed kernel it fails with "could not execute a primitive". So it
        gives the value, and a sum that is zero gives the gradients.
        """
        recording = F is mx.sym or autograd.is_recording()
        if not recording or np.dtype(self.weight.dtype) != np.float32:
            return super()._convolve_composed(F, x, kernel, bias)
        fixed = [None if array is None else F.BlockGrad(array) for array in (x, kernel, bias)]
        value = super()._convolve_composed(F, *fixed)
        trained = self._in_two_steps(F, x, kernel, bias, self._spec.groups)
        return value + (trained - F.BlockGrad(trained))

    def _convolve_features(self, F: Any, x: Any, pointwise: Any, bias: Any, depthwise: Any) -> Any:  # noqa: N803
        """Feature composition: W spreads the input over the features, D these over the output."""
        features = self._at_every_position(
            F, x, pointwise, self._spec.groups, self._channels * self._spec.d_mul
        )
        return self._in_two_steps(F, features, depthwise, bias, self._channels)

    def _in_two_steps(self, F: Any, x: Any, kernel: Any, bias: Any, groups: int) -> Any:  # noqa: N803
        """A transposed convolution: what each position adds, and the sum where they overlap."""
        spec, size = self._spec, self._spec.kernel_size
        slots, kernel = spec.area, F.reshape(kernel, shape=(0, 0, -1))
        if slots % 8 == 0:
            # MXNet has no gradient where 8, 16, ... channels give one output: add a zero.
            first = F.slice_axis(kernel, axis=2, begin=0, end=1)
            slots, kernel = slots + 1, F.concat(kernel, F.zeros_like(first), dim=2)
        added = self._at_every_position(F, x, kernel, groups, self._channels * slots)
        # This constant kernel sums the slots; it has no gradient.
        place = F.one_hot(F.arange(slots), depth=spec.area, dtype=self.weight.dtype)
        place = F.reshape(place, shape=(1, slots, *size))
        place = F.reshape(
            F.broadcast_axis(place, axis=0, size=self._channels), shape=(-3, 1, *size)
        )
        options = {**self._kwargs, "num_group": self._channels, "no_bias": True}
        out = self._convolve(F, added, place, None, options)
        if bias is None:
            return out
        return F.broadcast_add(out, F.reshape(bias, shape=(1, -1, *[1] * spec.rank)))

    def _at_every_position(
        self,
        F: Any,  # noqa: N803
        x: Any,
        kernel: Any,
        groups: int,
        channels: int,
    ) -> Any:
        """`(C_in, C_out/groups, ...)` applied to each position alone: a channel for every slot."""
        ones = (1,) * self._spec.rank
        slots = F.reshape(F.reshape(kernel, shape=(0, 0, -1)), shape=(-4, groups, -1, 0, 0))
        kernel = F.reshape(F.transpose(slots, axes=(0, 2, 3, 1)), shape=(channels, -1, *ones))
        options = {"kernel": ones, "num_filter": channels, "num_group": groups, "no_bias": True}
        return F.Convolution(x, kernel, **options)

    def _plain_arguments(self) -> dict[str, Any]:
        return {**super()._plain_arguments(), "output_padding": self._kwargs["adj"]}


class DOConv1DTranspose(_DOConvTranspose, nn.Conv1DTranspose):
    """An over-parameterized `nn.Conv1DTranspose`: its arguments, and ours by keyword.

    Shapes: input `(N, C_in, W)`, output `(N, channels, W')`; `weight` (W)
    `(C_in, channels/G, *K)`, `depthwise_delta` (D') `(channels, D_mul, *K)`, `bias`
    `(channels,)`.

    Examples:
        >>> from do_conv.gluon import DOConv1DTranspose
        >>> import mxnet as mx
        >>> layer = DOConv1DTranspose(16, 3, strides=2, in_channels=3)
        >>> layer.initialize()
        >>> layer(mx.nd.ones((1, 3, 8))).shape
        (1, 16, 17)
        >>> layer.fold()
        Conv1DTranspose(16 -> 3, kernel_size=(3,), stride=(2,))
    """

    _plain, _rank = nn.Conv1DTranspose, 1


class DOConv2DTranspose(_DOConvTranspose, nn.Conv2DTranspose):
    """An over-parameterized `nn.Conv2DTranspose`: its arguments, and ours by keyword.

    Shapes: input `(N, C_in, H, W)`, output `(N, channels, H', W')`; `weight` (W)
    `(C_in, channels/G, *K)`, `depthwise_delta` (D') `(channels, D_mul, *K)`, `bias`
    `(channels,)`.

    Examples:
        >>> from do_conv.gluon import DOConv2DTranspose
        >>> import mxnet as mx
        >>> layer = DOConv2DTranspose(16, 3, strides=2, in_channels=3)
        >>> layer.initialize()
        >>> layer(mx.nd.ones((1, 3, 8, 8))).shape
        (1, 16, 17, 17)
        >>> layer.fold()
        Conv2DTranspose(16 -> 3, kernel_size=(3, 3), stride=(2, 2))
    """

    _plain, _rank = nn.Conv2DTranspose, 2


class DOConv3DTranspose(_DOConvTranspose, nn.Conv3DTranspose):
    """An over-parameterized `nn.Conv3DTranspose`: its arguments, and ours by keyword.

    Shapes: input `(N, C_in, D, H, W)`, output `(N, channels, D', H', W')`; `weight` (W)
    `(C_in, channels/G, *K)`, `depthwise_delta` (D') `(channels, D_mul, *K)`, `bias`
    `(channels,)`.

    Examples:
        >>> from do_conv.gluon import DOConv3DTranspose
        >>> import mxnet as mx
        >>> layer = DOConv3DTranspose(16, 3, strides=2, in_channels=3)
        >>> layer.initialize()
        >>> layer(mx.nd.ones((1, 3, 8, 8, 8))).shape
        (1, 16, 17, 17, 17)
        >>> layer.fold()
        Conv3DTranspose(16 -> 3, kernel_size=(3, 3, 3), stride=(2, 2, 2))
    """

    _plain, _rank = nn.Conv3DTranspose, 3
