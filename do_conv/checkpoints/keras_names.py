"""Our layers in a Keras weights file, and the names of the plain ones.

A layer that is an attribute of a model or layer is stored under the attribute's name. One in a list
(a Sequential or Functional model's layers, too) is stored under its class's name and a count:
`do_conv2d`, `do_conv2d_1`. The plain model's file counts all layers of the plain class together.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from do_conv.checkpoints import checks
from do_conv.checkpoints.layers import DELTA, Naming, Stored
from do_conv.core import layouts
from do_conv.core.errors import broken
from do_conv.core.spec import Shape

_KINDS = r"conv[123]d(?:_transpose)?|depthwise_conv2d"
_CLASSES = re.compile(
    rf"(?:do_(?P<kind>{_KINDS}|separable_conv[12]d)|depthwise_(?P<separable>separable_conv[12]d)"
    rf"|(?P<plain>{_KINDS}|separable_conv[12]d))(?P<count>(?:_\d+)?)"
)

_ROLES = {
    "kernel": "weight", "depthwise_kernel": "weight", "pointwise_kernel": "weight",
    "gamma": "weight", "beta": "bias",
    "alpha": "weight", "moving_mean": "running_mean", "moving_variance": "running_var",
}  # fmt: skip


def is_of_class_do_conv2d(path: str) -> bool:
    """True if a layer has the name that Keras makes of the class `DOConv2D`."""
    match = _CLASSES.fullmatch(path.rpartition("/")[2])
    return match is not None and match["kind"] == "conv2d"


def is_of_another_class(path: str) -> bool:
    """True if a layer has the name that Keras makes of another class of convolutions."""
    match = _CLASSES.fullmatch(path.rpartition("/")[2])
    return match is not None and match["kind"] != "conv2d"


def plain_groups(groups: Collection[str], shapes: Mapping[str, Shape]) -> dict[str, str]:
    """The groups of our layers in lists of layers, and what each is called in the plain file.

    Args:
        groups: the paths of all groups.
        shapes: the shapes of all arrays, by their paths.

    Raises:
        DOConvError: if plain layers of the same class are counted with ours, whose order the file
            does not tell.
    """
    renamed: dict[str, str] = {}
    for parent in sorted(groups):
        if _is_layer(parent, groups):
            continue  # members are named after attributes, not classes
        ours: dict[str, list[str]] = {}
        plain: dict[str, list[str]] = {}
        for child in filter(lambda path: _is_layer(path, groups), _children(parent, groups)):
            match = _CLASSES.fullmatch(child.rpartition("/")[2])
            if match is not None:
                ours_or_plain = plain if match["plain"] else ours
                kind = match["plain"] or match["kind"] or match["separable"]
                ours_or_plain.setdefault(kind, []).append(child)
                if not match["plain"]:
                    renamed[child] = f"{_within(parent)}{kind}{match['count']}"
        for child in _counted_elsewhere(parent, groups):
            # Only its arrays tell the class of an attribute.
            is_ours = f"{child}/vars/{DELTA}" in shapes
            axes = len(shapes.get(f"{child}/vars/0", ()))
            for kind in {*ours, *plain}:
                if is_ours or axes == _rank(kind) + 2:
                    (ours if is_ours else plain).setdefault(kind, []).append(child)
        for kind, members in ours.items():
            if kind in plain:
                raise broken(
                    "layers of one plain class must be all or none of do_conv in a list of layers, "
                    "because a Keras weights file does not tell their order",
                    f"'{parent or 'the file'}' with {_few(members)} beside {_few(plain[kind])}",
                    "load it into the model, and save the plain model after "
                    "set_weights(do_conv.tf.folded_weights(model))",
                )
    return renamed


def _few(names: Collection[str], most: int = 3) -> str:
    """Names in their order, the first of them if there are many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{sorted(names)[:most]}{more}"


