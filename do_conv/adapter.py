"""The one interface to what is known of a framework.

Each backend has an `adapter.py` with the functions of `Adapter`. The parity table, the
demonstration, the command line and the transfer of weights use a framework through these
functions alone. NumPy arrays go in and come out in the core's order of axes, channels first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from do_conv.core import rules
from do_conv.core.spec import Shape, Spec

if TYPE_CHECKING:
    from do_conv.parity.cases import Case

# The names of a layer's arrays: D' of a DO-Conv layer, and D of a separable pair.
DELTA, SEPARABLE = "depthwise_delta", "depthwise_weight"
CONVOLUTIONS = ("convolution", "transposed", "separable")
KINDS = (*CONVOLUTIONS, "dense", "normalization", "prelu")

Loss = Literal["mean squared error", "cross-entropy"]


@dataclass(frozen=True)
class Description:
    """The kind and sizes of a layer, in terms that every framework has.

    Attributes:
        kind: "convolution", "transposed", "separable", "dense", "normalization" or "prelu".
        kernel_size: K; empty where there is no kernel.
        groups: G; of a group normalization, its groups.
        d_mul: D_mul; None for a plain layer, whose `weight` is the kernel that is applied.
        epsilon: the number that a normalization adds to the variance.
    """

    kind: str
    kernel_size: Shape = ()
    groups: int = 1
    d_mul: int | None = None
    epsilon: float | None = None

    def __post_init__(self) -> None:
        rules.choice("kind", self.kind, KINDS)
        if self.kind in CONVOLUTIONS:
            object.__setattr__(self, "kernel_size", rules.kernel_axes(self.kernel_size))
        rules.integer("groups", self.groups)
        if self.d_mul is not None:
            rules.integer("d_mul", self.d_mul)


@dataclass(frozen=True)
class LayerArray:
    """One array of a live layer, its axes in the core's order.

    Attributes:
        shape: its shape.
        dtype: its dtype's name, such as "float32".
        read: return it as a new NumPy array; bfloat16 as float32.
        write: take a NumPy array of this shape, and round it to the dtype.
        own: its name and shape in the framework, for messages; None if they are the core's.
    """

    shape: Shape
    dtype: str
    read: Callable[[], np.ndarray]
    write: Callable[[np.ndarray], None]
    own: tuple[str, Shape] | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class ModelLayer:
    """A layer of a live model.

    Attributes:
        name: its name, with dots between a parent's and its own; "" is the model itself.
        description: what it is; None for a layer that other frameworks do not have.
        arrays: its arrays by name: "weight", "bias", `DELTA`, `SEPARABLE` and so on.
    """

    name: str
    description: Description | None
    arrays: Mapping[str, LayerArray]

    def own_shapes(self) -> dict[str, Shape]:
        """The shapes of its arrays, with the names and the order of axes of the framework."""
        return dict(array.own or (role, array.shape) for role, array in self.arrays.items())


def array_name(layer: str, role: str) -> str:
    """The full name of a layer's array; a bare layer has no name."""
    return f"{layer}.{role}" if layer else role


@dataclass(frozen=True)
class Dense:
    """A dense layer in a network."""

    inputs: int
    outputs: int


@dataclass(frozen=True)
class SGD:
    """The options of SGD: `v <- momentum * v + gradient + decay * p`, `p <- p - rate * v`.

    Attributes:
        is_nesterov: whether the momentum is Nesterov's.
        micro_batches: how many batches give the gradients of a step.
    """

    rate: float
    momentum: float = 0.0
    decay: float = 0.0
    is_nesterov: bool = False
    micro_batches: int = 1


@dataclass(frozen=True)
class Adam:
    """The options of Adam, or of AdamW, whose decay is decoupled from the gradient."""

    rate: float
    decay: float
    epsilon: float
    is_decoupled: bool = False
    micro_batches: int = 1


Options = SGD | Adam


class Adapter(Protocol):
    """The functions of `adapter.py` in a backend."""

    def versions(self) -> str:
        """The heading of a table: the framework and its version, and those of its backend."""

    def not_offered(self, case: Case) -> str | None:
        """Why the framework's own layers cannot do a case, or None."""

    def offers_features(self, case: Case) -> bool:
        """True if the backend's layer has feature composition in a case."""

    def precision(self, dtype: str) -> AbstractContextManager[None]:
        """A context in which layers are made, and arrays taken, in this dtype."""

    def layer(self, case: Case, dtype: str) -> Any:
        """An over-parameterized layer of a case, with parameters."""

    def model_layers(self, model: Any) -> Iterator[ModelLayer]:
        """Each layer with arrays of its own, a shared one once, in the order of the model.

        Of an optimizer of kernels, those of its network, with W and D' in the place of kernels:
        whatever is written to one of them composes the kernel.

        Raises:
            DOConvError: if a layer has no parameters yet.
        """

    def composed_kernel(self, layer: Any) -> np.ndarray:
        """W' of a layer, `(C_out, C_in/G, *K)`."""

    def run(self, model: Any, x: np.ndarray) -> np.ndarray:
        """The output of a model or a layer, as in evaluation."""

    def differentiate(
        self, layer: Any, x: np.ndarray, cotangent: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """A layer's output, and the gradients of `x` and of each of its arrays, by name."""

    def network(self, parts: Sequence[Any]) -> Any:
        """A network of the framework's layers in a row, in the dtype of the first.

        Args:
            parts: layers, `Dense`, and words: "relu", "pool" (the maximum of 2 x 2 positions) and
                "average" (the mean over all positions, which leaves the channels).
        """

    def no_optimizer(self, options: Options) -> str | None:
        """Why there is no such optimizer of W and D' beside a plain network, or None."""

    def optimizer(self, model: Any, options: Options) -> Any:
        """The framework's optimizer of a model's parameters."""

    def kernel_optimizer(
        self, model: Any, options: Options, d_mul: Callable[[Spec], int] | None
    ) -> Any:
        """The backend's optimizer of the W and D' of a plain model's kernels."""

    def trainer(
        self, model: Any, loss: Loss, options: Options, by: Any = None
    ) -> Callable[[np.ndarray, np.ndarray], None]:
        """A function that takes a batch and its targets, and makes one step.

        With several micro-batches it is called with each of them.

        Args:
            model: a model.
            loss: a mean over the batch.
            options: the options of the optimizer.
            by: the optimizer; None is one that steps as the options say, with SGD's decay.
        """

    def in_own_order(self, model: Any, shape: Shape) -> Shape:
        """The shape `(N, C, *size)` of a batch, with its axes in the order the model takes."""
