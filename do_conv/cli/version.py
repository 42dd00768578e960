"""`do-conv --version`: what a report of a fault needs to say."""

from __future__ import annotations

import platform
from importlib import metadata

import do_conv
from do_conv import native

# The distributions that may bring a package, the most usual first.
PACKAGES = {
    "NumPy": ("numpy",),
    "PyTorch": ("torch",),
    "Keras": ("keras",),
    "TensorFlow": ("tensorflow", "tensorflow-cpu"),
    "JAX": ("jax",),
    "MXNet": ("mxnet",),
}


def text() -> str:
    """A line for do_conv, Python and each package; none is imported but NumPy."""
    lines = {
        "do-conv": do_conv.__version__,
        "Python": f"{platform.python_version()}, {platform.system()} {platform.machine()}",
        **{title: _installed(names) for title, names in PACKAGES.items()},
        "C loops": native.described(),
    }
    width = max(map(len, lines))
    return "\n".join(f"{title:{width}}  {line}" for title, line in lines.items())


def _installed(distributions: tuple[str, ...]) -> str:
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "not installed"