def _counted_elsewhere(parent: str, groups: Collection[str]) -> list[str]:
    """The layers that a list of a model's layers counts, but that are not stored in it.

    The list `layers` of a model that is neither Sequential nor Functional holds its attributes; it
    stores those alone that come after it in the alphabet.
    """
    owner, _, name = parent.rpartition("/")
    if name != "layers" or not _is_layer(owner, groups):
        return []
    layers, lists = [], [child for child in _children(owner, groups) if child != parent]
    while lists:
        child = lists.pop()
        if _is_layer(child, groups):
            layers.append(child)
        else:
            lists += _children(child, groups)
    return sorted(layers)


def _rank(kind: str) -> int:
    return next(int(letter) for letter in kind if letter.isdigit())


def _within(group: str) -> str:
    return f"{group}/" if group else ""


def _is_layer(group: str, groups: Collection[str]) -> bool:
    """True if a group is of a layer or a model, and not of a list."""
    return f"{_within(group)}vars" in groups


def _children(group: str, groups: Collection[str]) -> list[str]:
    """The groups directly in a group."""
    before = _within(group)
    return [
        path
        for path in groups
        if path and path.startswith(before) and "/" not in path.removeprefix(before)
    ]


def renamed_path(path: str, renamed: Mapping[str, str]) -> str:
    """The path in the plain file."""
    parts = path.split("/")
    for end in range(len(parts), 0, -1):
        group = "/".join(parts[:end])
        if group in renamed:
            # Only its last part is certain; the groups around it may be named differently.
            last = renamed[group].rpartition("/")[2]
            around = renamed_path("/".join(parts[: end - 1]), renamed) if end > 1 else ""
            return "/".join(filter(None, [around, last, *parts[end:]]))
    return path


def renamed_all(named: dict[str, Any], renamed: Mapping[str, str]) -> None:
    """Rename the paths of a dict in place."""
    entries = {renamed_path(path, renamed): value for path, value in named.items()}
    named.clear()
    named.update(entries)


class _KerasNaming(Naming):
    """Keras's order of axes, and its groups, whose names are made of their classes'."""

    def to_core(self, array: np.ndarray, name: str) -> np.ndarray:
        if name == "depthwise_kernel":
            return layouts.depthwise_kernel_from_keras(array)
        if name == "alpha":  # of PReLU, with axes of size 1
            return array.ravel()
        is_kernel = name in ("kernel", "pointwise_kernel")  # of a dense layer, too
        return layouts.kernel_from_keras(array) if is_kernel else array

    def weight_to_core(self, kernel: np.ndarray) -> np.ndarray:
        return layouts.kernel_from_keras(kernel)

    def delta_to_core(self, delta: np.ndarray) -> np.ndarray:
        return layouts.delta_from_keras(delta)

    def weight_from_core(self, kernel: np.ndarray) -> np.ndarray:
        return layouts.kernel_to_keras(kernel)

    def delta_from_core(self, delta: np.ndarray) -> np.ndarray:
        return layouts.delta_to_keras(delta)

    def layers_among(self, shapes: Mapping[str, Shape]) -> Iterator[Stored]:
        for name in shapes:
            if not name.endswith(f"/vars/{DELTA}") and name != f"vars/{DELTA}":
                continue
            before = name.removesuffix(DELTA)
            layer = before.removesuffix("vars/").rstrip("/")
            stored = [path.removeprefix(before) for path in shapes if path.startswith(before)]
            plain = {"weight": f"{before}0", "bias": f"{before}1"}
            keys = {"weight": plain["weight"], "delta": name}
            rest: list[str] = []
            if len(shapes.get(f"{before}1", ())) > 1:
                # A separable layer's pointwise kernel: it stays as it is, and so does the bias.
                rest = [key for key in ("1", "2") if f"{before}{key}" in shapes]
            elif plain["bias"] in shapes:
                keys["bias"] = plain["bias"]
            own = [key.removeprefix(before) for key in keys.values()]
            checks.layer_keys(layer, [*own, *rest], stored)
            yield Stored(layer, "over-parameterized", keys, plain)

    def plain_groups(self, groups: Any, shapes: Mapping[str, Shape]) -> dict[str, str]:
        return plain_groups(groups, shapes)


KERAS = _KerasNaming("/", authors_separators="/", can_strip=False, roles=_ROLES, kernel="kernel")
