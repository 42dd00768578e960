"""The rules for layers and models that are given to a function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from do_conv.core.errors import broken


def plain_convolution(is_plain: bool, kind: str) -> None:
    """A convolution is over-parameterized once."""
    if not is_plain:
        raise broken(
            "only a plain convolution can be over-parameterized",
            f"a {kind}",
            "give a convolution that has no depthwise kernel yet",
        )


def slots_of_computed_weight(d_mul: int, area: int) -> None:
    """A weight that something else computes has the plain shape, so D_mul is |K|."""
    if d_mul != area:
        raise broken(
            f"d_mul must be the number of kernel positions, {area}, where the weight is computed "
            "from another parameter already",
            f"d_mul={d_mul}",
            "leave it out, or over-parameterize first",
        )


def separable_pair(is_pair: bool, depthwise: Any, pointwise: Any) -> None:
    """Two layers can be trained as one if nothing stands between them."""
    if not is_pair:
        raise broken(
            "a separable pair must be a depthwise convolution without a bias, then a pointwise one "
            "of stride 1 without padding",
            f"{depthwise} and {pointwise}",
            "leave such layers as they are",
        )


def model_kind(is_model: bool, kind: str, found: str) -> None:
    """A function on models is given a model of its own framework."""
    if not is_model:
        raise broken(
            f"a model must be a {kind}",
            f"a {found}",
            "give the model itself, not its weights, its name or a model of another framework",
        )


def something_to_fold(found: int, kind: str) -> None:
    """A model to fold has a layer of ours."""
    if not found:
        raise broken(
            "a model to fold must have a layer with a depthwise kernel",
            f"a {kind} without one",
            "convert it first, or use it as it is",
        )


def source_and_name(name: str) -> tuple[str, str]:
    """The two parts of a network's name on the command line."""
    source, _, network = name.partition(":")
    if not source or not network:
        raise broken(
            "a network is named ZOO:NETWORK or MODULE:FUNCTION",
            repr(name),
            "give for example torchvision:resnet18",
        )
    return source, network


def known_function(found: Any, module: str, function: str, zoos: Sequence[str]) -> Any:
    """A function of a person's own module, that makes a network."""
    if not callable(found):
        raise broken(
            f"a network is of a zoo ({', '.join(zoos)}) or made by a function of a module",
            f"{module}:{function}, where there is no such function",
            "run the command where the module can be imported",
        )
    return found


def known_backend(found: str | None, kind: str) -> str:
    """A model is one of a framework that there are layers for."""
    if found is None:
        raise broken(
            "a model must be one of PyTorch, Keras or MXNet Gluon",
            f"a {kind}",
            "return the network itself",
        )
    return found


def image_size(text: str) -> tuple[int, ...]:
    """Channels and spatial size of an image, as `3x224x224`."""
    parts = text.lower().split("x")
    if not 2 <= len(parts) <= 4 or not all(part.isdecimal() and int(part) for part in parts):
        raise broken(
            "an image's size is its channels, then its spatial axes, divided by x",
            repr(text),
            "give for example 3x224x224",
        )
    return tuple(map(int, parts))


def image_taken(image: str, trouble: str) -> NoReturn:
    """Multiply-accumulates are counted for images that the network can be run on."""
    raise broken(
        "a network must take the images it is counted for",
        f"images of size {image}, of which its framework says: {trouble}",
        "give --image the channels and the size that the network was made for",
    )


def not_quantised(is_so: bool, kind: str) -> None:
    """Eager-mode quantisation replaces layers of PyTorch's own classes only."""
    if not is_so:
        raise broken(
            "a layer must be folded before it is prepared for quantisation",
            f"a {kind} with a qconfig",
            "call fold(model) and prepare that, or set the layer's qconfig to None to keep it in "
            "float",
        )


def weight_of_its_own(source: str | None, kind: str) -> None:
    """Pruning and norms of a weight change W, and not the kernel that is applied."""
    if source is not None:
        raise broken(
            "a weight that is pruned or normalised must be the kernel that is applied",
            f"a {kind} whose W is computed from {source}",
            "fold first; for spectral_norm, give the plain layer to over_parameterize before it",
        )


def matching_torchvision(torchvision: str, torch: str, cuda: str | None) -> NoReturn:
    """The operators of torchvision are compiled for one build of PyTorch, such as that for CPUs."""
    build = "cpu" if cuda is None else f"cu{cuda.replace('.', '')}"
    raise broken(
        "torchvision must be built for the PyTorch that is installed",
        f"a torchvision {torchvision} for another build than torch {torch}",
        f"bring its build with: pip install --force-reinstall --no-deps torchvision=={torchvision} "
        f"--index-url https://download.pytorch.org/whl/{build}",
    )
