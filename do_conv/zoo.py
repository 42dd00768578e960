"""Networks by name: from the model zoos of each framework, or from a function of your own."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from do_conv.core import rules
from do_conv.core.errors import broken, require_installed


def load(name: str) -> Any:
    """A new network with random weights; nothing is downloaded.

    Args:
        name: `ZOO:NETWORK`, with a zoo of `ZOOS`; or `MODULE:FUNCTION`, a function without
            arguments that returns a network, in a module that can be imported from the current
            folder.

    Raises:
        DOConvError: if there is no such network or function.
        MissingFrameworkError: if the zoo is not installed.
    """
    source, _, network = name.partition(":")
    if not source or not network:
        raise broken(
            "a network is named ZOO:NETWORK or MODULE:FUNCTION",
            repr(name),
            "give for example torchvision:resnet18",
        )
    return ZOOS[source](network) if source in ZOOS else _own(source, network)


def import_gluoncv() -> Any:
    """GluonCV's `model_zoo`, which `import do_conv.gluon` makes importable beside PyTorch 2.

    Raises:
        MissingFrameworkError: if GluonCV is not installed.
    """
    importlib.import_module("do_conv.gluon")  # must come first: it prepares NumPy for MXNet
    return _imported("gluoncv").model_zoo


def import_timm() -> Any:
    """`timm`, or one sentence if torchvision, which it imports, does not fit PyTorch.

    Raises:
        DOConvError: if torchvision was built for another PyTorch than the one installed.
        MissingFrameworkError: if timm is not installed.
    """
    return _imported("timm")


def import_torchvision() -> Any:
    """`torchvision`, or one sentence if it does not fit PyTorch.

    Raises:
        DOConvError: if it was built for another PyTorch than the one installed.
        MissingFrameworkError: if torchvision is not installed.
    """
    return _imported("torchvision")


def _imported(package: str) -> Any:
    """A package of networks."""
    require_installed(package, extra="zoo", user=f"the zoo {package}")
    try:
        return importlib.import_module(package)
    except RuntimeError as error:
        # torchvision asks for its operators, which another PyTorch's library does not register.
        if "operator torchvision::" not in str(error):
            raise
        from torch import version

        torchvision = importlib.metadata.version("torchvision")
        build = "cpu" if version.cuda is None else f"cu{version.cuda.replace('.', '')}"
        raise broken(
            "torchvision must be built for the PyTorch that is installed",
            f"a torchvision {torchvision} for another build than torch {version.__version__}",
            "bring its build with: pip install --force-reinstall --no-deps "
            f"torchvision=={torchvision} --index-url https://download.pytorch.org/whl/{build}",
        ) from error


def _torchvision(network: str) -> Any:
    models = import_torchvision().models
    names = models.list_models(module=models)
    return models.get_model(rules.known_name("network", network, names), weights=None)


def _timm(network: str) -> Any:
    timm = import_timm()
    return timm.create_model(rules.known_name("network", network, timm.list_models()))


def _keras(network: str) -> Any:
    importlib.import_module("do_conv.tf")  # raises a clear error if something is missing
    from keras import applications

    names = [name for name, member in vars(applications).items() if callable(member)]
    return getattr(applications, rules.known_name("network", network, names))(weights=None)


def _gluoncv(network: str) -> Any:
    model_zoo = import_gluoncv()
    name = rules.known_name("network", network, model_zoo.get_model_list())
    try:
        return model_zoo.get_model(name, pretrained=False, pretrained_base=False)
    except TypeError as error:
        if "pretrained_base" not in str(error):
            raise
        # This network has no part that would download weights.
        return model_zoo.get_model(name, pretrained=False)


# A zoo's name on the command line, and the function that makes a network of it.
ZOOS: dict[str, Callable[[str], Any]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "keras": _keras,
    "gluoncv": _gluoncv,
}


def _own(module: str, function: str) -> Any:
    """The network that a function of the user's own returns."""
    if not all(part.isidentifier() for part in module.split(".")):
        raise broken(
            "a module must have a name that can be imported from the current folder",
            repr(module),
            "give for example mynet:network for a function of mynet.py in this folder",
        )
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        code = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise rules.unknown("zoo or module", module, ZOOS) from None
    finally:
        sys.path.remove(here)
    functions = {name: member for name, member in vars(code).items() if callable(member)}
    make = functions[rules.known_name(f"function of {module}", function, functions)]
    if needed := _needed(make):
        raise broken(
            "a function that makes a network must need no arguments",
            f"{module}:{function}, which needs {', '.join(needed)}",
            "write a function that calls it with these",
        )
    return make()


def _needed(make: Callable[..., Any]) -> list[str]:
    """The arguments without a default, as far as they can be known."""
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):  # of a built-in
        return []
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [one.name for one in parameters if one.default is one.empty and one.kind not in optional]
