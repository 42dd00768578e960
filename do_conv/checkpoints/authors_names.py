"""The original authors' layers among the names of a checkpoint, and our names for their arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from do_conv.checkpoints import checks
from do_conv.checkpoints.keras_names import is_of_another_class, is_of_class_do_conv2d
from do_conv.checkpoints.layers import DELTA
from do_conv.core.spec import Shape

# The name of W in the authors' code for each framework; D and bias are named alike.
KERNELS = {"torch": "W", "tensorflow": "kernel", "gluon": "weight"}
DIAGONALS = ("d_diag", "D_diag")
# The ending of TensorFlow's names of variables.
_TENSORFLOW = ":0"


@dataclass(frozen=True)
class Theirs:
    """A layer of the authors, as it is stored.

    Attributes:
        name: the layer's name.
        framework: "torch", "tensorflow" or "gluon".
        keys: the names of its `weight`, and `delta`, `diagonal` and `bias` if there are such.
        ours: our names for `weight`, `delta` and `bias`.
    """

    name: str
    framework: str
    keys: dict[str, str]
    ours: dict[str, str]


def layers_among(shapes: Mapping[str, Shape], separators: str) -> list[Theirs]:
    """The authors' layers among named arrays, in their order.

    Raises:
        DOConvError: if an array of one is missing, or there are too many.
    """
    layers = []
    for before, keys in _by_layer(shapes, separators).items():
        name = before.rstrip(separators)
        theirs = _numbered(name, before, keys, shapes) or _named(name, before, keys, shapes)
        if theirs is not None:
            layers.append(theirs)
    return layers


def _by_layer(shapes: Mapping[str, Shape], separators: str) -> dict[str, dict[str, str]]:
    """The names of each layer's arrays, by their prefix."""
    layers: dict[str, dict[str, str]] = {}
    for key in shapes:
        plain = key.removesuffix(_TENSORFLOW)
        end = max((plain.rfind(separator) + 1 for separator in separators), default=0)
        layers.setdefault(plain[:end], {})[plain[end:]] = key
    return layers


def _named(
    name: str, before: str, keys: dict[str, str], shapes: Mapping[str, Shape]
) -> Theirs | None:
    """A layer by the names in their code."""
    diagonals = [name for name in DIAGONALS if name in keys]
    framework = next((code for code, kernel in KERNELS.items() if kernel in keys), None)
    has_depthwise = len(shapes[keys["D"]]) == 3 if "D" in keys else False
    if not has_depthwise and not diagonals:
        return _without_depthwise(name, before, framework, keys, shapes)
    stored = [role for role in (*KERNELS.values(), "D", *DIAGONALS) if role in keys]
    expected = [KERNELS[framework or "torch"], "D", *diagonals[:1]]
    checks.layer_keys(name, expected, stored)
    roles = {"weight": keys[expected[0]], "delta": keys["D"]}
    if diagonals:
        roles["diagonal"] = keys[diagonals[0]]
    return _with_our_names(name, before, framework or "torch", roles, keys)


def _without_depthwise(
    name: str,
    before: str,
    framework: str | None,
    keys: dict[str, str],
    shapes: Mapping[str, Shape],
) -> Theirs | None:
    """A layer with a 1 x 1 kernel, or a folded one.

    In Gluon both are plain layers under their own names, and so is a folded one in TensorFlow.
    """
    if framework not in ("torch", "tensorflow"):
        return None
    # Layers of other libraries may have a W among other arrays. A bare layer has no group of its
    # own, so anything may stand beside it.
    if before and set(keys) - {KERNELS[framework], "bias"}:
        return None
    kernel = keys[KERNELS[framework]]
    is_folded = framework == "torch" and len(shapes[kernel]) == 4
    if not is_folded and not _is_pointwise(name, framework, shapes[kernel]):
        return None
    return _with_our_names(name, before, framework, {"weight": kernel}, keys)


def _is_pointwise(name: str, framework: str, kernel: Shape) -> bool:
    """True if a kernel has a single slot, and is not named as a 1-D convolution of Keras."""
    if len(kernel) != 3 or kernel[2 if framework == "torch" else 0] != 1:
        return False
    return framework == "torch" or not is_of_another_class(name)


def _with_our_names(
    name: str, before: str, framework: str, roles: dict[str, str], keys: dict[str, str]
) -> Theirs:
    if "bias" in keys:
        roles["bias"] = keys["bias"]
    weight = "kernel" if framework == "tensorflow" else "weight"
    ending = _TENSORFLOW if roles["weight"].endswith(_TENSORFLOW) else ""
    ours = {"weight": f"{before}{weight}{ending}", "delta": f"{before}{DELTA}{ending}"}
    if before.endswith("vars/"):
        name, ours = name.removesuffix("vars").rstrip("/"), _keras_names(before)
    return Theirs(name, framework, roles, {**ours, "bias": ours.get("bias", keys.get("bias", ""))})


def _keras_names(before: str) -> dict[str, str]:
    """The names in a `.weights.h5` file, where Keras counts a layer's variables."""
    return {"weight": f"{before}0", "bias": f"{before}1", "delta": f"{before}{DELTA}"}


def _numbered(
    name: str, before: str, keys: dict[str, str], shapes: Mapping[str, Shape]
) -> Theirs | None:
    """A layer in a `.weights.h5` file: W, a D that fits unless it is pointwise, perhaps a bias."""
    counted = [str(count) for count in range(len(keys))]
    if not before.endswith("vars/") or list(keys) != counted or len(keys) > 3:
        return None
    kernel, *rest = keys.values()
    depthwise = [key for key in rest if len(shapes[key]) == 3]
    bias = [key for key in rest if len(shapes[key]) == 1]
    if len(depthwise) > 1 or len(bias) > 1 or len(depthwise + bias) < len(rest):
        return None
    layer = name.removesuffix("vars").rstrip("/")
    roles = {"weight": kernel, **dict(zip(["bias"], bias, strict=False))}
    if depthwise:
        roles["delta"] = depthwise[0]
        if len(shapes[kernel]) != 3 or shapes[kernel][0] != shapes[depthwise[0]][1]:
            return None
    elif not _is_pointwise(layer, "tensorflow", shapes[kernel]) or not (
        # An array of such a shape may be something else, such as the embedding of positions.
        is_of_class_do_conv2d(layer) or [shapes[key] for key in bias] == [shapes[kernel][2:]]
    ):
        return None
    return Theirs(layer, "tensorflow", roles, _keras_names(before))


def in_weight_names(
    groups: Mapping[str, dict[str, Any]], layers: list[Theirs]
) -> Iterator[tuple[str, list[bytes]]]:
    """The array names that older Keras files store with a group, with our names for the authors'.

    They are in the order of our layer's variables: W, the bias, D'.
    """
    for group, attributes in groups.items():
        if "weight_names" not in attributes:
            continue
        before = f"{group}/" if group else ""
        names = [_text(name) for name in attributes["weight_names"][0]]
        for layer in layers:
            theirs = {key.removeprefix(before) for key in layer.keys.values()}
            places = [place for place, name in enumerate(names) if name in theirs]
            if places:
                ours = [
                    layer.ours[role] for role in ("weight", "bias", "delta") if role in layer.keys
                ]
                kept = [name for name in names[places[0] :] if name not in theirs]
                renamed = [key.removeprefix(before) for key in ours]
                names = [*names[: places[0]], *renamed, *kept]
        yield group, [name.encode() for name in names]


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
