"""Folding a checkpoint file: the plain network's file, without the model's code."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from do_conv.checkpoints import checks, formats, keras_names, layers, neutral
from do_conv.checkpoints.formats import Checkpoint, Format
from do_conv.checkpoints.layers import Stored
from do_conv.checkpoints.report import Layer, Report


def fold(
    source: str | Path,
    target: str | Path,
    *,
    check_finite: bool = True,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Write the plain network's checkpoint; what is not ours goes through untouched.

    Args:
        source: a `.pt`, `.pth`, `.safetensors`, `.weights.h5` or `.params` file.
        target: the file to write, of the same ending.
        check_finite: False folds parameters that hold NaN or infinity, too.
        advance: is called with the number of layers that are folded, and of all.

    Returns:
        what was done.

    Raises:
        DOConvError: if a file breaks a rule; then nothing is written.
        MissingFrameworkError: if what reads the format is not installed.
    """
    source, target = Path(source), Path(target)
    format = formats.for_both(source, target, formats.FOLDED)
    checkpoint = formats.read(format, source)
    described = _described(checkpoint, source)
    before = numbers(checkpoint, format)
    report = Report(str(source), str(target), numbers_before=before[1])
    found = [(state, found_in(state, format)) for state in checkpoint.states]
    renamed = _plain_groups(checkpoint, format)
    total = sum(len(stored) for _, stored in found)
    for state, stored in found:
        folder = Folder(state, format, check_finite)
        for one in stored:
            report.layers.append(folder.fold(one))
            advance(len(report.layers), total)
    arrays = sum(len(one.keys) for _, stored in found for one in stored)
    report.layers += _rename(checkpoint, renamed, report.layers)
    checks.ours_in_file(len(report.layers), str(source))
    if described is not None:
        table = neutral.folded(described, checkpoint.states[0])
        checkpoint.rest = {**checkpoint.rest, **neutral.metadata(table)}
    report.passed = before[0] - arrays
    report.numbers_after = numbers(checkpoint, format)[1]
    formats.write(format, target, checkpoint)
    return report


def numbers(checkpoint: Checkpoint, format: Format) -> tuple[int, int]:
    """How many named tensors there are, and how many numbers in them."""
    shapes = [format.shape(tensor) for state in checkpoint.states for tensor in state.values()]
    sizes = [math.prod(shape) for shape in shapes if shape is not None]
    return len(sizes), sum(sizes)


def _described(checkpoint: Checkpoint, source: Path) -> dict[str, neutral.Description] | None:
    """The layers that a neutral file describes; None for any other."""
    if not neutral.is_neutral(checkpoint.rest):
        return None
    described = neutral.described(checkpoint.rest, str(source))
    neutral.Neutral(checkpoint.states[0], described).check()
    return described


def found_in(state: dict[str, Any], format: Format) -> list[Stored]:
    """The layers with a D in a state.

    Raises:
        DOConvError: if an array of one is missing, or there are too many.
    """
    tensors = {
        name: shape
        for name, tensor in state.items()
        if isinstance(name, str) and (shape := format.shape(tensor)) is not None
    }
    return list(format.NAMING.found(tensors))


def _plain_groups(checkpoint: Checkpoint, format: Format) -> dict[str, str]:
    """The names that the groups of our layers have in the plain model's file."""
    shapes = {
        name: format.shape(tensor) or ()
        for state in checkpoint.states
        for name, tensor in state.items()
    }
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
    naming = format.NAMING
    to_core: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "weight": naming.weight_to_core, "delta": naming.delta_to_core, "bias": np.asarray,
    }  # fmt: skip
    arrays = {}
    for role, key in stored.keys.items():
        array = format.array(state[key])
        if array is None:
            dtype = getattr(state[key], "dtype", type(state[key]).__name__)
            checks.layer_dtype(stored.name, f"{key} of dtype {dtype}")
        if role != "bias" and array.ndim < 3:
            shapes = {r: format.shape(state[k]) or () for r, k in stored.keys.items()}
            checks.layer_shapes(stored.name, shapes)
        arrays[role] = to_core[role](array)
    return arrays


class Folder:
    """Folds layers of one state, in place."""

    def __init__(self, state: dict[str, Any], format: Format, check_finite: bool) -> None:
        self._state, self._format, self._check = state, format, check_finite
        self._naming = format.NAMING
        # Layers that share their arrays share the folded ones.
        self._done: dict[Any, dict[str, Any]] = {}

    def fold(self, stored: Stored) -> Layer:
        """Put the plain layer's arrays in the place of a layer's."""
        tensors = {role: self._state[key] for role, key in stored.keys.items()}
        arrays = core_arrays(self._state, stored, self._format)
        spec = layers.spec_of(stored, {role: array.shape for role, array in arrays.items()})
        tied = (
            stored.kind,
            *(self._format.identity(tensors[role]) for role in ("weight", "delta")),
        )
        if tied not in self._done:
            self._done[tied] = self._plain(stored, arrays, tensors, spec)
        made = dict(self._done[tied])
        if "bias" in tensors:
            checks.layer_finite(stored.name, "bias", self._is_finite(arrays["bias"]))
            made["bias"] = tensors["bias"]
        self._replace(stored, {stored.plain[role]: tensor for role, tensor in made.items()})
        return Layer(stored.name, stored.kind, spec.kernel_size, spec.groups, spec.d_mul)

    def _plain(
        self, stored: Stored, arrays: dict[str, np.ndarray], tensors: dict[str, Any], spec: Any
    ) -> dict[str, Any]:
        """The plain layer's kernels, each in the dtype of what it comes from."""
        wide = np.promote_types(arrays["weight"].dtype, arrays["delta"].dtype)
        in_wide = {role: array.astype(wide, copy=False) for role, array in arrays.items()}
        made = {}
        for role, array in layers.plain_arrays(stored, in_wide, spec).items():
            like = tensors["delta" if role == "depthwise" else "weight"]
            made[role] = self._format.tensor(self._naming.weight_from_core(array), like)
            rounded = self._format.array(made[role])
            assert rounded is not None
            checks.layer_finite(stored.name, "composed kernel", self._is_finite(rounded))
        return made

    def _is_finite(self, array: np.ndarray) -> bool:
        return not self._check or bool(np.isfinite(array).all())

    def _replace(self, stored: Stored, made: dict[str, Any]) -> None:
        """Put arrays where the first of the layer's stood, in the order of the dict."""
        replaced = set(stored.keys.values())
        checks.free_names(stored.name, (set(made) - replaced) & set(self._state))
        entries = list(self._state.items())
        self._state.clear()
        for key, tensor in entries:
            if key not in replaced:
                self._state[key] = tensor
            else:
                self._state.update(made)
                made = {}
