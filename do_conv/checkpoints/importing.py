"""Importing the original authors' checkpoints: our names and arrays, for the same framework."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from do_conv.checkpoints import authors, authors_names, checks, formats, prefixes
from do_conv.checkpoints.authors import Imported
from do_conv.checkpoints.authors_names import Theirs
from do_conv.checkpoints.folding import numbers
from do_conv.checkpoints.formats import Checkpoint, Format
from do_conv.checkpoints.keras_names import KERAS
from do_conv.checkpoints.layers import TORCH
from do_conv.checkpoints.report import Layer, Report
from do_conv.core.spec import Shape
from do_conv.names import known_name

SQUARE = "taken as square: the file holds how many positions its kernel has, not its sides"
PADDING = (
    "not square: with a padding_mode other than zeros, their layer pads the height by the second "
    "number of padding and the width by the first; give ours the two in the other order"
)

# A size for every layer with so many positions, or sizes by the layers' names.
KernelSize = tuple[int, int] | Mapping[str, tuple[int, int]] | None


def import_authors(
    source: str | Path,
    target: str | Path,
    *,
    kernel_size: KernelSize = None,
    strip_prefix: str | Sequence[str] = (),
    check_finite: bool = True,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Write a checkpoint for our layers, given one of the original authors'.

    The outputs are the same. The report's notes say what there is to know of which layers.

    Args:
        source: a `.pt`, `.pth`, `.safetensors`, `.h5`, `.weights.h5`, `.params` or `.npz` file.
        target: the file to write, of the same ending.
        kernel_size: K of the layers whose files hold only |K|, those of PyTorch and TensorFlow:
            for every layer it fits, or by the layers' new names; others are taken as square.
        strip_prefix: what is taken from the beginning of names, such as "module.", or several
            prefixes, one after the other; not in a Keras file, whose names are the model's.
        check_finite: False imports parameters that hold NaN or infinity, too.
        advance: is called with the number of layers that are imported, and of all.

    Returns:
        what was done.

    Raises:
        DOConvError: if a file breaks a rule; then nothing is written.
        MissingFrameworkError: if what reads the format is not installed.
    """
    source, target = Path(source), Path(target)
    format = formats.for_both(source, target, formats.IMPORTED)
    checkpoint = formats.read(format, source)
    tensors, before = numbers(checkpoint, format)
    report = Report(str(source), str(target), numbers_before=before)
    checks.strippable_names(source.name, not strip_prefix or format.NAMING.can_strip)
    for prefix in [strip_prefix] if isinstance(strip_prefix, str) else strip_prefix:
        prefixes.strip(checkpoint.states, prefix)
    separators = format.NAMING.authors_separators
    layers = [
        (state, theirs)
        for state in checkpoint.states
        for theirs in authors_names.found(_shapes(state, format), separators)
    ]
    checks.authors_in_file(len(layers), str(source))
    if isinstance(kernel_size, Mapping):
        for name in kernel_size:
            named = [theirs.name for _, theirs in layers]
            known_name("layer named in kernel_size", name, named)
    for state, theirs in layers:
        report.layers.append(_import_layer(state, theirs, format, kernel_size, check_finite))
        advance(len(report.layers), len(layers))
    if kernel_size is not None and not isinstance(kernel_size, Mapping):
        areas = sorted({math.prod(layer.kernel_size) for layer in report.layers})
        checks.fitting_kernel_size(kernel_size, areas)
    _note_names(checkpoint, [theirs for _, theirs in layers])
    report.passed = tensors - sum(len(theirs.keys) for _, theirs in layers)
    report.numbers_after = numbers(checkpoint, format)[1]
    formats.write(format, target, checkpoint)
    return report


def _shapes(state: dict[str, Any], format: Format) -> dict[str, Shape]:
    shapes = {name: format.shape(tensor) for name, tensor in state.items() if isinstance(name, str)}
    return {name: shape for name, shape in shapes.items() if shape is not None}


