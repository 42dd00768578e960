"""The change that D made to each kernel of a checkpoint (Figure 6 of the paper)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from do_conv.checkpoints import checks, folding, formats, layers
from do_conv.core.composition import kernel_change
from do_conv.core.errors import broken


def kernel_changes(source: str | Path) -> dict[str, np.ndarray]:
    """`do_conv.core.composition.kernel_change` of each over-parameterized layer of a file.

    Args:
        source: a `.pt`, `.pth`, `.safetensors`, `.weights.h5`, `.keras`, `.params` or `.states`
            file; with W and D' of layers, or of a `DOConvOptimizer` or `DOConvTrainer`.

    Returns:
        by the layer's name, in the file's order, an array of the kernel's shape.

    Raises:
        DOConvError: if the file breaks a rule, or has no such layer.
        MissingFrameworkError: if what reads the format is not installed.
    """
    source = Path(source)
    format = formats.of(source, formats.DRAWN)
    changes = {}
    checkpoint = formats.read(format, source)
    for state in (*checkpoint.states, *checkpoint.kernels):
        for stored in folding.layers_in(state, format):
            if stored.kind == "separable":
                continue  # a kernel cannot be composed without its D
            arrays = folding.core_arrays(state, stored, format)
            spec = layers.spec_of(stored, {role: array.shape for role, array in arrays.items()})
            wide = {role: array.astype("float64") for role, array in arrays.items()}
            checks.layer_to_draw_finite(
                stored.name, "weight and D", all(map(_is_finite, wide.values()))
            )
            changes[stored.name] = kernel_change(wide["weight"], wide["delta"], spec.groups)
    if not changes:
        raise broken(
            "a checkpoint to draw must hold W and D' of do_conv, in layers or in an optimizer",
            f"{source} without one",
            "give the checkpoint as it was before folding, or import it first if it is of the "
            "original authors' layers",
        )
    return changes


def _is_finite(array: np.ndarray) -> bool:
    return bool(np.isfinite(array).all())
