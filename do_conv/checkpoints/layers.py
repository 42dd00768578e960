"""Our layers among the names of a checkpoint, by the names of their arrays alone.

The text before an array's name, such as `module.conv1.`, is the layer's name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from do_conv.adapter import DELTA, SEPARABLE
from do_conv.checkpoints import checks
from do_conv.core.composition import compose_spec
from do_conv.core.errors import DOConvError
from do_conv.core.features import pointwise_kernel
from do_conv.core.spec import SeparableSpec, Shape, Spec

_PARAMETRIZED = re.compile(r"(.*)parametrizations\.weight\.(\d+)\.$", re.DOTALL)


@dataclass(frozen=True)
class Stored:
    """A layer of do_conv in a file.

    Attributes:
        name: the layer's name.
        kind: "over-parameterized" or "separable".
        keys: the names of its `weight`, `delta` and, if there is one, `bias`.
        plain: the names in the plain layer, of `weight` and `bias`; of a separable pair, of
            `depthwise`, `weight` and `bias`.
    """

    name: str
    kind: str
    keys: dict[str, str]
    plain: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Naming:
    """How a format names a layer's arrays and orders their axes; by default as the core does.

    Attributes:
        separators: the characters that may stand between a layer's name and an array's.
        authors_separators: the same, in files of the original authors' layers.
        can_strip: whether a prefix may be taken from the names.
        roles: the roles of arrays that have other names in layers of known kinds.
        kernel: the name of W.
    """

    separators: str = "."
    authors_separators: str = "."
    can_strip: bool = True
    roles: Mapping[str, str] = field(default_factory=dict)
    kernel: str = "weight"

    def weight_to_core(self, kernel: np.ndarray) -> np.ndarray:
        """W in the core's order of axes."""
        return kernel

    def delta_to_core(self, delta: np.ndarray) -> np.ndarray:
        """D' in the core's order of axes."""
        return delta

    def weight_from_core(self, kernel: np.ndarray) -> np.ndarray:
        """The inverse of `weight_to_core`."""
        return kernel

    def delta_from_core(self, delta: np.ndarray) -> np.ndarray:
        """The inverse of `delta_to_core`."""
        return delta

    def shown(self, role: str) -> str:
        """The name of an array of a convolution in messages, by its role."""
        return {"weight": self.kernel, "delta": DELTA}.get(role, role)

    def own_shapes(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Shape]:
        """The shapes of a convolution's arrays, with the names and axes of the format's layers."""
        own = dict(arrays)
        for role, to_own in (("weight", self.weight_from_core), (DELTA, self.delta_from_core)):
            if role in own:
                own[role] = to_own(own[role])
        return {self.shown(role): array.shape for role, array in own.items()}

    def to_core(self, array: np.ndarray, name: str) -> np.ndarray:
        """An array of a plain layer, by its name, in the core's order of axes."""
        return array

    def layers_among(self, shapes: Mapping[str, Shape]) -> Iterator[Stored]:
        """The layers of do_conv among named arrays.

        Raises:
            DOConvError: if an array of one is missing, or there are too many.
        """
        for name in shapes:
            for ending in (DELTA, SEPARABLE):
                before = name[: -len(ending)]
                if name.endswith(ending) and (not before or before[-1] in self.separators):
                    stored = _parametrized(before, shapes) or _layer(before, ending, shapes, self)
                    if stored is not None:
                        yield stored

    def plain_groups(self, groups: Any, shapes: Mapping[str, Shape]) -> dict[str, str]:
        """The names that groups of arrays have in the plain file, where their class is in them."""
        return {}


TORCH = Naming()
GLUON = Naming(
    "._:", authors_separators="._:", roles={"gamma": "weight", "beta": "bias", "alpha": "weight"}
)
NPZ = Naming(authors_separators="/.")


def _layer(before: str, ending: str, shapes: Mapping[str, Shape], naming: Naming) -> Stored | None:
    """A layer whose arrays have names that begin with `before`; None if it is not of do_conv."""
    weight, bias = before + "weight", before + "bias"
    layer = before.rstrip(naming.separators)
    stored = [key for key in ("weight", DELTA, SEPARABLE) if before + key in shapes]
    if ending == SEPARABLE and stored == [SEPARABLE]:
        return None  # other libraries use this name, too
    checks.layer_keys(layer, ["weight", ending], stored)
    if ending == SEPARABLE and not len(shapes[weight]) == 3 <= len(shapes[before + ending]):
        return None
    keys = {"weight": weight, "delta": before + ending}
    if bias in shapes:
        keys["bias"] = bias
    if ending == DELTA:
        return Stored(layer, "over-parameterized", keys, {"weight": weight, "bias": bias})
    # Gluon's older names have no dots: a separable pair's are made of its prefix.
    end = "." if not before or before.endswith(".") else "_"
    plain = {
        "depthwise": f"{before}depthwise{end}weight",
        "weight": f"{before}pointwise{end}weight",
        "bias": f"{before}pointwise{end}bias",
    }
    return Stored(layer, "separable", keys, plain)


def _parametrized(before: str, names: Collection[str]) -> Stored | None:
    """A layer whose `weight` was registered with `over_parameterize`."""
    match = _PARAMETRIZED.match(before)
    if match is None:
        return None
    layer = match[1].rstrip(".")
    of_weight = {name for name in names if name.startswith(f"{match[1]}parametrizations.weight.")}
    original = f"{match[1]}parametrizations.weight.original"
    checks.one_parametrization(layer, match[2] == "0" and of_weight <= {original, before + DELTA})
    stored = [name.rpartition(".")[2] for name in of_weight]
    checks.layer_keys(layer, ["original", DELTA], stored)
    keys = {"weight": original, "delta": before + DELTA}
    plain = {"weight": f"{match[1]}weight", "bias": f"{match[1]}bias"}
    if plain["bias"] in names:
        keys["bias"] = plain["bias"]
    return Stored(layer, "over-parameterized", keys, plain)


def spec_of(stored: Stored, shapes: Mapping[str, Shape]) -> Spec:
    """The sizes of a layer, from the shapes of its arrays in the core's order of axes.

    The groups are those by which the kernel's second axis makes the channels of D.

    Raises:
        DOConvError: if the arrays do not fit each other.
    """
    weight, delta = shapes["weight"], shapes["delta"]
    bias = shapes.get("bias")
    make = SeparableSpec if stored.kind == "separable" else Spec
    try:
        if len(weight) < 3 or 0 in weight + delta:
            raise DOConvError
        spec = make.of_shapes(weight, delta, delta[0] // weight[1])
    except (DOConvError, IndexError):
        checks.layer_shapes(stored.name, shapes)
    # A transposed layer's outputs are the second axis; a Keras depthwise layer's are both.
    outputs = (weight[0], delta[0], weight[0] * delta[0])
    if bias is not None and (len(bias) != 1 or bias[0] not in outputs):
        checks.layer_shapes(stored.name, shapes)
    return spec


def plain_arrays(
    stored: Stored, arrays: Mapping[str, np.ndarray], spec: Spec
) -> dict[str, np.ndarray]:
    """The plain layer's kernels in the core's order of axes, by the roles in `stored.plain`."""
    weight, delta = arrays["weight"], arrays["delta"]
    if stored.kind == "separable":
        depthwise = delta.reshape(-1, 1, *spec.kernel_size)
        return {"depthwise": depthwise, "weight": pointwise_kernel(weight, spec)}
    with np.errstate(all="ignore"):  # NaN and infinity are checked later
        return {"weight": compose_spec(weight, delta, spec)}
