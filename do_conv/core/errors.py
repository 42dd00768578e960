"""The exceptions of this package, and the sentence for a framework that is not installed."""

from __future__ import annotations

import importlib.util


class DOConvError(ValueError):
    """A rule of DO-Conv was broken: the message names the rule, what came, and what to do."""


class MissingFrameworkError(ImportError):
    """A framework, or another optional package, is not installed."""


def broken(rule: str, received: str, remedy: str) -> DOConvError:
    """The error for a broken rule, in the one form every message has."""
    return DOConvError(f"{rule}; received {received}; {remedy}.")


def is_installed(package: str) -> bool:
    """True if `package` can be found, without importing it."""
    return importlib.util.find_spec(package) is not None


def install_command(extra: str) -> str:
    """The pip command that brings an extra, from an index or from a checkout."""
    return f"pip install 'do-conv[{extra}]' (in a checkout of it: pip install '.[{extra}]')"


def require_installed(package: str, *, extra: str, user: str) -> None:
    """Say in one sentence that `package` is missing.

    A package that is there but broken is left to be imported, so that its own error shows.

    Raises:
        MissingFrameworkError: if `package` cannot be found.
    """
    if not is_installed(package):
        raise MissingFrameworkError(
            f"{user} needs {package}, which is not installed; "
            f"bring it with: {install_command(extra)}.",
            name=package,
        )
