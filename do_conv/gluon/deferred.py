"""Layers that see the channels of their input late, as Gluon's do with `in_channels=0`."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from mxnet.gluon import HybridBlock

from do_conv.core import rules
from do_conv.core.spec import Spec


class Deferred(HybridBlock):
    """A block whose sizes are those of `weight` and of a parameter on top of it."""

    _delta_name: ClassVar[str]  # the parameter on top of W: D', or the D of a separable layer

    _spec: Spec

    @property
    def spec(self) -> Spec:
        """The layer's sizes; its input channels are None until an input has been seen."""
        if not self._spec.is_known:
            self._complete_spec()
        return self._spec

    def _complete_spec(self) -> None:
        """Take the sizes from `weight`, if it has them from an input, a file or another layer."""
        rows, columns, *_ = self.weight.shape
        channels = rows if self._spec.transposed else columns * self._spec.groups
        if self._spec.is_known or channels <= 0:
            return
        spec, delta = self._spec.with_in_channels(channels), getattr(self, self._delta_name)
        if delta is not None:
            # Loaded parameters fit each other only if they were saved with these groups.
            if delta.shape[0] > 0:
                rules.stored_shape(delta.name, spec.delta_shape, delta.shape)
            delta.shape = spec.delta_shape
        self._spec = spec

    def infer_shape(self, x: Any, *args: Any) -> None:
        """Take the parameters' shapes from an input, without a graph."""
        self.weight.shape = self._spec.with_in_channels(x.shape[1]).weight_shape
        self._complete_spec()

    def _check_input(self, x: Any) -> None:
        rules.input_rank(x.shape, self._spec.rank)
        if not self.spec.is_known:
            # Before this layer alone is traced into a graph: then its sizes are known.
            self.infer_shape(x)
        rules.input_shape(x.shape, self._spec.rank, self.spec.in_channels)
        rules.input_dtype(np.dtype(x.dtype).name, np.dtype(self.weight.dtype).name)
