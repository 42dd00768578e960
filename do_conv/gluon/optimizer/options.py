"""Options of a trainer: which kernels it trains, and which store it uses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import mxnet as mx

from do_conv.core import rules
from do_conv.core.errors import broken
from do_conv.gluon.models.planning import described_in_place
from do_conv.models import checks
from do_conv.models.choices import Where
from do_conv.models.decisions import DMul, to_convert

# The kernels of a trainer, each with its layer's name and sizes.
Kernels = dict[Any, tuple[str, Any]]


def planned(net: Any, where: Where, d_mul: DMul) -> Kernels:
    """The kernels that can be over-parameterized, each with its layer's name and sizes.

    Raises:
        DOConvError: if no kernel is to be trained, a size is not known yet, or an option breaks
            a rule.
    """
    kernels: Kernels = {}
    for layer, row in to_convert(described_in_place(net), where, d_mul, "kernel"):
        rules.built(row.name, layer.weight._data is not None)
        kernels.setdefault(layer.weight, (row.name, row.spec))
    return kernels


def among(params: Sequence[Any], kernels: Kernels) -> Kernels:
    """The kernels that are among the parameters of a trainer.

    Raises:
        DOConvError: if none is.
    """
    trained = set(map(id, params))
    found = {kernel: of_kernel for kernel, of_kernel in kernels.items() if id(kernel) in trained}
    remedy = "leave params out, or give it kernels of the network"
    checks.something_to_optimize(len(found), "DOConvTrainer", remedy)
    return found


def check_optimizer(optimizer: Any) -> None:
    """Refuse anything but a name of an optimizer, or one of MXNet.

    Raises:
        DOConvError: if it is something else.
    """
    if not isinstance(optimizer, (str, mx.optimizer.Optimizer)):
        raise broken(
            "a DOConvTrainer must be given an optimizer of MXNet, or its name",
            f"a {type(optimizer).__name__}",
            'give it as to a gluon.Trainer: DOConvTrainer(net, "sgd", {"learning_rate": 0.1})',
        )


def check_contexts(optimizer: Any, kernels: Iterable[Any]) -> None:
    """Refuse optimizers that would do other steps in each context.

    `Nadam` has one schedule of its momentum for all of them, and `SGLD` draws noise in each.

    Raises:
        DOConvError: if it is one of these, and there are several contexts.
    """
    several = any(len(kernel.list_ctx()) > 1 for kernel in kernels)
    if several and isinstance(optimizer, (mx.optimizer.Nadam, mx.optimizer.SGLD)):
        raise broken(
            "in several contexts an optimizer must do the same step in each",
            f"a {type(optimizer).__name__}, which does not",
            "take another optimizer, or one context",
        )


def check_trainer(trainer: Any) -> None:
    """Refuse what is no trainer.

    Raises:
        DOConvError: if it is something else.
    """
    if not isinstance(trainer, mx.gluon.Trainer):
        raise broken(
            "from_layers must be given the network, then its gluon.Trainer",
            f"a {type(trainer).__name__} as the trainer",
            "give them in this order",
        )


def check_store(options: Mapping[str, Any]) -> bool:
    """Refuse a store that would step on the kernels itself.

    Returns:
        whether the store has several workers.

    Raises:
        DOConvError: if the options of a plain trainer ask for such a store.
    """
    store, on_store = options.get("kvstore"), options.get("update_on_kvstore")
    kind = store if isinstance(store, str) else getattr(store, "type", "")
    if on_store or "async" in kind:
        asked = [f"kvstore={kind!r}"] if kind else []
        asked += ["update_on_kvstore=True"] if on_store else []
        raise broken(
            "a DOConvTrainer steps on W and D' itself, and not on the store",
            " and ".join(asked),
            "leave update_on_kvstore out, and take a store that is not asynchronous",
        )
    return "dist" in kind or getattr(store, "num_workers", 1) > 1
