"""Messages that belong to `do_conv.core.rules.models`."""

from __future__ import annotations

from do_conv.core.errors import DOConvError, broken


def remakeable(is_remakeable: bool, kind: str, remedy: str) -> None:
    """A whole model is made again layer by layer, so its layers' graph has to be known."""
    if not is_remakeable:
        raise broken(
            "a whole model must be a Functional or Sequential model, whose layers are known",
            f"a {kind}, a class with a way of its own",
            remedy,
        )


def reachable(name: str | None) -> None:
    """Folding leaves nothing of ours in a model, so it has to reach every layer."""
    if name is not None:
        raise broken(
            "a layer to fold must stand in a Functional or Sequential model, or in TimeDistributed",
            f"layer '{name}' inside a layer of a class of its own",
            "make the plain model, and give folded_weights(model) to its set_weights",
        )


def differing(
    difference: float, tolerance: float, where: str | None, training: bool
) -> DOConvError:
    """The error for two models that do not do the same."""
    return broken(
        f"two models must give the same outputs, within {tolerance:g} of the largest value",
        f"a difference of {difference:.1e}"
        + (f", which begins in layer '{where}'" if where else "")
        + (", from models run in training mode" if training else ""),
        "leave training=True out" if training else "look at that layer",
    )


def compiled_by_keras(is_so: bool) -> None:
    """Only what Keras's own `compile` was given is known."""
    if not is_so:
        raise NotImplementedError("its class has a compile() of its own")


def not_compiled(error: Exception) -> str:
    """The warning for a compiled model whose conversion could not be compiled."""
    return f"the new model is not compiled, since {error.args[0]}; call its compile()."
