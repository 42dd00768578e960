"""Run timm's train script with DO-Conv: `python -m do_conv.integrations.timm_train --help`."""

from __future__ import annotations

import argparse
import contextlib
import runpy
import sys
from collections.abc import Iterator, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from do_conv.core.errors import broken, require_installed

require_installed("timm", extra="zoo", user="do_conv.integrations.timm_train")

import timm.models  # noqa: E402
import timm.optim  # noqa: E402
import timm.utils  # noqa: E402

# A script that distils makes its teacher there, which stays plain: by a name of its own.
with contextlib.suppress(ImportError):
    import timm.task

from do_conv.core.rules import DOORS, STARTS  # noqa: E402
from do_conv.torch import DOConvOptimizer, adaptive_clip_grad, convert  # noqa: E402

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a script that makes its network and its optimizer by timm, such as timm's `train.py`.

    timm's package does not bring its scripts: take `train.py` and `validate.py` from its
    repository.

    Args:
        arguments: those of the command line; the ones that are not of this command go to the
            script, in their order.

    Raises:
        DOConvError: if the script is not a file, an option breaks a rule, or the network has
            nothing to convert.
    """
    parser = argparse.ArgumentParser(
        prog="python -m do_conv.integrations.timm_train",
        allow_abbrev=False,
        description="Run timm's train.py or validate.py with DO-Conv. All other arguments go to "
        "the script.",
    )
    parser.add_argument(
        "--script", type=Path, default="train.py", help="the script (default: %(default)s)"
    )
    parser.add_argument("--do-conv", action="store_true", help="without it, the script runs as is")
    parser.add_argument(
        "--do-conv-door", choices=DOORS, default="layers",
        help="DO-Conv layers, or DO-Conv in the optimizer (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--do-conv-where", metavar="REGEX", help="the layers, by a pattern of their names"
    )
    parser.add_argument("--do-conv-d-mul", type=int, metavar="N", help="D_mul, at least |K|")
    parser.add_argument("--do-conv-init", choices=STARTS, default="identity", help="how D starts")
    options, rest = parser.parse_known_args(arguments)
    if not options.script.is_file():
        raise broken(
            "--script must be timm's train.py or validate.py, which its package does not bring",
            str(options.script),
            "take the script of your version from timm's repository, and give its path",
        )
    with contextlib.ExitStack() as stack:
        if options.do_conv:
            stack.enter_context(_replaced(_replacements(options)))
        stack.enter_context(_arguments(options.script, rest))
        runpy.run_path(str(options.script), run_name="__main__")


def _replacements(options: argparse.Namespace) -> list[tuple[Any, str, Any]]:
    """The functions of timm to replace: each with its module, its name, and its successor."""
    chosen = {
        "where": options.do_conv_where,
        "d_mul": options.do_conv_d_mul,
        "depthwise_init": options.do_conv_init,
    }
    by_layers = options.do_conv_door == "layers"
    made: list[Any] = []  # the network that was made last
    create_model = timm.models.create_model

    @wraps(create_model)
    def converted(*args: Any, checkpoint_path: Any = None, **kwargs: Any) -> Any:
        model = create_model(*args, **kwargs)
        if by_layers:
            model = convert(model, inplace=True, **chosen)
        if checkpoint_path:  # a plain one, or one with D'
            timm.models.load_checkpoint(model, checkpoint_path)
        made[:] = [model]
        return model

    def clipped(
        parameters: Any, clip_factor: float = 0.01, eps: float = 1e-3, norm_type: float = 2.0
    ) -> None:
        parameters = [parameters] if hasattr(parameters, "grad") else parameters
        adaptive_clip_grad(made[0], clip_factor, eps, parameters=parameters)

    def wrapped(create: Any) -> Any:
        @wraps(create)
        def create_wrapped(*args: Any, **kwargs: Any) -> Any:
            return DOConvOptimizer(create(*args, **kwargs), made[0], **chosen)

        return create_wrapped

    replaced = [(module, "create_model", converted) for module in (timm, timm.models)]
    if by_layers:
        return [*replaced, (timm.utils.clip_grad, "adaptive_clip_grad", clipped)]
    creating = ("create_optimizer", "create_optimizer_v2")
    return replaced + [(timm.optim, name, wrapped(getattr(timm.optim, name))) for name in creating]


@contextlib.contextmanager
def _replaced(replacements: list[tuple[Any, str, Any]]) -> Iterator[None]:
    """Replace attributes of modules within the context."""
    before = [(module, name, getattr(module, name)) for module, name, _ in replacements]
    try:
        for module, name, successor in replacements:
            setattr(module, name, successor)
        yield
    finally:
        for module, name, own in before:
            setattr(module, name, own)


@contextlib.contextmanager
def _arguments(script: Path, rest: list[str]) -> Iterator[None]:
    """Give a script its arguments, and its folder as the first to import from."""
    before = sys.argv, sys.path
    sys.argv, sys.path = [str(script), *rest], [str(script.resolve().parent), *sys.path]
    try:
        yield
    finally:
        sys.argv, sys.path = before


if __name__ == "__main__":
    main()
