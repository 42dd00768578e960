"""What a training step costs, from the kept benchmarks: a chart, and tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from benchmarks.report import RESULTS
from pictures.drawing import BLUE, CARD, INK, MUTED, RULE, Colour, Drawing
from pictures.markdown import KEEP, table

# Names of the contenders in the files, and ours for them.
SHOWN = {"DO-Conv": "DO-Conv", "authors": "the authors' formula"}
COLOURS = {"DO-Conv": BLUE, "authors": MUTED.mixed(CARD, 0.55)}
FRAMEWORKS = {"torch": "PyTorch", "keras-tensorflow": "Keras on TensorFlow",
              "keras-jax": "Keras on JAX", "gluon": "Gluon"}  # fmt: skip
MODES = {"eager": "", "imperative": "", "compiled": ", `torch.compile`",
         "contiguous": ", `torch.compile` without layout optimization"}  # fmt: skip
SAME = {"network": "ResNet-18", "size": 32, "batch": 32}  # measured in every framework and mode
WIDTH, LEFT, RIGHT, HEAD, GROUP, BAR = 660, 284, 76, 98, 48, 18


def load(name: str) -> dict[str, Any]:
    """A file of results."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def picture() -> Drawing:
    """The time that a training step of known networks takes, beyond the plain network's."""
    report = load("networks-torch")
    rows = [row for row in report["rows"] if (row["step"], row["mode"]) == ("training", "eager")]
    extra = [{name: row["found"][name]["ratio"] - 1 for name in SHOWN} for row in rows]
    highest = max(value for one in extra for value in one.values())
    drawing = Drawing(
        WIDTH, HEAD + GROUP * len(rows) + 44, "What a training step costs",
        "; ".join(f"{_label(row)}: {_percent(one['DO-Conv'])}" for row, one in zip(
            rows, extra, strict=True)),
    )  # fmt: skip
    head = "Extra time of a training step, in % of the plain one"
    drawing.text((20, 38), head, 20, INK, anchor="start", bold=True)
    _legend(drawing)
    scale = (WIDTH - LEFT - RIGHT) / highest
    bottom = HEAD + GROUP * len(rows)
    for index, (row, one) in enumerate(zip(rows, extra, strict=True)):
        top = HEAD + GROUP * index
        drawing.text((LEFT - 14, top + 23), _label(row), 17, INK, anchor="end")
        for place, (name, value) in enumerate(one.items()):
            _bar(drawing, top + 2 + place * BAR, value, scale, COLOURS[name])
    drawing.line((LEFT, HEAD - 6), (LEFT, bottom), RULE, 2)
    machine = report["machine"]
    where = f"PyTorch {_version(report, 'torch')}, eager, on the CPU: {machine['processor']}, "
    drawing.text((20, bottom + 28), f"{where}{machine['threads']} threads", 16, MUTED,
                 anchor="start")  # fmt: skip
    return drawing


def _bar(drawing: Drawing, top: float, value: float, scale: float, colour: Colour) -> None:
    start, length = LEFT + min(0, value) * scale, abs(value) * scale
    drawing.rectangle((start, top), (length, BAR - 2), colour)
    end = LEFT + max(0, value) * scale
    drawing.text((end + 7, top + 13), _percent(value), 16, INK, anchor="start")


def _legend(drawing: Drawing) -> None:
    left = 20.0
    for name, shown in SHOWN.items():
        drawing.rectangle((left, 54), (14, 14), COLOURS[name], radius=3)
        drawing.text((left + 21, 67), shown, 17, MUTED, anchor="start")
        left += 128


def by_framework() -> str:
    """A table: the same network in every framework, and what it costs after folding."""
    lines = []
    names = sorted((path.stem for path in RESULTS.glob("networks-*.json")), reverse=True)
    for name in names:  # PyTorch first
        framework = name.partition("-")[2]
        rows = {(row["mode"], row["step"]): row["found"] for row in load(name)["rows"]
                if SAME.items() <= row.items()}  # fmt: skip
        for mode in dict.fromkeys(mode for mode, _ in rows):
            step, run = rows[mode, "training"], rows.get((mode, "evaluation"), {})
            folded = run.get("folded")
            lines.append((
                FRAMEWORKS.get(framework, framework) + MODES.get(mode, f", {mode}"),
                *(_time(step[arm]) for arm in ("plain", "DO-Conv")),
                f"**{step['DO-Conv']['ratio']:.2f}**", f"{folded['ratio']:.2f}" if folded else "",
            ))  # fmt: skip
    head = ("ResNet-18, 32 images of 32 × 32", "plain step, ms", "DO-Conv step, ms", "ratio",
            "folded, evaluation: ratio")  # fmt: skip
    return _with_machine(table(head, lines), names)


def by_estimate() -> str:
    """A table: kernel composition, and in each layer the one that is estimated to be faster."""
    names = "DO-Conv", "by estimate"
    lines = [
        (_label(row), *(f"{row['found'][name]['ratio']:.2f}" for name in names))
        for row in load("networks-torch")["rows"] if "by estimate" in row["found"]
    ]  # fmt: skip
    head = ("", "kernel composition", "by estimate")
    return _with_machine(table(head, lines), ["networks-torch"])


