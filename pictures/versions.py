"""The versions that are accepted, and those that are tested, from the project's own files."""

from __future__ import annotations

import re
from pathlib import Path

import tomllib

from pictures.markdown import table

ROOT = Path(__file__).parents[1]
# What is shown, its extra, its package, and the package that the lock has for it.
ROWS = (
    ("NumPy", None, "numpy", "numpy"),
    ("PyTorch", "torch", "torch", "torch"),
    ("Keras", "tf", "keras", "keras"),
    ("its backend TensorFlow", "tf", "tensorflow", "tensorflow-cpu"),
    ("its backend PyTorch", "torch", "torch", "torch"),
    ("its backend JAX", None, "jax", "jax"),
    ("MXNet", "gluon", "mxnet", "mxnet"),
)


def versions() -> str:
    """A table, with what installs each."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    locked = dict(re.findall(
        r"^([\w.-]+)==([\w.]+)", (ROOT / "requirements.lock").read_text("utf-8"), re.MULTILINE
    ))  # fmt: skip
    workflow = (ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8")
    minors = sorted(set(map(int, re.findall(r"python(?:-version)?: \"3\.(\d+)\"", workflow))))
    pythons = ", ".join(f"3.{minor}" for minor in minors)
    lines = [("Python", _words(project["requires-python"]), pythons, "")]
    for shown, extra, package, lock in ROWS:
        needed = project["optional-dependencies"][extra] if extra else project["dependencies"]
        found = [re.fullmatch(rf"{package}([=<>~!].*)", one) for one in needed]
        accepted = next((_words(one[1]) for one in found if one), "as Keras takes it")
        install = f"`pip install '.[{extra}]'`" if extra and "backend" not in shown else ""
        lines.append((shown, accepted, locked[lock], install))
    return table(("", "accepted", "tested", "installed by"), lines)


def _words(specifier: str) -> str:
    return re.sub(r"^>=(.*)$", r"\1 and later", specifier).removeprefix("==")
