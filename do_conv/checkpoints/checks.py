"""The rules for checkpoint files: what is read, what is in it, and where the result goes."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn

from do_conv.core.errors import broken
from do_conv.table import counted

_PAIR = (
    "give match='order' if both have their layers in the same order, or match={name in the file: "
    "name in the model}"
)


def known_ending(path: str, endings: Sequence[str]) -> NoReturn:
    """The ending of a file's name says its format."""
    raise broken(
        f"the name of a checkpoint must end in {', '.join(endings[:-1])} or {endings[-1]}",
        path,
        "rename it, or save it in one of these formats",
    )


def same_format(source: str, target: str, is_same: bool) -> None:
    """A checkpoint is written in the format it was read in."""
    if not is_same:
        raise broken(
            "the new checkpoint must be of the format of the old one",
            f"{source} and {target}",
            "give both names the same ending",
        )


def another_file(source: str, target: str, is_another: bool) -> None:
    """The old checkpoint is never overwritten."""
    if not is_another:
        raise broken(
            "the new checkpoint must be another file than the old one",
            f"{source} and {target}, which are one file",
            "give the new one a name of its own",
        )


def present_file(path: str, reason: str | None) -> NoReturn:
    """A checkpoint is a file that is there and may be read."""
    raise broken(
        "a checkpoint must be a file that can be read",
        f"{path} ({reason})",
        "check the path and its permissions",
    )


def whole_file(path: str, kind: str, reason: str) -> NoReturn:
    """A file is what its ending says, from the first byte to the last."""
    raise broken(
        f"a checkpoint with this ending must be a whole {kind} file",
        f"{path} ({reason})",
        "save or copy it again, or give it the ending of its format",
    )


def tensors_only(path: str, found: str) -> NoReturn:
    """A pickle may hold tensors and plain containers; nothing that would run code is loaded."""
    raise broken(
        "a PyTorch checkpoint must hold tensors and plain containers only",
        f"{path}, which asks for {found}",
        "save the state dict alone, torch.save(model.state_dict(), path)",
    )


def ours_in_file(found: int, path: str) -> None:
    """A file to fold holds something to fold."""
    if not found:
        raise broken(
            "a checkpoint to fold must hold a layer of do_conv",
            f"{path} without one",
            "use it as it is, or import it first if it is of the original authors' layers",
        )


def drawn_in_file(found: int, path: str) -> None:
    """A file to draw holds kernels that a D has changed."""
    if not found:
        raise broken(
            "a checkpoint to draw must hold an over-parameterized layer of do_conv",
            f"{path} without one",
            "give the checkpoint as it was before folding, or import it first if it is of the "
            "original authors' layers",
        )


def authors_in_file(found: int, path: str) -> None:
    """A file to import holds the layers of the original authors."""
    if not found:
        raise broken(
            "a checkpoint to import must hold a layer of the original authors: a W, or a weight or "
            "kernel with a D",
            f"{path} without one",
            "use it as it is if it is plain, or of do_conv's layers",
        )


def layer_keys(layer: str, expected: Collection[str], found: Collection[str]) -> None:
    """What is stored of a layer is all of it, once."""
    if set(found) != set(expected):
        raise broken(
            f"the arrays of layer '{layer}' in a checkpoint must be {sorted(expected)}",
            f"{sorted(found)}",
            "save all the parameters of one kind of layer",
        )


def layer_shapes(layer: str, shapes: Mapping[str, Sequence[int]]) -> NoReturn:
    """The arrays of a layer fit each other."""
    shown = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
    raise broken(
        "the shapes of a layer's arrays in a checkpoint must fit each other",
        f"layer '{layer}' with {shown}",
        "check that the checkpoint was not edited, and that all of it is from one layer",
    )


def layer_dtype(layer: str, dtype: str) -> NoReturn:
    """Kernels are composed of floating-point numbers."""
    raise broken(
        "a layer's arrays in a checkpoint must be dense floating-point arrays of 16, 32 or 64 bits",
        f"layer '{layer}' with {dtype}",
        "fold before quantising",
    )


def layer_finite(layer: str, array: str, is_finite: bool) -> None:
    """What is deployed is finite, after it has been rounded to its dtype, too."""
    if not is_finite:
        raise broken(
            "a layer's arrays must be finite to be folded or imported",
            f"layer '{layer}' with NaN or infinite values in its {array}",
            "find where training diverged, or go on with check_finite=False (--no-check-finite)",
        )


def one_parametrization(layer: str, is_only: bool) -> None:
    """What another parametrization computes is not in the file."""
    if not is_only:
        raise broken(
            "a parametrized weight can be folded from its file where DO-Conv is its only "
            "parametrization",
            f"layer '{layer}' with others",
            "load the model and call do_conv.torch.folded_state_dict",
        )


