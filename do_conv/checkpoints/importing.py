"""Importing the original authors' checkpoints: our names and arrays, for the same framework."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from do_conv.checkpoints import authors, authors_names, checks, formats, prefixes, states
from do_conv.checkpoints.authors import Imported
from do_conv.checkpoints.authors_names import Theirs
from do_conv.checkpoints.formats import Checkpoint, Format
from do_conv.checkpoints.keras_names import KERAS
from do_conv.checkpoints.layers import TORCH
from do_conv.checkpoints.report import Layer, Report
from do_conv.core import rules
from do_conv.core.errors import broken
from do_conv.core.spec import Shape

SQUARE = "taken as square: the file holds how many positions its kernel has, not its sides"
PADDING = (
    "not square: with a padding_mode other than zeros, their layer pads the height by the second "
    "number of padding and the width by the first; give ours the two in the other order"
)

# One size for all layers with that |K|, or sizes by the names of layers.
KernelSize = tuple[int, int] | Mapping[str, tuple[int, int]] | None
_Sizes = Shape | Mapping[str, Shape] | None


def import_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    kernel_size: KernelSize = None,
    strip_prefix: str | Sequence[str] = (),
    check_finite: bool = True,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Write a checkpoint for our layers, given one of the original authors'.

    The arguments are those of `do_conv.checkpoints.import_authors`.
    """
    source, target = Path(source), Path(target)
    format = formats.for_both(source, target, formats.IMPORTED)
    checkpoint = formats.read(format, source)
    tensors, before = states.numbers(checkpoint, format)
    report = Report(str(source), str(target), numbers_before=before)
    strip(checkpoint, format, source, strip_prefix)
    layers = authors_layers(checkpoint, format, source)
    if isinstance(kernel_size, Mapping):
        for name in kernel_size:
            named = [theirs.name for _, theirs in layers]
            rules.known_name("layer in kernel_size", name, named)
    for state, theirs in layers:
        report.layers.append(_import_layer(state, theirs, format, kernel_size, check_finite))
        advance(len(report.layers), len(layers))
    if kernel_size is not None and not isinstance(kernel_size, Mapping):
        areas = sorted({math.prod(layer.kernel_size) for layer in report.layers})
        if math.prod(kernel_size) not in areas:
            raise broken(
                f"a kernel_size must have as many positions as a layer's kernel, one of {areas}",
                f"kernel_size={tuple(kernel_size)} with {math.prod(kernel_size)}",
                "leave it out for square kernels, or check the sides",
            )
    _note_names(checkpoint, [theirs for _, theirs in layers])
    report.passed = tensors - sum(len(theirs.keys) for _, theirs in layers)
    report.numbers_after = states.numbers(checkpoint, format)[1]
    formats.write(format, target, checkpoint)
    return report


def strip(
    checkpoint: Checkpoint, format: Format, source: Path, strip_prefix: str | Sequence[str]
) -> None:
    """Take prefixes from the names of a checkpoint, in place.

    Raises:
        DOConvError: if the names of the format have none, or not this one.
    """
    if strip_prefix and not format.NAMING.can_strip:
        raise broken(
            "a prefix can be stripped from names that stand alone, not from a Keras file's groups",
            source.name,
            "load the file into a model whose layers have its names",
        )
    for prefix in [strip_prefix] if isinstance(strip_prefix, str) else strip_prefix:
        prefixes.strip(checkpoint.states, prefix)


def authors_layers(
    checkpoint: Checkpoint, format: Format, source: Path
) -> list[tuple[dict[str, Any], Theirs]]:
    """The authors' layers of a checkpoint, each with the state it is in.

    Raises:
        DOConvError: if it holds none.
    """
    separators = format.NAMING.authors_separators
    layers = [
        (state, theirs)
        for state in checkpoint.states
        for theirs in authors_names.layers_among(states.shapes(state, format), separators)
    ]
    if not layers:
        raise broken(
            "a checkpoint to import must hold a layer of the original authors: a W, or a weight or "
            "kernel with a D",
            f"{source} without one",
            "use it as it is if it is plain, or of do_conv's layers",
        )
    return layers


def _note_names(checkpoint: Checkpoint, layers: list[Theirs]) -> None:
    """Rename the arrays in the lists of names that older Keras files store."""
    groups = checkpoint.rest if isinstance(checkpoint.rest, dict) else {}
    noted = {name: notes for name, notes in groups.items() if isinstance(notes, dict)}
    for group, names in list(authors_names.in_weight_names(noted, layers)):
        value = np.array(names)
        noted[group]["weight_names"] = (value, value.shape, value.dtype)


