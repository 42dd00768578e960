"""Importing the original authors' checkpoint: into a file, or into a network."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from do_conv import frameworks
from do_conv.adapter import DELTA, Description, LayerArray, ModelLayer
from do_conv.checkpoints import checks, formats, importing, keras_order, pairing, states
from do_conv.checkpoints.authors_names import Theirs
from do_conv.checkpoints.formats import Checkpoint, Format
from do_conv.checkpoints.importing import KernelSize
from do_conv.checkpoints.keras_names import KERAS
from do_conv.checkpoints.neutral.transfer import StoredLayer, fitted, layers_of
from do_conv.checkpoints.report import Layer, Report
from do_conv.core.errors import broken
from do_conv.core.spec import Shape

# The framework of each code of the authors'.
CODES = {"torch": "torch", "tensorflow": "keras", "gluon": "gluon"}

Writes = list[tuple[LayerArray, np.ndarray]]


def import_authors(
    source: Any,
    target: str | os.PathLike[str],
    *,
    kernel_size: KernelSize = None,
    strip_prefix: str | Sequence[str] = (),
    check_finite: bool = True,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Import a checkpoint of the original authors' layers: into a file, or into a network.

    `import_authors(source, target)` writes a checkpoint for our layers. `import_authors(model,
    path)` loads the checkpoint at `path` into a PyTorch module, Keras model or Gluon block, whose
    layers may be do_conv's or plain, or into a `DOConvOptimizer` or `DOConvTrainer`; a plain layer
    takes the composed kernel. The outputs are the same. The report has notes on layers that need a
    person's attention.

    Args:
        source: a `.pt`, `.pth`, `.ckpt`, `.safetensors`, `.h5`, `.weights.h5`, `.params` or `.npz`
            file; or the network.
        target: the file to write, of the same ending; or, after a network, the file to read, which
            is no `.weights.h5` file. The layers of a `.h5` file are taken in their order, others by
            name.
        kernel_size: K of the layers whose files hold only |K|, those of PyTorch and TensorFlow:
            for every layer it fits, or by the layers' new names; others are taken as square. A
            network knows its own.
        strip_prefix: a prefix to take from names, such as "module.", or several, one after the
            other; not in a Keras file, whose names are the model's. For a network, a prefix before
            all of its names is found and removed, and arrays without it are left out.
        check_finite: False imports parameters that hold NaN or infinity, too.
        advance: is called with the number of layers that are imported, and of all.

    Returns:
        the report.

    Raises:
        DOConvError: if a file breaks a rule, or does not fit the network; then nothing is written,
            and the network is as it was.
        MissingFrameworkError: if what reads the format is not installed.
    """
    if not isinstance(target, (str, os.PathLike)):
        raise broken(
            "import_authors takes a file and the file to write, or a network and the file to read",
            f"a {type(target).__name__} as the second argument",
            "give the network first, and then the path of a checkpoint",
        )
    if isinstance(source, (str, os.PathLike)):
        return importing.import_file(
            source,
            target,
            kernel_size=kernel_size,
            strip_prefix=strip_prefix,
            check_finite=check_finite,
            advance=advance,
        )
    if kernel_size is not None:
        raise broken(
            "a network that takes a checkpoint has its own kernel_size",
            f"kernel_size={kernel_size}",
            "leave it out, and make the layers with it",
        )
    return _Loading(source, Path(target), strip_prefix, check_finite).load(advance)