def free_names(layer: str, taken: Collection[str]) -> None:
    """A folded layer's arrays take the place of nothing else."""
    if taken:
        raise broken(
            "the names of a new layer's arrays must be free in the checkpoint",
            f"layer '{layer}', for which {sorted(taken)} are taken",
            "rename these, or fold the model and save it",
        )


def decided_order(group: str, ours: Collection[str], plain: Collection[str]) -> None:
    """Keras counts the layers of a class in the model's order, which the file does not hold."""
    if plain:
        raise broken(
            "layers of one plain class must be all or none of do_conv in a list of layers, because "
            "a Keras weights file does not tell their order",
            f"'{group}' with {_few(ours)} beside {_few(plain)}",
            "load it into the model, and save the plain model after "
            "set_weights(do_conv.tf.folded_weights(model))",
        )


def known_kernel_size(layer: str, area: int, given: Sequence[int] | None) -> NoReturn:
    """The authors' files hold the number of a kernel's positions, not its sides."""
    came = "none that fits" if given is None else f"kernel_size={tuple(given)}"
    raise broken(
        f"the kernel_size of layer '{layer}' must have its {area} positions",
        came,
        f"give it by name: --kernel-size {layer}=HEIGHTxWIDTH",
    )


def strippable_prefix(
    prefix: str, names: Sequence[str], *, begins: bool = True, twice: Sequence[str] = ()
) -> None:
    """A prefix to strip is there, and what is left of the names differs."""
    if not begins or twice:
        trouble = f"which leaves '{twice[0]}' twice" if twice else "with which no name begins"
        raise broken(
            "a prefix to strip must begin names of the checkpoint, and leave each a name of its "
            "own",
            f"{prefix!r}, {trouble}",
            f"give what stands before the network's own names, as in {', '.join(names[:2])}",
        )


def strippable_names(path: str, is_so: bool) -> None:
    """A Keras file has groups and lists of names, which belong to the model."""
    if not is_so:
        raise broken(
            "a prefix can be stripped from names that stand alone, not from a Keras file's groups",
            path,
            "load the file into a model whose layers have its names",
        )


def fitting_kernel_size(given: Sequence[int], areas: Collection[int]) -> None:
    """A size that is given for every layer it fits, fits one."""
    if math.prod(given) not in areas:
        raise broken(
            f"a kernel_size must have as many positions as a layer's kernel, one of {[*areas]}",
            f"kernel_size={tuple(given)} with {math.prod(given)}",
            "leave it out for square kernels, or check the sides",
        )


def size_option(value: str) -> NoReturn:
    """A kernel's size as it is written on a command line."""
    raise broken(
        "--kernel-size must be HEIGHTxWIDTH or LAYER=HEIGHTxWIDTH",
        repr(value),
        "give for example 3x5 or features.0=3x5",
    )


def neutral_file(path: str, found: Any) -> NoReturn:
    """A neutral file says that it is one, of a version that is known."""
    raise broken(
        "a neutral checkpoint must have the metadata format 'do_conv', version '1' and layers, "
        "a description of each",
        f"{path} with {found}",
        "write it with do_conv.checkpoints.save",
    )


def paired_names(only_file: Sequence[str], only_model: Sequence[str]) -> None:
    """Every layer of the file is one of the model's, and the other way round."""
    if only_file or only_model:
        raise broken(
            "the layers of a file and of the model that takes them must be the same, by name",
            f"{_some(only_file)} only in the file, {_some(only_model)} only in the model",
            _PAIR,
        )


def same_count(file: int, model: int) -> None:
    """Layers that are paired in their order are as many."""
    if file != model:
        raise broken(
            "a file and the model that takes it must have the same number of layers to pair them "
            "in order",
            f"{counted(file, 'layer')} in the file and {counted(model, 'layer')} in the model",
            "load a part of the model, or leave match out",
        )


def known_match(file: set[str], model: set[str], in_file: set[str], in_model: set[str]) -> None:
    """A match names layers that are there."""
    unknown = sorted(file - in_file) + sorted(model - in_model)
    if unknown:
        raise broken(
            "match must have names of layers in the file as keys, and in the model as values",
            f"{_some(unknown)}, which {'is' if len(unknown) == 1 else 'are'} not there",
            f"choose from {_some(sorted(in_file))} in the file and from {_some(sorted(in_model))} "
            "in the model",
        )


def same_layer(layer: str, own: str, what: str, there: Any, here: Any, fits: bool) -> None:
    """A layer of a file and the model's layer that takes it are alike in what both have."""
    if not fits:
        raise broken(
            f"layer '{layer}' of a file and layer '{own}' of the model must have the same {what}",
            f"{there} in the file, {here} in the model",
            "make the model's layer like it, or pair the layers by other names with match",
        )


def _some(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:most]) or "none"
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def _few(names: Collection[str], most: int = 3) -> str:
    """Names in their order, the first of them if there are many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{sorted(names)[:most]}{more}"