def _import_layer(
    state: dict[str, Any],
    theirs: Theirs,
    format: Format,
    kernel_size: KernelSize,
    check_finite: bool,
) -> Layer:
    """Replace a layer's arrays with W and D'."""
    tensors = {role: state[key] for role, key in theirs.keys.items()}
    arrays = {
        role: states.array(state, key, theirs.name, format) for role, key in theirs.keys.items()
    }
    naming = KERAS if theirs.framework == "tensorflow" else TORCH
    imported, notes = from_theirs(theirs, arrays, kernel_size)
    ours = {"weight": naming.weight_from_core(imported.weight)}
    if imported.delta is not None:
        ours["delta"] = naming.delta_from_core(imported.delta)
    made = {role: format.tensor(array, tensors[role]) for role, array in ours.items()}
    if "bias" in tensors:
        made["bias"] = tensors["bias"]
    if check_finite:
        for role, tensor in made.items():
            states.check_finite(tensor, theirs.name, naming.shown(role), format)
    named = {theirs.ours[role]: tensor for role, tensor in made.items()}
    states.replace(state, theirs.name, set(theirs.keys.values()), named)
    spec, told = imported.spec, tuple(filter(None, notes))
    if imported.delta is None:
        return Layer(theirs.name, "plain", spec.kernel_size, notes=told)
    return Layer(theirs.name, "over-parameterized", spec.kernel_size, spec.groups, spec.d_mul, told)


def _in_one_order(theirs: Theirs, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of any of the authors' code with the axes of their PyTorch code.

    These are W `(C_out, C_in/G, D_mul)` and D `(C_in, |K|, D_mul)`.

    Raises:
        DOConvError: if the arrays are not of one layer.
    """
    shapes = {role: array.shape for role, array in arrays.items()}
    shown = {theirs.keys[role]: shape for role, shape in shapes.items()}
    weight, delta = shapes["weight"], shapes.get("delta", ())
    ranks = (4 if theirs.framework == "gluon" else 3, 3)
    fits = "delta" not in shapes or (len(weight), len(delta)) == ranks
    if not fits or 0 in weight + delta or shapes.get("diagonal", delta) != delta:
        checks.layer_shapes(theirs.name, shown)
    ordered = dict(arrays)
    if theirs.framework == "tensorflow":
        ordered["weight"] = arrays["weight"].transpose(2, 1, 0)
    elif theirs.framework == "gluon":
        ordered["weight"] = arrays["weight"].reshape(*weight[:2], -1)
    if theirs.framework != "torch":
        for role in ordered.keys() & {"delta", "diagonal"}:
            ordered[role] = arrays[role].transpose(2, 0, 1)
    outputs, group_channels = ordered["weight"].shape[:2]
    fits = shapes.get("bias", (outputs,)) == (outputs,)
    if delta:
        channels, area, slots = ordered["delta"].shape
        groups = channels // group_channels
        fits = fits and groups > 0 and not channels % group_channels and not outputs % groups
        fits = fits and slots == ordered["weight"].shape[2]
        fits = fits and (theirs.framework != "gluon" or area == slots)
    if not fits:
        checks.layer_shapes(theirs.name, shown)
    return ordered


def from_theirs(
    theirs: Theirs, arrays: dict[str, np.ndarray], kernel_size: _Sizes
) -> tuple[Imported, list[str]]:
    """W and D' in the core's order, and notes for the report.

    Raises:
        DOConvError: if the arrays are not of one layer, or no sides of its kernel fit.
    """
    ordered = _in_one_order(theirs, arrays)
    weight, delta = ordered["weight"], ordered.get("delta")
    if delta is None:
        given = kernel_size.get(theirs.name) if isinstance(kernel_size, Mapping) else None
        imported = authors.without_depthwise(weight, 2 if given is None else len(given))
        return imported, [imported.note, _padding_note(theirs, imported.spec.kernel_size)]
    wide = np.promote_types(weight.dtype, delta.dtype)
    weight, delta = weight.astype(wide, copy=False), delta.astype(wide, copy=False)
    if theirs.framework == "gluon":
        sides, note = arrays["weight"].shape[2:], ""
    else:
        sides, note = _sides(theirs.name, delta.shape[1], kernel_size)
    make = authors.from_torch if theirs.framework == "torch" else authors.from_tensorflow
    with np.errstate(all="ignore"):  # NaN and infinity are checked later
        imported = make(weight, delta, ordered.get("diagonal"), sides)
    return imported, [imported.note, note, _padding_note(theirs, sides)]


def _padding_note(theirs: Theirs, sides: Shape) -> str:
    """The note for kernels whose padding is likely to be unequal; no file has the padding."""
    return PADDING if theirs.framework == "torch" and len({*sides}) > 1 else ""


def _sides(layer: str, area: int, kernel_size: _Sizes) -> tuple[Shape, str]:
    """The kernel's size, and a note for the report."""
    if isinstance(kernel_size, Mapping):
        given = kernel_size.get(layer)
        if given is not None and math.prod(given) != area:
            checks.known_kernel_size(layer, area, given)
    else:
        given = kernel_size if kernel_size and math.prod(kernel_size) == area else None
    if given is not None:
        return tuple(given), ""
    side = math.isqrt(area)
    if side * side != area:
        checks.known_kernel_size(layer, area, None)
    return (side, side), SQUARE
