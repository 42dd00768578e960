"""The rules on the layers of a checkpoint that several modules use."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn

from do_conv.core.errors import broken
from do_conv.table import counted

_GO_ON = ", or go on with check_finite=False (--no-check-finite)"
_PAIR = (
    "give match='order' if both have their layers in the same order, or match={name in the file: "
    "name in the model}"
)


def layer_keys(layer: str, expected: Collection[str], found: Collection[str]) -> None:
    """A file must have every array of a layer once."""
    if set(found) != set(expected):
        raise broken(
            f"the arrays of layer '{layer}' in a checkpoint must be {sorted(expected)}",
            f"{sorted(found)}",
            "save all the parameters of one kind of layer",
        )


def layer_shapes(layer: str, shapes: Mapping[str, Sequence[int]]) -> NoReturn:
    """The shapes of a layer's arrays must match."""
    shown = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
    raise broken(
        "the shapes of a layer's arrays in a checkpoint must fit each other",
        f"layer '{layer}' with {shown}",
        "check that the checkpoint was not edited, and that all of it is from one layer",
    )


def layer_dtype(layer: str, dtype: str) -> NoReturn:
    """Kernels are composed of floating-point numbers."""
    raise broken(
        "a layer's arrays in a checkpoint must be dense floating-point arrays of 16, 32 or 64 bits",
        f"layer '{layer}' with {dtype}",
        "fold before quantising",
    )


def layer_finite(layer: str, array: str, is_finite: bool) -> None:
    """Folded kernels must be finite, also after rounding to their dtype."""
    _finite(layer, array, is_finite, "folded or imported", _GO_ON)


def layer_to_draw_finite(layer: str, array: str, is_finite: bool) -> None:
    """A change that is drawn is a share of the largest one, which must be a number."""
    _finite(layer, array, is_finite, "drawn", "")


def _finite(layer: str, array: str, is_finite: bool, use: str, remedy: str) -> None:
    if not is_finite:
        raise broken(
            f"a layer's arrays must be finite to be {use}",
            f"layer '{layer}' with NaN or infinite values in its {array}",
            f"find where training diverged{remedy}",
        )


def one_parametrization(layer: str, is_only: bool) -> None:
    """A kernel that a second parametrization computes is not in the file."""
    if not is_only:
        raise broken(
            "a parametrized weight can be folded from its file where DO-Conv is its only "
            "parametrization",
            f"layer '{layer}' with others",
            "load the model and call do_conv.torch.folded_state_dict",
        )


def known_kernel_size(layer: str, area: int, given: Sequence[int] | None) -> NoReturn:
    """The authors' files hold the number of kernel positions, not the kernel size."""
    came = "none that fits" if given is None else f"kernel_size={tuple(given)}"
    raise broken(
        f"the kernel_size of layer '{layer}' must have its {area} positions",
        came,
        f"give it by name: --kernel-size {layer}=HEIGHTxWIDTH",
    )


def neutral_file(path: str, found: Any) -> NoReturn:
    """A neutral file must have the metadata of a known version."""
    raise broken(
        "a neutral checkpoint must have the metadata format 'do_conv', version '1' and layers, "
        "a description of each",
        f"{path} with {found}",
        "write it with do_conv.checkpoints.save",
    )


def paired_names(only_file: Sequence[str], only_model: Sequence[str], remedy: str = _PAIR) -> None:
    """The file and the model must have the same layers."""
    if only_file or only_model:
        raise broken(
            "the layers of a file and of the model that takes them must be the same, by name",
            f"{listed(only_file)} only in the file, {listed(only_model)} only in the model",
            remedy,
        )


def as_many_layers(there: int, here: int, remedy: str) -> None:
    """Layers of a file and a model are paired in order only if each has a partner."""
    if there != here:
        raise broken(
            "a file and the model that takes it must have the same number of layers to pair them "
            "in order",
            f"{counted(there, 'layer')} in the file and {counted(here, 'layer')} in the model",
            remedy,
        )


def same_layer(layer: str, own: str, what: str, there: Any, here: Any, fits: bool) -> None:
    """A layer of a file must match the model's layer that takes its arrays."""
    if not fits:
        raise broken(
            f"layer '{layer}' of a file and layer '{own}' of the model must have the same {what}",
            f"{there} in the file, {here} in the model",
            "make the model's layer like the file's, or pair it with another",
        )


def listed(names: Sequence[str], most: int = 5) -> str:
    """Names for a message, the first of them if there are many."""
    shown = ", ".join(f"'{name}'" for name in names[:most]) or "none"
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
