"""The rules for layers and models that are given to a function."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from do_conv.core.errors import broken


def plain_convolution(is_plain: bool, kind: str) -> None:
    """A convolution can be over-parameterized only once."""
    if not is_plain:
        raise broken(
            "only a plain convolution can be over-parameterized",
            f"a {kind}",
            "give a convolution that has no depthwise kernel yet",
        )


def slots_of_computed_weight(d_mul: int, area: int) -> None:
    """A weight that something else computes has the plain shape, so D_mul is |K|."""
    if d_mul != area:
        raise broken(
            f"d_mul must be the number of kernel positions, {area}, where the weight is computed "
            "from another parameter already",
            f"d_mul={d_mul}",
            "leave it out, or over-parameterize first",
        )


def separable_pair(is_pair: bool, depthwise: Any, pointwise: Any) -> None:
    """Two layers can be trained as one if nothing stands between them."""
    if not is_pair:
        raise broken(
            "a separable pair must be a depthwise convolution without a bias, then a pointwise one "
            "of stride 1 without padding",
            f"{depthwise} and {pointwise}",
            "leave such layers as they are",
        )


def model_kind(is_model: bool, kind: str, found: str) -> None:
    """A function on models needs a model of its own framework."""
    if not is_model:
        raise broken(
            f"a model must be a {kind}",
            f"a {found}",
            "give the model itself, not its weights, its name or a model of another framework",
        )


def something_to_fold(found: int, kind: str) -> None:
    """A model to fold must have a DO-Conv layer."""
    if not found:
        raise broken(
            "a model to fold must have a layer with a depthwise kernel",
            f"a {kind} without one",
            "convert it first, or use it as it is",
        )


def forward_of_ours(kind: type, plain: Any, passes: Collection[str], remedy: str) -> None:
    """A layer to fold must have a forward pass of do_conv: its plain class has no other.

    Args:
        kind: the layer's class.
        plain: the class that it folds to.
        passes: the methods that are a forward pass.
    """
    for name in passes:
        owner = next((base for base in kind.__mro__ if name in vars(base)), object)
        if not (owner.__module__.startswith("do_conv.") or issubclass(plain, owner)):
            raise broken(
                "a DO-Conv layer to fold must have the forward pass of its class in do_conv",
                f"a {kind.__name__}, whose {name}() is that of {owner.__qualname__}",
                remedy,
            )


def not_quantised(is_so: bool, kind: str) -> None:
    """Eager-mode quantisation replaces layers of PyTorch's own classes only."""
    if not is_so:
        raise broken(
            "a layer must be folded before it is prepared for quantisation",
            f"a {kind} with a qconfig",
            "call fold(model) and prepare that, or set the layer's qconfig to None to keep it in "
            "float",
        )


def weight_of_its_own(source: str | None, kind: str) -> None:
    """Pruning and norms of a weight change W, and not the kernel that is applied."""
    if source is not None:
        raise broken(
            "a weight that is pruned or normalised must be the kernel that is applied",
            f"a {kind} whose W is computed from {source}",
            "fold first; for spectral_norm, give the plain layer to over_parameterize before it",
        )


def something_to_optimize(found: int, kind: str, remedy: str) -> None:
    """An optimizer for W and D' holds a kernel that can have them."""
    if not found:
        raise broken(
            "an optimizer must hold a kernel of the model that can be over-parameterized",
            f"a {kind} without one",
            f"{remedy}, or look at plan(model)",
        )


def kernels_as_composed(found: str | None, holder: str) -> None:
    """A kernel that other code changed is not overwritten silently.

    Args:
        found: the kernels that were changed, in words; None if all are as composed.
        holder: "optimizer" or "trainer".
    """
    if found is not None:
        article = "an" if holder == "optimizer" else "a"
        raise broken(
            "a kernel must be the one that the last step composed of W and D'",
            f"{found}, or a state of {article} {holder} for another kernel",
            f"call take_weights() of the {holder} to start from the new kernels, or, also after a "
            "step that was interrupted, restore_weights() to write back those it has",
        )


def kernel_for_a_layer(name: str, why: str | None, holder: str) -> None:
    """A kernel that goes on as a layer is one that `convert` would replace.

    Args:
        name: of its layer.
        why: what it is instead, in words; None if it is one.
        holder: "optimizer" or "trainer".
    """
    if why is not None:
        raise broken(
            "a kernel that goes on as a layer must be one that convert replaces, in a dtype that "
            "layers have",
            f"that of layer '{name}', {why}",
            f"go on with the {holder}, or take a part of the kernels with where",
        )


def layer_with_parts(is_one: bool, name: str, kind: str, model: str, maker: str) -> None:
    """A layer that goes on as a plain kernel holds W and D'.

    Args:
        is_one: whether it does.
        name, kind: of the layer.
        model: the framework's word for a model.
        maker: the class that trains W and D' of a plain model.
    """
    if not is_one:
        raise broken(
            "a layer that goes on as a plain kernel must be a DOConv layer with W and D' as "
            "parameters",
            f"layer '{name}', a {kind}",
            f"fold the {model}, and make a {maker} for it, in which D' starts anew",
        )


def delta_shared_with_weight(is_so: bool, name: str) -> None:
    """Layers that share W and not D' have no plain kernel in common."""
    if not is_so:
        raise broken(
            "layers that share W must share D' to go on beside a plain kernel",
            f"layer '{name}', whose W another layer reads without its D'",
            "go on with layers",
        )
