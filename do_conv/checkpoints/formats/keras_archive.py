"""Keras's whole models, `.keras`, which hold a weights file and the configuration: read only."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from do_conv.checkpoints.formats import Checkpoint, keras
from do_conv.checkpoints.formats.hdf5 import MOST_EXPANSION
from do_conv.checkpoints.formats.keras import NAMING, array, identity, shape

__all__ = ["KIND", "NAMING", "array", "identity", "read", "shape"]

KIND = "Keras archive"

_WEIGHTS, _OPTIMIZER = "model.weights.h5", "do_conv>DOConvOptimizer"


def read(path: Path) -> Checkpoint:
    """The weights, with W and D' of an optimizer by the names of the layers of its kernels."""
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
        if any(one.file_size > MOST_EXPANSION * one.compress_size for one in archive.infolist()):
            raise ValueError("a file in it that is larger than what is stored of it")
        config = json.loads(archive.read("config.json"))
        optimizers = (one for one in _dicts(config) if one.get("registered_name") == _OPTIMIZER)
        layers = [kernel["layer"] for one in optimizers for kernel in one["config"]["kernels"]]
        return keras.read(Path(archive.extract(_WEIGHTS, folder)), layers)


def _dicts(config: Any) -> Iterator[dict[str, Any]]:
    """Each dict of a configuration, at any depth."""
    if isinstance(config, dict):
        yield config
        config = list(config.values())
    for inside in config if isinstance(config, list) else ():
        yield from _dicts(inside)
