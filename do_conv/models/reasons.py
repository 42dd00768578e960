"""The reasons why a conversion leaves a convolution plain, the same in every framework."""

from __future__ import annotations

from do_conv.table import counted

HAS_DEPTHWISE = "it has a depthwise kernel already"
NO_CHANNELS = "it has no input or no output channels"
OUR_NAMES = "it has attributes or methods of its own by the names of those of DO-Conv layers"
COMPUTED_WEIGHT = "its weight is computed from other parameters"
UNREAD_WEIGHT = "its own forward pass is not seen to read its weight"
SHARED_WEIGHT = "its weight is shared with a layer that is left"
OTHER_SIZES = "its weight has other sizes than its attributes say"
ONE_POSITION = "a 1 x 1 kernel has nothing to over-parameterize"
NOT_CHOSEN = "it was not chosen"
QUANTISED = "it is prepared for quantisation"
FROZEN = "it is frozen"
OTHER_CLASS = "its class is not Keras's own"
NO_SUCH_CLASS = "there is no over-parameterized layer for its class"


def layout(name: str) -> str:
    """DO-Conv layers need another order of the input's axes."""
    return f"its layout is {name}"


def owned_by(kind: str) -> str:
    """The layer is inside a layer that cannot be rebuilt."""
    return f"it is inside a layer of class {kind}, which only its own code can make again"


def hidden(count: int) -> str:
    """A graph of operations without layers."""
    return f"it is a graph of operations with {counted(count, 'convolution')} inside"
