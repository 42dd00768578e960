"""The error for a missing framework that Keras is set to compute with."""

from __future__ import annotations

import os

from do_conv.core.errors import MissingFrameworkError, is_installed

KERAS_BACKENDS = ("tensorflow", "torch", "jax")


def missing_keras_backend(package: str) -> MissingFrameworkError:
    """The error for the framework that Keras is set to compute with."""
    by = f"by its default or {os.environ.get('KERAS_HOME', '~/.keras')}/keras.json"
    if os.environ.get("KERAS_BACKEND"):
        by = f"by KERAS_BACKEND={os.environ['KERAS_BACKEND']}"
    installed = [name for name in KERAS_BACKENDS if name != package and is_installed(name)]
    remedy = ""
    if installed:
        remedy = f"set KERAS_BACKEND to {' or '.join(installed)}, which you have, or "
    return MissingFrameworkError(
        f"Keras is set to compute with {package}, {by}, and {package} is not installed; "
        f"{remedy}bring it with: pip install {package}.",
        name=package,
    )
