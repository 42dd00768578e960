"""The lazy layers: `nn.LazyConv1d` and the like, which take their input channels from an input."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy

from do_conv.core import rules
from do_conv.core.errors import DOConvError
from do_conv.torch.base import OverParameterized, check_kind
from do_conv.torch.layers import DOConv1d, DOConv2d, DOConv3d
from do_conv.torch.transposed import DOConvTranspose1d, DOConvTranspose2d, DOConvTranspose3d


class _Lazy(LazyModuleMixin, OverParameterized):
    """The lazy layers; the first forward pass turns one into a layer of `cls_to_become`.

    A lazy layer takes the arguments of the layer it becomes, without `in_channels`.
    """

    cls_to_become: Any

    def __init__(self, out_channels: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(None, out_channels, *args, **kwargs)

    def _check_in_channels(self, in_channels: Any) -> None:
        return None

    def reset_parameters(self) -> None:
        """Draw the parameters, once an input has been seen."""
        if self.spec.is_known:
            super().reset_parameters()

    def initialize_parameters(self, input: Tensor, *_: Any, **__: Any) -> None:
        """Make and draw the parameters for an input of this shape."""
        if not self.spec.is_known:
            check_kind(input)
            rules.input_rank(input.shape, self._rank, unbatched=True)
            self._set_in_channels(input.shape[-self._rank - 1])
            self.reset_parameters()

    def composed_weight(self) -> Tensor:
        """W', once an input has been seen.

        Raises:
            DOConvError: before that.
        """
        rules.built(type(self).__name__, self.spec.is_known)
        return super().composed_weight()

    def _set_in_channels(self, channels: int) -> None:
        """Give the parameters their shapes."""
        self.spec = self.spec.with_in_channels(channels)
        self.in_channels = channels
        for name, shape in self._shapes().items():
            parameter = self._parameters[name]
            if parameter is not None and is_lazy(parameter):
                parameter.materialize(shape)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Load as the layer that this one becomes, with the channels of the stored W."""
        stored = state_dict.get(prefix + "weight")
        if stored is not None and not is_lazy(stored) and not self.spec.is_known:
            axes = (3, self._rank + 2)  # with D_mul slots in the place of positions, or without
            if stored.dim() not in axes:
                error_msgs = args[-1]
                error_msgs.append(
                    f"size mismatch for {prefix}weight: it has {stored.dim()} axes in the "
                    f"checkpoint, and {axes[1]} in the layer."
                )
                return
            channels = stored.shape[0] if self.transposed else stored.shape[1] * self.groups
            unknown = self.spec
            try:  # before a parameter is made
                self.spec = unknown.with_in_channels(channels)
                self._check_stored(state_dict, prefix)
            except DOConvError as error:
                args[-1].append(str(error))
                return
            finally:
                self.spec = unknown
            self._set_in_channels(channels)
        super()._load_from_state_dict(state_dict, prefix, *args)
        if self.spec.is_known and "_initialize_hook" in self.__dict__:
            self._become_known()

    def _become_known(self) -> None:
        """Do what PyTorch does to a lazy layer after its first input."""
        for name in ("_initialize_hook", "_load_hook"):
            getattr(self, name).remove()
            delattr(self, name)
        self.__class__ = self.cls_to_become


class LazyDOConv1d(_Lazy, DOConv1d):
    """A lazy `DOConv1d`: the same arguments without `in_channels`, the same shapes.

    Examples:
        >>> import torch
        >>> from do_conv.torch import LazyDOConv1d
        >>> layer = LazyDOConv1d(16, 3, padding=1)
        >>> output = layer(torch.randn(1, 3, 8))
        >>> type(layer).__name__, layer.in_channels
        ('DOConv1d', 3)
    """

    cls_to_become = DOConv1d


class LazyDOConv2d(_Lazy, DOConv2d):
    """A lazy `DOConv2d`: the same arguments without `in_channels`, the same shapes.

    Examples:
        >>> import torch
        >>> from do_conv.torch import LazyDOConv2d
        >>> layer = LazyDOConv2d(16, 3, padding=1)
        >>> output = layer(torch.randn(1, 3, 8, 8))
        >>> type(layer).__name__, layer.in_channels
        ('DOConv2d', 3)
    """

    cls_to_become = DOConv2d


class LazyDOConv3d(_Lazy, DOConv3d):
    """A lazy `DOConv3d`: the same arguments without `in_channels`, the same shapes.

    Examples:
        >>> import torch
        >>> from do_conv.torch import LazyDOConv3d
        >>> layer = LazyDOConv3d(16, 3, padding=1)
        >>> output = layer(torch.randn(1, 3, 8, 8, 8))
        >>> type(layer).__name__, layer.in_channels
        ('DOConv3d', 3)
    """

    cls_to_become = DOConv3d


class LazyDOConvTranspose1d(_Lazy, DOConvTranspose1d):
    """A lazy `DOConvTranspose1d`: the same arguments without `in_channels`, the same shapes.

    Examples:
        >>> import torch
        >>> from do_conv.torch import LazyDOConvTranspose1d
        >>> layer = LazyDOConvTranspose1d(16, 3, stride=2)
        >>> output = layer(torch.randn(1, 3, 8))
        >>> type(layer).__name__, layer.in_channels
        ('DOConvTranspose1d', 3)
    """

    cls_to_become = DOConvTranspose1d


class LazyDOConvTranspose2d(_Lazy, DOConvTranspose2d):
    """A lazy `DOConvTranspose2d`: the same arguments without `in_channels`, the same shapes.

    Examples:
        >>> import torch
        >>> from do_conv.torch import LazyDOConvTranspose2d
        >>> layer = LazyDOConvTranspose2d(16, 3, stride=2)
        >>> output = layer(torch.randn(1, 3, 8, 8))
        >>> type(layer).__name__, layer.in_channels
        ('DOConvTranspose2d', 3)
    """

    cls_to_become = DOConvTranspose2d


class LazyDOConvTranspose3d(_Lazy, DOConvTranspose3d):
    """A lazy `DOConvTranspose3d`: the same arguments without `in_channels`, the same shapes.

    Examples:
        >>> import torch
        >>> from do_conv.torch import LazyDOConvTranspose3d
        >>> layer = LazyDOConvTranspose3d(16, 3, stride=2)
        >>> output = layer(torch.randn(1, 3, 8, 8, 8))
        >>> type(layer).__name__, layer.in_channels
        ('DOConvTranspose3d', 3)
    """

    cls_to_become = DOConvTranspose3d
