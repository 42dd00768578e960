"""GluonCV beside PyTorch 2: its models for MXNet are imported, those for PyTorch are left out.

When GluonCV is imported it imports PyTorch, too, and gives up with "Legacy torch==2.13.0 detected"
if that is 2.0 or newer, although its models for MXNet do not need it. `gluoncv.check` is the module
that asks; where PyTorch is too new for it, it is told that PyTorch is missing. Nothing happens
before GluonCV is imported, and PyTorch itself is neither imported nor changed.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_NAME = "gluoncv.check"


def install() -> None:
    """Wait for GluonCV to be imported."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds the one module where Python finds it, and lets it be completed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _NAME:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Completed(spec.loader)
        return spec


class _Completed(Loader):
    """Loads the module, then puts an answer before the question about PyTorch."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        self._loader.exec_module(module)
        ask = getattr(module, "_require_pytorch_version", None)
        if ask is None:  # an older GluonCV does not import PyTorch
            return

        def answered(*versions: str) -> None:
            if _is_too_new():
                # GluonCV takes this for an environment without PyTorch.
                raise ImportError("GluonCV has no models for PyTorch 2.")
            ask(*versions)

        module._require_pytorch_version = answered


def _is_too_new() -> bool:
    """Whether PyTorch 2 or newer is installed, without importing it."""
    try:
        return int(importlib.metadata.version("torch").partition(".")[0]) >= 2
    except importlib.metadata.PackageNotFoundError:
        return False
