"""The kernels of a model that are trained as W and D'."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from do_conv.core import rules
from do_conv.core.spec import Spec
from do_conv.models.choices import Where
from do_conv.models.decisions import DMul, to_convert
from do_conv.torch.models.planning import described_in_place
from do_conv.torch.models.sharding import check_not_flat, reshard


def planned(model: nn.Module, where: Where, d_mul: DMul) -> dict[Tensor, tuple[str, Spec]]:
    """The kernels of a model that would be over-parameterized: name of the layer, and sizes."""
    check_not_flat(model)
    reshard(model)
    kernels: dict[Tensor, tuple[str, Spec]] = {}
    for layer, row in to_convert(described_in_place(model), where, d_mul, "kernel"):
        rules.built(row.name, not is_lazy(layer.weight))
        assert row.spec is not None
        kernels.setdefault(layer.weight, (row.name, row.spec))
    return kernels