@dataclass
class _Loading:
    """One checkpoint on its way into a network."""

    model: Any
    path: Path
    strip_prefix: str | Sequence[str]
    check_finite: bool

    def load(self, advance: Callable[[int, int], None]) -> Report:
        """Read, check and then write every array."""
        layers = {layer.name: layer for layer in layers_of(self.model)}
        format = formats.of(self.path, formats.IMPORTED)
        checkpoint = formats.read(format, self.path)
        report = Report(str(self.path), type(self.model).__name__)
        report.numbers_before = states.numbers(checkpoint, format)[1]
        importing.strip(checkpoint, format, self.path, self.strip_prefix)
        state, found = self._one_state(checkpoint, format)
        self._check_framework(found[0])
        if format.NAMING is KERAS:
            stored = keras_order.stored_layers(checkpoint.rest, state, self.path.name)
            pairs = pairing.by_order(stored, found, layers)
        else:
            pairs = pairing.by_name(state, found, layers, format)
        writes: Writes = []
        for own, theirs in pairs.theirs.items():
            made, entry = self._stored(state, theirs, layers[own], format)
            report.layers.append(replace(entry, name=own))
            arrays = fitted(made, theirs.name, layers[own], format.NAMING.own_shapes)
            writes += [(layers[own].arrays[role], array) for role, array in arrays.items()]
            advance(len(report.layers), len(pairs.theirs))
        for own, keys in pairs.others.items():
            plain = _plain_writes(state, keys, layers[own], format)
            report.passed += len(plain)
            writes += plain
        for array, values in writes:
            array.write(values)
        report.numbers_after = sum(values.size for _, values in writes)
        return report

    def _check_framework(self, theirs: Theirs) -> None:
        """Refuse a checkpoint of another framework, whose padding and epsilons are others."""
        own, code = frameworks.of(self.model), CODES[theirs.framework]
        if own != code:
            titles = [frameworks.BACKENDS[name].title for name in (own, code)]
            raise broken(
                "a network must be of the framework of the checkpoint that it takes",
                f"a {titles[0]} network for {self.path.name}, which is of the authors' code for "
                f"{titles[1]}",
                f"load it into a {titles[1]} network, and move that network's weights with "
                "do_conv.checkpoints.save and load",
            )

    def _one_state(
        self, checkpoint: Checkpoint, format: Format
    ) -> tuple[dict[str, Any], list[Theirs]]:
        """The one state that has the authors' layers, and these."""
        layers = importing.authors_layers(checkpoint, format, self.path)
        counts = {id(state) for state, _ in layers}
        if len(counts) > 1:
            raise broken(
                "a checkpoint to load into a network must hold the network once",
                f"{self.path} with {len(counts)} state dicts of the original authors' layers",
                "save the one to load, such as the averaged one, in a file of its own",
            )
        return layers[0][0], [theirs for _, theirs in layers]

    def _stored(
        self, state: dict[str, Any], theirs: Theirs, layer: ModelLayer, format: Format
    ) -> tuple[StoredLayer, Layer]:
        """W, D' and the bias of a layer, and its entry in the report."""
        own = layer.description
        kind = "other" if own is None else own.kind
        checks.same_layer(
            theirs.name, layer.name, "kind", "convolution", kind, kind == "convolution"
        )
        assert own is not None
        arrays = {
            role: states.array(state, key, theirs.name, format) for role, key in theirs.keys.items()
        }
        if "delta" in arrays and arrays["delta"].ndim == 3:
            there = arrays["delta"].shape[theirs.framework == "torch"]
            here = math.prod(own.kernel_size)
            checks.same_layer(
                theirs.name, layer.name, "number of kernel positions", there, here, there == here
            )
        sizes = {theirs.name: own.kernel_size}
        imported, notes = importing.from_theirs(theirs, arrays, sizes)
        made = {"weight": imported.weight}
        groups, d_mul = own.groups, None
        if imported.delta is not None:
            made[DELTA] = imported.delta
            groups, d_mul = imported.spec.groups, imported.spec.d_mul
        if "bias" in arrays:
            made["bias"] = arrays["bias"]
        if self.check_finite:
            for role, array in made.items():
                shown = format.NAMING.shown(role)
                checks.layer_finite(theirs.name, shown, bool(np.isfinite(array).all()))
        description = Description("convolution", own.kernel_size, groups, d_mul)
        kept = "plain" if own.d_mul is None else "over-parameterized"
        entry = Layer(
            layer.name, kept, own.kernel_size, groups, own.d_mul, tuple(filter(None, notes))
        )
        return StoredLayer(description, made), entry


def _plain_writes(
    state: Mapping[str, Any], keys: Mapping[str, str], layer: ModelLayer, format: Format
) -> Writes:
    """The arrays of a layer that has none of the authors'."""
    wanted, own = set(pairing.trained(layer)), layer.description
    arrays: dict[str, np.ndarray] = {}
    shown: dict[str, Shape] = {}
    for name, key in keys.items():
        role = name if own is None else format.NAMING.roles.get(name, name)
        if role in wanted or format.array(state[key]) is not None:
            array = states.array(state, key, layer.name, format)
            arrays[role] = array if own is None else format.NAMING.to_core(array, name)
            shown[name] = array.shape
    # Without a kernel there is nothing to fit, and the comparison below refuses it.
    if own is not None and (own.kind == "normalization" or "weight" in arrays):
        stored = StoredLayer(replace(own, d_mul=None), arrays)
        arrays = fitted(stored, layer.name, layer, lambda _: shown)
    shapes = {role: array.shape for role, array in arrays.items()}
    here = {role: layer.arrays[role].shape for role in wanted}
    fits = shapes == here
    checks.same_layer(layer.name, layer.name, "arrays", shown, layer.own_shapes(), fits)
    return [(layer.arrays[role], array) for role, array in arrays.items()]
