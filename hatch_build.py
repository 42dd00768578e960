"""Compile the loops in C of `do_conv/native` when a wheel is built or installed; write its page.

Without a C compiler the wheel is one of Python alone: everything works, composing on a CPU slower.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface
from packaging.tags import sys_tags

FOLDER = Path("do_conv", "native")
TYPES = {"float32": "float", "float64": "double"}
FLAGS = ("-O3", "-std=gnu11", "-fno-math-errno", "-fPIC", "-shared", "-Wno-psabi")
THREADS = ("-fopenmp",)  # Apple's compiler has none: the loops have one thread there


LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)]+)\)")


class PageHook(MetadataHookInterface):
    """The page on the index: the README, whose links go to the repository that builds the release.

    A workflow on GitHub says which repository and tag that is. Elsewhere the links stay as they
    are.
    """

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the page and the addresses."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        server, name, tag = map(
            os.environ.get, ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_REF_NAME")
        )
        metadata["urls"] = {"Paper": "https://arxiv.org/abs/2006.12030"}
        if server and name and tag:
            repository = f"{server}/{name}"
            text = LINK.sub(rf"\1[\2]({repository}/blob/{tag}/\3)", text)
            text = re.sub(rf"(!\[[^\]]*\]\({repository})/blob/", r"\1/raw/", text)
            changes = f"{repository}/blob/{tag}/CHANGELOG.md"
            metadata["urls"] |= {"Repository": repository, "Changelog": changes}
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


class NativeBuildHook(BuildHookInterface[Any]):
    """A library for each type of number goes into the wheel, or beside the source it was made of.

    Its name has a digest of the sources, by which `do_conv.native` knows that they belong together.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say what the wheel is for."""
        folder = Path(self.root, FOLDER)
        sources = sorted(folder.glob("*.[ch]"))
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:8]
        self._made = tempfile.TemporaryDirectory()
        libraries = {
            real: Path(self._made.name, f"_loops_{name}_{digest}.so")
            for name, real in TYPES.items()
        }
        try:
            for real, library in libraries.items():
                self._compile(sorted(folder.glob("*.c")), library, real)
        except (OSError, ValueError) as error:
            self.app.display_warning(f"do_conv is built without its C loops: {error}")
            return
        if version == "editable":
            _replace(folder, libraries.values())
            return
        for library in libraries.values():
            build_data["force_include"][str(library)] = str(FOLDER / library.name)
        build_data["pure_python"], build_data["tag"] = False, f"py3-none-{_platform()}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what the wheel has now."""
        self._made.cleanup()

    def _compile(self, sources: Iterable[Path], library: Path, real: str) -> None:
        """Raise OSError with what the last compiler said."""
        given = [f"-DREAL={real}", *map(str, sources), "-o", str(library), "-lm"]
        said = "no compiler"
        for compiler in _compilers():
            for threads in (THREADS, ()):
                try:
                    subprocess.run(
                        [*compiler, *FLAGS, *threads, *given],
                        capture_output=True, check=True, text=True, errors="replace",
                    )  # fmt: skip
                except FileNotFoundError as error:
                    said = str(error)
                except subprocess.CalledProcessError as error:
                    said = f"{compiler[0]} failed: {error.stderr.strip()[:500]}"
                else:
                    if not threads:
                        self.app.display_warning(f"the C loops have one thread: {said}")
                    return
        raise OSError(said)


def _compilers() -> list[list[str]]:
    """The one that is asked for; or Python's own, and the system's."""
    if "CC" in os.environ:
        return [shlex.split(os.environ["CC"])]
    found = [shlex.split(sysconfig.get_config_var("CC") or "cc"), ["cc"]]
    flags = shlex.split(os.environ.get("ARCHFLAGS", ""))
    return [[*compiler, *flags] for compiler in found]


def _platform() -> str:
    """The machine's own: no claim about others' C libraries is made.

    On macOS `MACOSX_DEPLOYMENT_TARGET`, which its compiler reads too, is the oldest system.
    """
    names = (tag.platform for tag in sys_tags())
    name = next(name for name in names if not name.startswith(("manylinux", "musllinux")))
    oldest = os.environ.get("MACOSX_DEPLOYMENT_TARGET")
    if not (name.startswith("macosx_") and oldest):
        return name
    _, _, _, machine = name.split("_", 3)
    major, minor = (*oldest.split("."), "0")[:2]
    return f"macosx_{major}_{minor}_{machine}"


def _replace(folder: Path, libraries: Iterable[Path]) -> None:
    """Each is written beside its place and moved there; those of other sources go."""
    for stale in folder.glob("_loops_*.so"):
        stale.unlink()
    for library in libraries:
        beside = folder / f"{library.name}.{os.getpid()}"
        shutil.copy(library, beside)
        beside.replace(folder / library.name)