def _note_names(checkpoint: Checkpoint, layers: list[Theirs]) -> None:
    """Older Keras files note the names of their arrays."""
    groups = checkpoint.rest if isinstance(checkpoint.rest, dict) else {}
    noted = {name: one for name, one in groups.items() if isinstance(one, dict)}
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
    """Put our arrays in the place of a layer's."""
    tensors = {role: state[key] for role, key in theirs.keys.items()}
    arrays = {}
    for role, tensor in tensors.items():
        array = format.array(tensor)
        if array is None:
            dtype = getattr(tensor, "dtype", type(tensor).__name__)
            checks.layer_dtype(theirs.name, f"{theirs.keys[role]} of dtype {dtype}")
        arrays[role] = array
    _check_shapes(theirs, arrays)
    naming = KERAS if theirs.framework == "tensorflow" else TORCH
    imported, notes = _imported(theirs, arrays, kernel_size)
    ours = {"weight": naming.weight_from_core(imported.weight)}
    if imported.delta is not None:
        ours["delta"] = naming.delta_from_core(imported.delta)
    made = {role: format.tensor(array, tensors[role]) for role, array in ours.items()}
    for role, tensor in {**made, **{k: v for k, v in tensors.items() if k == "bias"}}.items():
        array = format.array(tensor)
        assert array is not None
        is_finite = not check_finite or bool(np.isfinite(array).all())
        checks.layer_finite(theirs.name, role, is_finite)
        made[role] = tensor
    _replace(state, theirs, made)
    spec, told = imported.spec, tuple(filter(None, notes))
    if imported.delta is None:
        return Layer(theirs.name, "plain", spec.kernel_size, notes=told)
    return Layer(theirs.name, "over-parameterized", spec.kernel_size, spec.groups, spec.d_mul, told)


def _check_shapes(theirs: Theirs, arrays: dict[str, np.ndarray]) -> None:
    """Refuse arrays that are not of one layer."""
    shapes = {role: array.shape for role, array in arrays.items()}
    weight, delta = shapes["weight"], shapes.get("delta", ())
    rank = 4 if theirs.framework == "gluon" else 3
    if (delta and len(weight) != rank) or 0 in weight + delta:
        checks.layer_shapes(theirs.name, shapes)
    if theirs.framework == "tensorflow":
        slots, per_group, outputs = weight
    else:
        outputs, per_group, slots = *weight[:2], math.prod(weight[2:])
    if delta:
        channels, own = (
            (delta[0], delta[2]) if theirs.framework == "torch" else (delta[2], delta[1])
        )
        area = delta[1] if theirs.framework == "torch" else delta[0]
        groups = channels // per_group
        fits = own == slots and channels == groups * per_group and groups and not outputs % groups
        if theirs.framework == "gluon":
            fits = fits and area == slots
        if not fits or shapes.get("diagonal", delta) != delta:
            checks.layer_shapes(theirs.name, shapes)
    if shapes.get("bias", (outputs,)) != (outputs,):
        checks.layer_shapes(theirs.name, shapes)


def _imported(
    theirs: Theirs, arrays: dict[str, np.ndarray], kernel_size: KernelSize
) -> tuple[Imported, list[str]]:
    """W and D' in the core's order, and what there is to tell."""
    weight, delta = arrays["weight"], arrays.get("delta")
    if delta is None:
        in_order = weight.T if theirs.framework == "tensorflow" else weight
        imported = authors.without_depthwise(in_order)
        return imported, [imported.note, _padding_note(theirs, imported.spec.kernel_size)]
    wide = np.promote_types(weight.dtype, delta.dtype)
    weight, delta = weight.astype(wide, copy=False), delta.astype(wide, copy=False)
    diagonal, note = arrays.get("diagonal"), ""
    if theirs.framework == "gluon":
        sides = weight.shape[2:]
        weight = weight.reshape(*weight.shape[:2], -1).transpose(2, 1, 0)
    else:
        area = delta.shape[1 if theirs.framework == "torch" else 0]
        sides, note = _sides(theirs.name, area, kernel_size)
    make = authors.from_torch if theirs.framework == "torch" else authors.from_tensorflow
    with np.errstate(all="ignore"):  # what NumPy would warn of is refused, if it is to be
        imported = make(weight, delta, diagonal, sides)
    return imported, [imported.note, note, _padding_note(theirs, sides)]


def _padding_note(theirs: Theirs, sides: Shape) -> str:
    """What there is to tell where padding is likely to be unequal; no file has the padding."""
    return PADDING if theirs.framework == "torch" and len({*sides}) > 1 else ""


def _sides(layer: str, area: int, kernel_size: KernelSize) -> tuple[Shape, str]:
    """The kernel's size, and what there is to tell of it."""
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


def _replace(state: dict[str, Any], theirs: Theirs, made: dict[str, Any]) -> None:
    """Put arrays where the first of the layer's stood, in the order of the dict."""
    named = {theirs.ours[role]: made[role] for role in ("weight", "delta", "bias") if role in made}
    replaced = set(theirs.keys.values())
    checks.free_names(theirs.name, (set(named) - replaced) & set(state))
    entries = list(state.items())
    state.clear()
    for key, tensor in entries:
        if key not in replaced:
            state[key] = tensor
        else:
            state.update(named)
            named = {}
