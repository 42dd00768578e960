"""The plan of training with DO-Conv: a row for each convolution, and a table of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from do_conv import table
from do_conv.core.cost import layer_cost
from do_conv.core.rules import CompositionName, Door
from do_conv.core.spec import Shape, Spec
from do_conv.models import estimate


@dataclass(frozen=True)
class Row:
    """One convolution of a model.

    Attributes:
        name: where it is in the model; "" is the model itself.
        kind: its class.
        becomes: the class that takes its place, with W and D' in the optimizer its own class; None
            if it is left.
        reason: why it is left, or None.
        parameters: how many it has, with its bias.
        spec: the sizes, of the new layer if it is converted; None where they are not known yet.
        positions: the spatial size of the output (of a transposed layer: of the input) for one
            sample, for each time that the model uses the layer; none if it was not run.
        composition: how it will be trained.
        kernel_only: whether there is no other composition for it.
        door: where its W and D' are trained, in layers or in the optimizer.
    """

    name: str
    kind: str
    becomes: str | None
    reason: str | None
    parameters: int
    spec: Spec | None = None
    positions: tuple[Shape, ...] = ()
    composition: CompositionName = "kernel"
    kernel_only: bool = False
    door: Door = "layers"

    @property
    def _trained(self) -> Spec | None:
        """The sizes of the new layer; None if the layer stays plain, or sizes are unknown."""
        known = self.becomes is not None and self.spec is not None and self.spec.is_known
        return self.spec if known else None

    @property
    def has_sizes(self) -> bool:
        """Whether its parameters can be counted, which needs the input channels."""
        return self.spec is None or self.spec.is_known

    @property
    def training_parameters(self) -> int:
        """The number of parameters of the layer in training."""
        spec = self._trained
        if spec is None:
            return self.parameters
        weight = spec.rows * spec.group_channels * (spec.d_mul - spec.area)
        return self.parameters + weight + spec.depthwise_channels * spec.d_mul * spec.area

    def macs(self, batch: int) -> tuple[int, int] | None:
        """Multiply-accumulates of a batch: before (and after folding), and in training."""
        if self.spec is None or not self.spec.is_known or not self.positions:
            return None
        before = training = 0
        for size in self.positions:
            cost = layer_cost(self.spec, size, batch=batch)
            trained = cost.feature if self.composition == "feature" else cost.kernel
            before += cost.plain.macs
            composes = self.becomes and self.door == "layers"
            training += (trained if composes else cost.plain).macs
        return before, training

    def added_seconds(self, batch: int) -> float:
        """The seconds it adds to a training step, by `do_conv.models.estimate`."""
        spec = self._trained
        return (
            0.0 if spec is None else estimate.added(spec, self.positions, batch, self.composition)
        )

    def faster(self, batch: int) -> str:
        """The faster composition by the estimate; "kernel" if the layer stays plain."""
        spec = self._trained
        if spec is None or self.kernel_only:
            return "kernel"
        return estimate.faster(spec, self.positions, batch)


@dataclass(frozen=True)
class Plan:
    """The layers that will be over-parameterized; `str` of it is a table.

    Attributes:
        rows: the convolutions, in the model's order.
        parameters: how many parameters the whole model has.
        batch: the samples of the batch that multiply-accumulates are counted for.
        door: where W and D' are trained, in layers or in the optimizer.
    """

    rows: tuple[Row, ...]
    parameters: int
    batch: int = 1
    door: Door = "layers"

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    @property
    def converted(self) -> tuple[Row, ...]:
        """The layers that are over-parameterized."""
        return tuple(row for row in self.rows if row.becomes is not None)

    @property
    def left(self) -> tuple[Row, ...]:
        """The convolutions that stay, each with its reason."""
        return tuple(row for row in self.rows if row.becomes is None)

    @property
    def training_parameters(self) -> int:
        """The number of parameters that are trained, W and D' in place of each kernel."""
        return self.parameters + sum(r.training_parameters - r.parameters for r in self.rows)

    @property
    def macs(self) -> tuple[int, int] | None:
        """Multiply-accumulates of the convolutions: before (and after folding), and in training."""
        known = [macs for row in self.rows if (macs := row.macs(self.batch)) is not None]
        return (sum(m[0] for m in known), sum(m[1] for m in known)) if known else None

    @property
    def step_ratio(self) -> float | None:
        """The estimated ratio of training step times, DO-Conv to plain.

        None without sizes, and for W and D' in the optimizer, for which there is no estimate.
        """
        macs = self.macs
        if macs is None or self.door == "optimizer":
            return None
        uses = sum(len(row.positions) for row in self.rows)
        added = sum(row.added_seconds(self.batch) for row in self.rows)
        return 1 + added / estimate.step(uses, macs[0], self.parameters)

    @property
    def has_sizes(self) -> bool:
        """Whether all its parameters can be counted."""
        return all(row.has_sizes for row in self.rows)

    def __str__(self) -> str:
        """A table: each layer, its conversion, and its sizes before and in training.

        It is at most 80 columns wide; counts are in three figures.
        """
        reasons = list(dict.fromkeys(row.reason for row in self.left))
        head = ["parameters", "training", "MACs", "training"]
        becomes = "becomes" if self.door == "layers" else "trained as"
        rows = [
            (("layer", "is", becomes), head[: 2 if self.macs is None else 4]),
            *((_texts(row, reasons), self._counts(row, row.macs(self.batch))) for row in self.rows),
            ((self._summary(),), self._counts(self, self.macs)),
        ]
        shown = table.lines(rows)
        rule = ["-" * min(max(len(line) for row in shown for line in row), table.WIDTH)]
        lines = [*shown[0], *rule, *itertools.chain(*shown[1:-1]), *rule, *shown[-1]]
        notes = [f"({place}) left: {reason}" for place, reason in enumerate(reasons, 1)]
        return "\n".join([*lines, *notes, *map(table.wrapped, self._remarks())])

    def _summary(self) -> str:
        return f"whole model, {len(self.converted)} of {len(self.rows)} convolutions"

    def _counts(self, of: Row | Plan, macs: tuple[int, int] | None) -> list[str]:
        """The counts of a row or of the whole model; a dash for an unknown count."""
        known = (of.parameters, of.training_parameters) if of.has_sizes else (None, None)
        counts = known if self.macs is None else (*known, *(macs or (None, None)))
        return ["-" if count is None else table.rounded(count) for count in counts]

    def _remarks(self) -> Iterator[str]:
        """The paragraphs below the table."""
        if not self.has_sizes:
            yield (
                "A dash is a count that is not known before the network has seen an input: give "
                "the shape of one (input_shape, or --image)."
            )
        if self.door == "layers":
            yield "After folding, parameters and multiply-accumulates (MACs) are those before."
        else:
            yield "The network stays plain; the optimizer composes in its step."
        if self.macs is not None:
            yield f"MACs are for a batch of {self.batch}."
        if (ratio := self.step_ratio) is not None:
            yield (
                f"A training step will take about {ratio:.2f} times as long (an estimate for "
                "PyTorch's eager mode on a processor)."
            )


def of_trained(
    plan: Callable[..., Plan], model: Any, specs: Mapping[str, Spec], input_shape: Any
) -> Plan:
    """The plan of a model whose kernels are trained in an optimizer.

    Args:
        plan: the framework's function.
        model: what it is asked about.
        specs: the sizes that kernels have in training, by the names of their layers.
        input_shape: as for `plan`.
    """
    found = plan(
        model, input_shape=input_shape, where=lambda name, _: name in specs, door="optimizer"
    )
    rows = (replace(row, spec=specs.get(row.name, row.spec)) for row in found)
    return replace(found, rows=tuple(rows))


def _texts(row: Row, reasons: Sequence[str | None]) -> tuple[str, str, str]:
    """The first three cells of a row; its reason is shown by the number of its footnote."""
    ours = row.becomes if row.door == "layers" else row.becomes and "W and D'"
    becomes = ours or f"left ({reasons.index(row.reason) + 1})"
    if row.becomes and row.spec is not None and not row.spec.has_plain_weight:
        becomes += f", d_mul={row.spec.d_mul}"
    return row.name or "(the model)", row.kind, becomes
