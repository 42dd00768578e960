"""Why a conversion leaves a convolution, in the words that every framework's plan has."""

from __future__ import annotations

HAS_DEPTHWISE = "it has a depthwise kernel already"
COMPUTED_WEIGHT = "its weight is computed from other parameters"
UNREAD_WEIGHT = "its forward pass does not read its weight"
SHARED_WEIGHT = "its weight is shared with a layer that is left"
ONE_POSITION = "its kernel has one position"
NOT_CHOSEN = "where leaves it out"
QUANTISED = "it is prepared for quantisation"
OTHER_CLASS = "its class is not Keras's own"
NO_SUCH_CLASS = "its class has no over-parameterized one"


def layout(name: str) -> str:
    """The axes of a layer's input are not in the order that our layers take."""
    return f"its layout is {name}"


def owned_by(kind: str) -> str:
    """The layer is inside one that cannot be made again around another."""
    return f"only the code of {kind} could make it again"


def hidden(count: int) -> str:
    """A graph of operations without layers."""
    return f"a graph hides its {count} convolution{'' if count == 1 else 's'}"