def growth(varied: str) -> str:
    """A table: one layer, both compositions, while one size grows."""
    report = load("growth-torch")
    lines = [
        (*(str(row[key]) for key in ("channels", "size", "batch", "d_mul")),
         *(f"{row['found'][name]['ratio']:.2f}" for name in ("kernel", "feature")))
        for row in report["rows"] if row["varied"] == varied
    ]  # fmt: skip
    head = ("channels", "map", "batch", "D_mul", "kernel composition", "feature composition")
    lines = [(one[0], f"{one[1]} × {one[1]}", *one[2:]) for one in lines]
    return _with_machine(table(head, lines), ["growth-torch"])


def by_door() -> str:
    """A table: training steps with W and D' in layers and in the optimizer, as ratios."""
    lines = []
    for framework, shown in FRAMEWORKS.items():
        for row in load(f"optimizer-{framework}")["rows"]:
            if row["step"] == "training":
                ratios = {kind: one["ratio"] for kind, one in row["found"].items()}
                cells = [f"{ratios[kind]:.2f}" for kind in ("DO-Conv", "optimizer")]
                default = ratios.get("plain, not fused")
                cells.append(f"{ratios['optimizer'] / default:.2f}" if default else "")
                lines.append((f"{shown}, {_about(row)}", *cells))
    files = [f"optimizer-{framework}" for framework in FRAMEWORKS]
    head = ("", "layers", "the optimizer", "the optimizer, to plain with SGD not fused")
    return _with_machine(table(head, lines), files)


def between_steps() -> str:
    """A table: evaluation in the middle of training, as ratios to a plain network."""
    lines = [
        (_about(row), *(f"{row['found'][kind]['ratio']:.2f}" for kind in ("DO-Conv", "optimizer")))
        for row in load("optimizer-torch")["rows"] if row["step"] == "evaluation between steps"
    ]  # fmt: skip
    return _with_machine(table(("PyTorch", "layers", "the optimizer"), lines), ["optimizer-torch"])


def optimizers() -> str:
    """A table: of training steps in PyTorch, the part that is the optimizer's."""
    rows = load("optimizer-torch")["rows"]
    whole = {_about(row): row["found"] for row in rows if row["step"] == "training"}
    lines = []
    for row in rows:
        if row["step"] == "the optimizer's step in it":
            steps = [row["found"][name] for name in ("plain", "DO-Conv", "optimizer")]
            lines.append((_about(row), *map(_milliseconds, (whole[_about(row)]["plain"], *steps))))
    head = ("PyTorch", "a whole plain step, ms", "its optimizer, ms", "of layers, ms",
            "`DOConvOptimizer`, ms")  # fmt: skip
    return _with_machine(table(head, lines), ["optimizer-torch"])


def parts() -> str:
    """A table: the arithmetic of W and D', in passes of its own."""
    names = "gradients alone", "composing alone", "copying the kernel"
    lines = []
    for framework, shown in FRAMEWORKS.items():
        for row in load(f"optimizer-{framework}")["rows"]:
            channels = str(row.get("channels") or row.get("network")).partition(" ")[0]
            if row["step"] == "its parts" and channels == "512":
                where = shown + (f", {row['mode']}" if "mode" in row else "")
                found = [row["found"].get(name) for name in names]
                lines.append((where, *(_milliseconds(one) if one else "" for one in found)))
    files = [f"optimizer-{framework}" for framework in FRAMEWORKS if framework != "gluon"]
    head = ("512 × 512 × 3 × 3", "both gradients, ms", "composing", "copying the kernel")
    return _with_machine(table(head, lines), files)


def memory() -> str:
    """A table: the most memory that a training step of a network holds."""
    lines = [
        (f"{row['network']}, {row['batch']} images of {row['size']} × {row['size']}",
         *(f"{row['found'][name]['MB']:.0f}" for name in ("plain", "DO-Conv")))
        for row in load("memory-torch")["rows"] if row.get("network") and "step" not in row
    ]  # fmt: skip
    return _with_machine(table(("", "plain, MB", "DO-Conv, MB"), lines), ["memory-torch"])


def _with_machine(text: str, names: Sequence[str]) -> str:
    """A table, and in a sentence where and with what these files were measured."""
    reports = [load(name) for name in names]
    machines = dict.fromkeys(
        f"{one['machine']['processor']}, {one['machine']['threads']} threads" for one in reports
    )
    versions = dict.fromkeys(
        f"{name} {version}" for one in reports for name, version in one["versions"].items()
    )
    return f"{text}\nMeasured on {'; '.join(machines)}, with {', '.join(versions)}.\n"


def _label(row: dict[str, Any]) -> str:
    return f"{row['network']}, batch {row['batch']}, {row['size']} px"


def _about(row: dict[str, Any]) -> str:
    """The mode of a training step, and its network and images."""
    of_images = f"{row['batch']} images of {row['size']} × {row['size']}"
    return f"{row['mode']}: {row['network']}, {of_images}"


def _milliseconds(found: dict[str, Any]) -> str:
    milliseconds = 1000 * found["seconds"]
    return f"{milliseconds:.0f}" if milliseconds >= 10 else f"{milliseconds:.1f}"


def _percent(value: float) -> str:
    return f"{100 * value:+.0f} %".replace("-", "−")


def _version(report: dict[str, Any], name: str) -> str:
    return str(report["versions"][name]).partition("+")[0]


def _time(found: dict[str, Any]) -> str:
    low, high = (1000 * second for second in found["middle_half"])
    cell = f"{1000 * found['seconds']:.0f} ({low:.0f} to {high:.0f})"
    return cell.replace(" ", KEEP)
