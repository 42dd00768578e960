"""What D did to each kernel of a checkpoint (Figure 6 of the paper)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from do_conv.checkpoints import checks, folding, formats, layers
from do_conv.core.composition import kernel_change


def kernel_changes(source: str | Path) -> dict[str, np.ndarray]:
    """`do_conv.core.composition.kernel_change` of each over-parameterized layer of a file.

    Args:
        source: a `.pt`, `.pth`, `.safetensors`, `.weights.h5` or `.params` file.

    Returns:
        by the layer's name, in the file's order, an array of the kernel's shape.

    Raises:
        DOConvError: if the file breaks a rule, or has no such layer.
        MissingFrameworkError: if what reads the format is not installed.
    """
    source = Path(source)
    format = formats.of(source, formats.FOLDED)
    changes = {}
    for state in formats.read(format, source).states:
        for stored in folding.found_in(state, format):
            if stored.kind == "separable":
                continue  # there is no kernel without its D
            arrays = folding.core_arrays(state, stored, format)
            spec = layers.spec_of(stored, {role: array.shape for role, array in arrays.items()})
            wide = {role: array.astype("float64") for role, array in arrays.items()}
            checks.layer_finite(stored.name, "weight and D", all(map(_is_finite, wide.values())))
            changes[stored.name] = kernel_change(wide["weight"], wide["delta"], spec.groups)
    checks.drawn_in_file(len(changes), str(source))
    return changes


def _is_finite(array: np.ndarray) -> bool:
    return bool(np.isfinite(array).all())
