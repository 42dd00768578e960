"""`do-conv cost`: what DO-Conv would add to a network, layer by layer."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import Any

from do_conv import frameworks, zoo
from do_conv.core import rules
from do_conv.core.errors import DOConvError, broken
from do_conv.models.plan import Plan, Row


def add_to(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("cost", help="what DO-Conv adds to a network", description=__doc__)
    parser.add_argument(
        "network",
        metavar="ZOO:NETWORK",
        help=f"a zoo is one of {', '.join(zoo.ZOOS)}; or your own MODULE:FUNCTION",
    )
    parser.add_argument(
        "--image",
        metavar="CxHxW",
        help="count and estimate for this image size, such as 3x224x224",
    )
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="batch size (default: 1)")
    parser.add_argument("--d-mul", type=int, metavar="N", help="D_mul (default: |K|)")
    parser.add_argument(
        "--composition",
        default="kernel",
        metavar="NAME",
        help="kernel or feature (default: kernel)",
    )
    parser.add_argument(
        "--door",
        default="layers",
        metavar="NAME",
        help="where W and D' are trained, layers or optimizer (default: layers)",
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Print the plan of training the network."""
    batch = rules.integer("--batch", given.batch)
    image = None if given.image is None else (batch, *_image_size(given.image))
    model = zoo.load(given.network)
    # Without --image, a Keras model is counted at the input size it was built for.
    plan = replace(_plan(model, image, given), batch=batch)
    print(json.dumps(_as_json(plan), indent=1) if given.json else plan)
    return 0


def _plan(model: Any, image: tuple[int, ...] | None, given: argparse.Namespace) -> Plan:
    """The plan, for a batch of images `(N, C, *size)` if there is one."""
    adapter = frameworks.adapter(frameworks.of(model))
    shape = None if image is None else adapter.in_own_order(model, image)
    options = {"d_mul": given.d_mul, "composition": given.composition, "door": given.door}
    try:
        plan: Plan = frameworks.backend(model).plan(model, input_shape=shape, **options)
    except DOConvError:
        raise
    except Exception as error:
        if image is None:
            raise
        # Each framework raises different exceptions for an input of the wrong size.
        first, *_ = str(error).strip().splitlines() or [type(error).__name__]
        raise broken(
            "a network must take the images it is counted for",
            f"images of size {given.image}, which fail with: {first.rstrip('.')}",
            "give --image the channels and the size that the network was made for",
        ) from error
    return plan


def _image_size(text: str) -> tuple[int, ...]:
    """Channels and spatial size of an image, from text such as `3x224x224`."""
    parts = text.lower().split("x")
    if not 2 <= len(parts) <= 4 or not all(part.isdecimal() and int(part) for part in parts):
        raise broken(
            "an image's size is its channels, then its spatial axes, divided by x",
            repr(text),
            "give for example 3x224x224",
        )
    return tuple(map(int, parts))


def _as_json(plan: Plan) -> dict[str, Any]:
    """The table for a program, with exact counts; null for unknown ones."""
    before, training = plan.macs or (None, None)
    return {
        "parameters": _parameters(plan),
        "macs": {"before": before, "training": training, "batch": plan.batch},
        "step_ratio": plan.step_ratio,
        "layers": [
            {
                "name": row.name,
                "is": row.kind,
                "becomes": row.becomes,
                "left_because": row.reason,
                "parameters": _parameters(row),
                "macs": dict(
                    zip(("before", "training"), row.macs(plan.batch) or (None, None), strict=True)
                ),
            }
            for row in plan
        ],
    }


def _parameters(of: Plan | Row) -> dict[str, int | None]:
    """The parameters of a model or a layer, null where an input's channels are not known yet."""
    known = (of.parameters, of.training_parameters) if of.has_sizes else (None, None)
    return dict(zip(("before", "training"), known, strict=True))
