"""Networks by name: from the model zoos of each framework, or from a function of one's own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from do_conv.core import rules
from do_conv.core.errors import require_installed
from do_conv.models import checks


def load(name: str) -> Any:
    """A new network with random weights; nothing is downloaded.

    Args:
        name: `ZOO:NETWORK`, the zoo being torchvision, timm, keras (keras.applications) or gluoncv;
            or `MODULE:FUNCTION`, a function without arguments that returns a network, in a module
            that can be imported from the current folder.

    Raises:
        DOConvError: if there is no such network or function.
        MissingFrameworkError: if the zoo is not installed.
    """
    source, network = checks.source_and_name(name)
    return _ZOOS[source](network) if source in _ZOOS else _own(source, network)


def import_gluoncv() -> Any:
    """GluonCV's `model_zoo`, also where there is a PyTorch that GluonCV refuses to stand beside.

    Raises:
        MissingFrameworkError: if GluonCV is not installed.
    """
    importlib.import_module("do_conv.gluon")  # prepares NumPy before MXNet is imported
    require_installed("gluoncv", extra="zoo", user="the zoo gluoncv")
    if "gluoncv" in sys.modules:
        return importlib.import_module("gluoncv.model_zoo")
    # GluonCV reads this when it is imported; of PyTorch it then needs nothing.
    checks: Any = ModuleType("gluoncv.check")
    checks._deprecate_python2 = checks._require_mxnet_version = lambda *_: None
    checks._require_pytorch_version = _no_pytorch
    sys.modules["gluoncv.check"] = checks
    try:
        return importlib.import_module("gluoncv.model_zoo")
    finally:
        del sys.modules["gluoncv.check"]


def _no_pytorch(*_: Any) -> None:
    """What GluonCV takes for an environment without PyTorch."""
    raise ImportError


def _torchvision(network: str) -> Any:
    require_installed("torchvision", extra="zoo", user="the zoo torchvision")
    from torchvision import models

    names = models.list_models(module=models)
    return models.get_model(rules.known_name("network", network, names), weights=None)


def _timm(network: str) -> Any:
    require_installed("timm", extra="zoo", user="the zoo timm")
    import timm

    return timm.create_model(rules.known_name("network", network, timm.list_models()))


def _keras(network: str) -> Any:
    importlib.import_module("do_conv.tf")  # says what is missing
    from keras import applications

    names = [name for name, one in vars(applications).items() if callable(one)]
    return getattr(applications, rules.known_name("network", network, names))(weights=None)


def _gluoncv(network: str) -> Any:
    model_zoo = import_gluoncv()
    name = rules.known_name("network", network, model_zoo.get_model_list())
    try:
        return model_zoo.get_model(name, pretrained=False, pretrained_base=False)
    except TypeError as error:
        if "pretrained_base" not in str(error):
            raise
        # There is no network inside this one that weights could be downloaded for.
        return model_zoo.get_model(name, pretrained=False)


_ZOOS: dict[str, Callable[[str], Any]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "keras": _keras,
    "gluoncv": _gluoncv,
}


def _own(module: str, function: str) -> Any:
    """What a function of the person's own returns."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), function, None)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        found = None
    finally:
        sys.path.remove(here)
    return checks.known_function(found, module, function, list(_ZOOS))()
