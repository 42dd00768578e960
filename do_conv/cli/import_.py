"""`do-conv import`: convert a checkpoint of the original authors' layers."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from do_conv import checkpoints, frameworks, zoo
from do_conv.checkpoints import formats, weights
from do_conv.checkpoints.importing import KernelSize
from do_conv.cli import checkpoint_files
from do_conv.core.errors import broken


def add_to(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "import", help="convert a checkpoint of the original authors' layers", description=__doc__
    )
    checkpoint_files.add_options(parser)
    parser.add_argument(
        "--kernel-size",
        action="append",
        default=[],
        metavar="[LAYER=]HxW",
        help="the size of kernels that are not square; may be repeated, with layer names",
    )
    parser.add_argument(
        "--strip-prefix",
        action="append",
        default=[],
        metavar="PREFIX",
        help="remove this prefix from names, such as module.; may be repeated",
    )
    parser.add_argument(
        "--into",
        metavar="MODULE:FUNCTION",
        help="load IN into the network that this function returns, and write its weights to OUT: "
        "a .pt, .pth, .weights.h5, .params or .safetensors file",
    )
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Import, print the report, and return 0."""
    kernel_size = _kernel_size(given.kernel_size)
    first, second = given.source, given.target
    if given.into is not None:
        first, second = zoo.load(given.into), given.source
        formats.of(Path(given.target), weights.endings(frameworks.of(first)))
    with checkpoint_files.progress("importing") as advance:
        report = checkpoints.import_authors(
            first,
            second,
            kernel_size=kernel_size,
            strip_prefix=given.strip_prefix,
            check_finite=given.check_finite,
            advance=advance,
        )
    if given.into is not None:
        weights.write(first, given.target)
        report.target = given.target
    checkpoint_files.say(report, "Imported", as_json=given.json, verbose=given.verbose)
    return 0


def _kernel_size(values: list[str]) -> KernelSize:
    """One size for every layer it fits, or sizes by the layers' names."""
    sizes: dict[str, tuple[int, int]] = {}
    for value in values:
        match = re.fullmatch(r"(?:(.*)=)?([1-9]\d*)x([1-9]\d*)", value)
        if match is None or (match[1] is None and len(values) > 1):
            raise broken(
                "--kernel-size must be HEIGHTxWIDTH or LAYER=HEIGHTxWIDTH",
                repr(value),
                "give for example 3x5 or features.0=3x5",
            )
        if match[1] is None:
            return int(match[2]), int(match[3])
        sizes[match[1]] = int(match[2]), int(match[3])
    return sizes or None
