"""Variants of D that `examples.cifar.train` runs are compared with the plain runs there are."""

import json

import pytest

from examples.cifar import schedules, state, train
from examples.report import __main__ as report
from examples.report import of_d, runs
from pictures import gains

# The options of a variant, and the label of its row.
VARIANTS = {
    ("--d-mul", "(M+2)(N+2)"): "D_mul = (M + 2) x (N + 2)",
    ("--d-mul", "4MN"): "D_mul = (M x 2) x (N x 2)",
    ("--depthwise-init", "he"): "random (He)",
    ("--stages", "0"): "stages 0",
    ("--stages", "0", "1"): "stages 0, 1",
    ("--stages", "0", "1", "2"): "stages 0, 1, 2",
}
PLAIN = [50.0, 51.0, 52.0, 53.0, 54.0]
DIFFERENCES = [1.0, 2.0, 3.0, 4.0, 5.0]
QUANTILE, P = 2.7764, 0.0132  # of Student's t with four degrees of freedom, of 0.975 and t = 4.2426


def keep(folder, arm, accuracies, *options, **others):
    """Runs as the script keeps them, with these accuracies in every epoch."""
    given = train._arguments().parse_args(["--data", "DIR", *options])
    epochs = schedules.SCHEDULES[given.schedule].epochs
    settings = {**state.settings(given, arm), "epochs": epochs, **others}
    experiment = state.experiment(given, arm)
    for seed, accuracy in enumerate(accuracies):
        whose = {"experiment": experiment, "arm": arm, "seed": seed}
        name = f"{experiment}-{arm}-seed{seed}"
        header = {**whose, "settings": settings, "places": []}
        (folder / f"{name}.json").write_text(json.dumps(header))
        lines = [{**whose, "epoch": epoch + 1, "accuracy": accuracy} for epoch in range(epochs)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return experiment


@pytest.fixture
def folder(tmp_path):
    results, docs = tmp_path / "results", tmp_path / "docs"
    results.mkdir()
    docs.mkdir()
    keep(results, "plain", PLAIN)
    return results


def page(folder):
    docs = folder.parent / "docs"
    assert report.main(["--results", str(folder), "--docs", str(docs)]) == 0
    return (docs / "results.md").read_text()


@pytest.mark.parametrize("options", VARIANTS, ids=" ".join)
def test_a_variant_is_listed_with_its_interval_and_p_value(folder, options):
    ours = [plain + more for plain, more in zip(PLAIN, DIFFERENCES, strict=True)]
    keep(folder, "do-conv", ours, *options)
    ran, _, absent = page(folder).partition("<details markdown>")
    (row,) = (line for line in ran.splitlines() if line.startswith(f"| {VARIANTS[options]} |"))
    interval = QUANTILE * 2.5**0.5 / 5**0.5  # 2.5 is the variance of the differences
    assert f"| **+3.00 ± {interval:.2f}** | {P:.2g} | 5 | short |" in row
    command = "python -m examples.cifar.train --data DIR --network resnet_v2_20"
    given = " ".join(f'"{one}"' if options[0] == "--d-mul" and "-" not in one else one
                     for one in options)  # fmt: skip
    assert f"\n{command} {given} --seeds 0 1 2 3 4\n" in ran
    assert f"\n{command} {given}\n" not in absent


@pytest.mark.parametrize("options", VARIANTS, ids=" ".join)
def test_the_page_of_choices_has_a_variant_beside_the_default(folder, options):
    keep(folder, "do-conv", [one + 1 for one in PLAIN])
    name = keep(folder, "do-conv", [one + 2 for one in PLAIN], *options)
    known = {**gains.STAGES, **of_d.STARTS, **of_d.D_MULS}
    label = known[name.removeprefix("cifar100-resnet_v2_20-")]
    *_, default, variant = gains.of_variants({}, known, folder).splitlines()
    assert default.startswith("| all stages, D = I, D_mul = 9 |")
    assert variant.startswith(f"| {label} |")
    assert variant.endswith(" | +1.00 | 5 |")


def test_a_variant_that_has_fewer_seeds_is_compared_over_those(folder):
    name = keep(folder, "do-conv", [52, 53], "--stages", "0")
    assert runs.compare(runs.load(folder)[name]).seeds == 2


@pytest.mark.parametrize("others", [{"batch": 64}, {"epochs": 11}, {"precision": "bfloat16"}])
def test_exception_a_variant_of_other_settings_is_not_compared(folder, capsys, others):
    name = keep(folder, "do-conv", PLAIN, "--depthwise-init", "he", **others)
    assert "| random (He) |" not in page(folder).partition("<details markdown>")[0]
    assert capsys.readouterr().err == (
        f"{name} is compared with no plain runs: none has its settings\n"
    )
