"""The rules for layers and models that are given to a function."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn

from do_conv.core.errors import broken
from do_conv.models import reasons
from do_conv.table import counted


def plain_convolution(is_plain: bool, kind: str) -> None:
    """What is given a D is a convolution that has none yet."""
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


def something_to_convert(left: Sequence[str | None], found: int) -> None:
    """A model to convert has a convolution that can be; otherwise each is left for a reason."""
    if len(left) == found:
        raise broken(
            "a model to convert must have a convolution that can be converted",
            _left(left) if left else "a model without convolutions",
            _instead(left),
        )


def _left(left: Sequence[str | None]) -> str:
    """How many convolutions were left, and why."""
    different = dict.fromkeys(left)
    if len(different) == 1:
        each = "" if len(left) == 1 else "each "
        return f"{counted(len(left), 'convolution')}, {each}left because {left[0]}"
    listed = ", ".join(f"{reason} ({left.count(reason)})" for reason in different)
    return f"{len(left)} convolutions, left for {len(different)} reasons: {listed}"


def _instead(left: Sequence[str | None]) -> str:
    """What to do where every convolution was left."""
    if set(left) == {reasons.HAS_DEPTHWISE}:
        return "train it as it is, or fold it first"
    if reasons.NOT_CHOSEN in left:
        return "look at plan(model), or choose other layers with where"
    return "look at plan(model)" if left else "give the model that holds the convolutions"


def something_to_fold(found: int, kind: str) -> None:
    """A model to fold has a layer of ours."""
    _ours(found, kind, "a model to fold", "convert it first, or use it as it is")


def something_to_group(found: int, kind: str) -> None:
    """A model with a group of parameters for D' has a D'."""
    remedy = "convert it first, or give the optimizer model.parameters()"
    _ours(found, kind, "a model whose parameters are grouped", remedy)


def _ours(found: int, kind: str, model: str, remedy: str) -> None:
    if not found:
        rule = f"{model} must have a layer with a depthwise kernel"
        raise broken(rule, f"a {kind} without one", remedy)


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


def unchanged(kind: str, is_unchanged: bool) -> None:
    """A kernel that is kept for many forward passes belongs to the parameters it was made of."""
    if not is_unchanged:
        raise broken(
            "parameters must not change while their composed kernels are kept",
            f"a {kind} whose parameters have changed",
            "leave the context before the optimizer's step",
        )


def all_grouped(lacking: int, found: int) -> None:
    """An optimizer trains only what its groups hold."""
    if lacking:
        raise broken(
            "groups of parameters must hold every depthwise kernel that is trained",
            f"groups that lack {lacking} of {found}",
            "make them from the parameters of the converted model",
        )


def whole_parameters(is_sharded: bool, kind: str, remedy: str) -> None:
    """Whole models are read and changed where their parameters are whole."""
    if is_sharded:
        raise broken(
            "the parameters of a model must be whole",
            f"a {kind} of which each process holds a part",
            remedy,
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
    """What prunes or normalises a weight finds W, and not the kernel that is applied."""
    if source is not None:
        raise broken(
            "a weight that is pruned or normalised must be the kernel that is applied",
            f"a {kind} whose W is computed from {source}",
            "fold first; for spectral_norm, give the plain layer to over_parameterize before it",
        )


def unparametrized(is_parametrized: bool, kind: str) -> None:
    """A forward pass of a layer's own has to find W' under the name `weight`."""
    if is_parametrized:
        raise broken(
            "the weight of a converted layer with a forward pass of its own must not be "
            "parametrized",
            f"a {kind} with a parametrization of its weight",
            "give the plain layer to over_parameterize, and then register the parametrization",
        )


def differing(
    difference: float, tolerance: float, where: str | None, remedy: str | None
) -> NoReturn:
    """Two models do the same; `remedy` is how one leaves training mode, if one was in it."""
    apart = (
        f"a difference of {difference:.1e}"
        if math.isfinite(difference)
        else "outputs of other shapes, or with NaN or infinity"
    )
    look = f"look at layer '{where}' of both" if where else "compare their layers and weights"
    raise broken(
        f"two models must give the same outputs, within {tolerance:g} of the largest value",
        apart
        + (f", which begins in layer '{where}'" if where else "")
        + (", from models in training mode" if remedy else ""),
        remedy or look,
    )


def remakeable(is_remakeable: bool, kind: str, remedy: str) -> None:
    """A whole Keras model is made again layer by layer, so its layers' graph has to be known."""
    if not is_remakeable:
        raise broken(
            "a whole model must be a Functional or Sequential model, whose layers are known",
            f"a {kind}, a class with code of its own",
            remedy,
        )


def reachable(name: str | None) -> None:
    """Folding leaves nothing of ours in a Keras model, so it has to reach every layer."""
    if name is not None:
        raise broken(
            "a layer to fold must stand in a Functional or Sequential model, or in TimeDistributed",
            f"layer '{name}' inside a layer of a class of its own",
            "make the plain model, and give folded_weights(model) to its set_weights",
        )


def compiled_again(is_so: bool, trouble: str) -> None:
    """A new Keras model is compiled as the one it was made from, by what Keras knows of that."""
    if not is_so:
        raise broken(
            "a compiled model must be one that Keras can compile again",
            trouble,
            "call compile() of the new model, which is not compiled",
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


def something_to_optimize(found: int, kind: str) -> None:
    """An optimizer for W and D' holds a kernel that can have them."""
    if not found:
        raise broken(
            "an optimizer must hold a kernel of the model that can be over-parameterized",
            f"a {kind} without one",
            "give it the variables of the model that are trained, or look at plan(model)",
        )


def kernel_as_composed(others: Sequence[str]) -> None:
    """A kernel that somebody else wrote is not overwritten in silence."""
    if others:
        listed = ", ".join(f"'{name}'" for name in others)
        raise broken(
            "a kernel must be the one that the last step composed of W and D'",
            f"{'kernels' if len(others) > 1 else 'a kernel'} of layer {listed} written since, or "
            "a state of an optimizer for another kernel",
            "call take_weights() of the optimizer to start from the new kernels, or "
            "restore_weights() to write back those it has",
        )


def optimizer_inside(is_one: bool, found: str) -> None:
    """What steps on W and D' is an optimizer of Keras that has no variables yet."""
    if not is_one:
        raise broken(
            "the optimizer inside must be a plain Keras optimizer that has not been built",
            f"a {found}",
            "give a new one of keras.optimizers, and put a LossScaleOptimizer around the "
            "DOConvOptimizer",
        )


def optimizer_of_a_model(has_model: bool) -> None:
    """Which variables are kernels is known from their model, or from a configuration."""
    if not has_model:
        raise broken(
            "an optimizer must be given the model whose kernels it trains",
            "None",
            "leave the model out in from_config only",
        )
