"""Folding a checkpoint file: the plain network's file, without the model's code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from do_conv.checkpoints import checks, formats, keras_names, layers, neutral, states
from do_conv.checkpoints.formats import Checkpoint, Format
from do_conv.checkpoints.layers import Stored
from do_conv.checkpoints.report import Layer, Report
from do_conv.core.errors import broken
from do_conv.core.spec import Spec


def fold(
    source: str | Path,
    target: str | Path,
    *,
    check_finite: bool = True,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Write the plain network's checkpoint; other tensors do not change.

    Args:
        source: a `.pt`, `.pth`, `.safetensors`, `.weights.h5` or `.params` file.
        target: the file to write, of the same ending.
        check_finite: False folds parameters that hold NaN or infinity, too.
        advance: is called with the number of layers that are folded, and of all.

    Returns:
        the report.

    Raises:
        DOConvError: if a file breaks a rule; then nothing is written.
        MissingFrameworkError: if what reads the format is not installed.
    """
    source, target = Path(source), Path(target)
    format = formats.for_both(source, target, formats.FOLDED)
    checkpoint = formats.read(format, source)
    described = _described(checkpoint, source)
    tensors, before = states.numbers(checkpoint, format)
    report = Report(str(source), str(target), numbers_before=before)
    ours = [(state, list(layers_in(state, format))) for state in checkpoint.states]
    renamed = _plain_groups(checkpoint, format)
    total = sum(len(stored) for _, stored in ours)
    for state, stored_layers in ours:
        plain: dict[Any, dict[str, Any]] = {}
        for stored in stored_layers:
            layer = _fold_layer(state, stored, format, plain, check_finite)
            tensors -= len(stored.keys)
            report.layers.append(layer)
            advance(len(report.layers), total)
    report.layers += _rename(checkpoint, renamed, report.layers)
    if not report.layers:
        raise broken(
            "a checkpoint to fold must hold a layer of do_conv",
            f"{source} without one",
            "use it as it is, or import it first if it is of the original authors' layers",
        )
    if described is not None:
        table = neutral.folded(described, checkpoint.states[0])
        checkpoint.rest = {**checkpoint.rest, **neutral.metadata(table)}
    report.passed = tensors
    report.numbers_after = states.numbers(checkpoint, format)[1]
    formats.write(format, target, checkpoint)
    return report


def _described(checkpoint: Checkpoint, source: Path) -> dict[str, neutral.Description] | None:
    """The layers that a neutral file describes; None for any other."""
    if not neutral.is_neutral(checkpoint.rest):
        return None
    described = neutral.described(checkpoint.rest, str(source))
    neutral.Neutral(checkpoint.states[0], described).check()
    return described


def layers_in(state: dict[str, Any], format: Format) -> Iterator[Stored]:
    """The layers with a D in a state.

    Raises:
        DOConvError: if an array of one is missing, or there are too many.
    """
    return format.NAMING.layers_among(states.shapes(state, format))


def _plain_groups(checkpoint: Checkpoint, format: Format) -> dict[str, str]:
    """The names that the groups of our layers have in the plain model's file."""
    shapes: dict[str, tuple[int, ...]] = {}
    for state in checkpoint.states:
        shapes |= states.shapes(state, format)
    return format.NAMING.plain_groups(checkpoint.rest, shapes)


def _rename(checkpoint: Checkpoint, renamed: dict[str, str], folded: list[Layer]) -> list[Layer]:
    """Give Keras's groups their plain names; return the layers that had nothing else to fold."""
    if renamed:
        for named in (checkpoint.rest, *checkpoint.states):
            keras_names.renamed_all(named, renamed)
    known = {layer.name for layer in folded}
    return [
        Layer(name, "separable" if "separable" in name.rpartition("/")[2] else "plain")
        for name in renamed
        if name not in known
    ]


def core_arrays(state: dict[str, Any], stored: Stored, format: Format) -> dict[str, np.ndarray]:
    """A layer's `weight`, `delta` and perhaps `bias` in the core's order of axes.

    Raises:
        DOConvError: if one is not of a floating-point dtype, or has too few axes.
    """
    arrays = {
        role: states.array(state, key, stored.name, format) for role, key in stored.keys.items()
    }
    if min(arrays["weight"].ndim, arrays["delta"].ndim) < 3:
        checks.layer_shapes(stored.name, {role: array.shape for role, array in arrays.items()})
    arrays["weight"] = format.NAMING.weight_to_core(arrays["weight"])
    arrays["delta"] = format.NAMING.delta_to_core(arrays["delta"])
    return arrays


def _fold_layer(
    state: dict[str, Any],
    stored: Stored,
    format: Format,
    plain: dict[Any, dict[str, Any]],
    check_finite: bool,
) -> Layer:
    """Replace a layer's arrays with those of the plain layer.

    `plain` keeps the kernels of the layers before: layers that share their arrays share them.
    """
    tensors = {role: state[key] for role, key in stored.keys.items()}
    arrays = core_arrays(state, stored, format)
    spec = layers.spec_of(stored, {role: array.shape for role, array in arrays.items()})
    tied = (stored.kind, *(format.identity(tensors[role]) for role in ("weight", "delta")))
    if tied not in plain:
        plain[tied] = _plain_kernels(stored, arrays, tensors, spec, format)
    made = dict(plain[tied])
    if check_finite:
        for tensor in made.values():
            states.check_finite(tensor, stored.name, "composed kernel", format)
    if "bias" in tensors:
        made["bias"] = tensors["bias"]
        if check_finite:
            states.check_finite(made["bias"], stored.name, "bias", format)
    named = {stored.plain[role]: tensor for role, tensor in made.items()}
    states.replace(state, stored.name, set(stored.keys.values()), named)
    return Layer(stored.name, stored.kind, spec.kernel_size, spec.groups, spec.d_mul)


def _plain_kernels(
    stored: Stored,
    arrays: dict[str, np.ndarray],
    tensors: dict[str, Any],
    spec: Spec,
    format: Format,
) -> dict[str, Any]:
    """The plain layer's kernels, each in the dtype of the tensor it comes from."""
    wide = np.promote_types(arrays["weight"].dtype, arrays["delta"].dtype)
    in_wide = {role: array.astype(wide, copy=False) for role, array in arrays.items()}
    return {
        role: format.tensor(
            format.NAMING.weight_from_core(array),
            tensors["delta" if role == "depthwise" else "weight"],
        )
        for role, array in layers.plain_arrays(stored, in_wide, spec).items()
    }
