"""Compile the loops of `do_conv/torch/products/native.c` when a wheel is built or installed.

Without a C compiler the wheel is one of Python alone: everything works, composing on a CPU slower.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("do_conv", "torch", "products", "native.c")
TYPES = {"float32": "float", "float64": "double"}
FLAGS = ("-O3", "-std=gnu11", "-fPIC", "-shared", "-Wall", "-Wextra", "-Wno-psabi")
THREADS = ("-fopenmp",)  # Apple's compiler has none: the loops have one thread there


class NativeBuildHook(BuildHookInterface[Any]):
    """Put a library for each type of number beside the source, and into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; a library of an earlier build does not outlive a failure."""
        source = Path(self.root, SOURCE)
        libraries = {name: source.with_name(f"_native_{name}.so") for name in TYPES}
        try:
            for name, library in libraries.items():
                _compile(source, library, TYPES[name])
        except (OSError, subprocess.CalledProcessError) as error:
            for library in libraries.values():
                library.unlink(missing_ok=True)
            self.app.display_warning(f"do_conv is built without its C loops: {_reason(error)}")
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"], build_data["tag"] = False, f"py3-none-{platform}"
        build_data["artifacts"] += [f"/{SOURCE.with_name(one.name)}" for one in libraries.values()]


def _compile(source: Path, library: Path, real: str) -> None:
    """Write a library beside its place, and move it there."""
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    beside = library.with_suffix(".new")
    command = [*shlex.split(compiler), *FLAGS, f"-DREAL={real}", str(source), "-o", str(beside)]
    try:
        done = subprocess.run([*command, *THREADS], capture_output=True, check=False)
        if done.returncode != 0:
            subprocess.run(command, capture_output=True, check=True)
        beside.replace(library)
    finally:
        beside.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return f"{error.cmd[0]} failed: {error.stderr.decode(errors='replace').strip()[:500]}"
    return str(error)
