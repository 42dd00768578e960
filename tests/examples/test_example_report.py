"""The page of results, from runs that the test makes."""

import json
import re
import shlex
from types import SimpleNamespace

import cpu_torchvision  # noqa: F401  # isort: skip  # before the recipes, which import torchvision
import numpy as np
import pytest

from examples.records import Record
from examples.report import __main__ as report
from examples.report import page, paper, runs, tables

PLACE = {
    "versions": {"python": "3.11", "torch": "2.13"},
    "machine": {"processor": "a processor", "cores": 2, "threads": 1},
}
CIFAR = {"dataset": "cifar100", "network": "resnet_v2_20", "schedule": "short", "epochs": 6}


def write(folder, experiment, arm, seed, accuracies, settings, **more):
    name = f"{experiment}-{arm}-seed{seed}"
    whose = {"experiment": experiment, "arm": arm, "seed": seed}
    header = {**whose, "settings": settings, "places": [PLACE], **more}
    (folder / f"{name}.json").write_text(json.dumps(header))
    lines = [{**whose, "epoch": epoch, "accuracy": one} for epoch, one in enumerate(accuracies, 1)]
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    for seed, (plain, ours) in enumerate([(60, 61), (62, 62.5), (61, 63)]):
        write(folder, "cifar100-resnet_v2_20", "plain", seed, [10, *[plain] * 5], CIFAR)
        of_d = {**CIFAR, "stages": [0, 1, 2, 3]}
        write(folder, "cifar100-resnet_v2_20", "do-conv", seed, [10, 59, *[ours] * 4], of_d,
              kernel_change={"conv1": [[0, 1], [0.5, 0]], "conv2": [[1, 1], [0, 0]]})  # fmt: skip
    of_d = {**CIFAR, "stages": [0]}
    write(folder, "cifar100-resnet_v2_20-stages0", "do-conv", 0, [10, *[60.5] * 5], of_d)
    write(folder, "cifar100-resnet_v2_20-stages1", "do-conv", 0, [10, 60.5], of_d)  # unfinished
    for seed in range(2):
        for arm, last in (("plain", 95 + seed), ("do-conv", 96)):
            accuracies = [80 if arm == "plain" else 85, last]
            write(folder, "mnist-torch", arm, seed, accuracies, {"epochs": 2, "batch": 32})
    return folder


def test_paired_differences(results):
    found = runs.load(results)
    result = runs.compare(found["cifar100-resnet_v2_20"])
    # Of a do-conv run the last five epochs are 59 and four times its end.
    differences = [(59 + 4 * ours) / 5 - plain for plain, ours in ((60, 61), (62, 62.5), (61, 63))]
    mean = sum(differences) / 3
    deviation = (sum((d - mean) ** 2 for d in differences) / 2) ** 0.5
    assert result.seeds == 3
    assert result.gain == pytest.approx(mean)
    # 4.3027 is the quantile 0.975 of Student's t with two degrees of freedom, in any table.
    assert result.interval == pytest.approx(4.3027 * deviation / 3**0.5, rel=1e-4)
    t = abs(mean) / (deviation / 3**0.5)  # whose distribution has a closed form for two degrees
    assert result.p == pytest.approx(1 - t / (t**2 + 2) ** 0.5)
    assert result.reached == (2, 3)


def test_an_unfinished_run_does_not_count(results):
    found = runs.load(results)
    assert found["cifar100-resnet_v2_20-stages1"].unfinished == 1
    assert runs.compare(found["cifar100-resnet_v2_20-stages1"]) is None


def test_a_variant_is_compared_with_the_plain_runs_of_its_seeds(results):
    result = runs.compare(runs.load(results)["cifar100-resnet_v2_20-stages0"])
    assert (result.seeds, result.gain, result.interval, result.p) == (1, 0.5, None, None)


def test_the_page(results, tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    assert report.main(["--results", str(results), "--docs", str(docs)]) == 0
    text = (docs / "results.md").read_text()
    mnist = next(line for line in text.splitlines() if line.startswith("| PyTorch |"))
    assert mnist.startswith(
        "| PyTorch | 95.50 ± 0.71 | 96.00 ± 0.00 | +0.50 ± 6.35 | 0.5 | 2 | 95.156 | +0.52 |"
    )
    once = "| PyTorch, after one epoch | 80.00 ± 0.00 | 85.00 ± 0.00 | +5.00 |  | 2 |"
    assert once in text
    (absent,) = re.findall(r"<summary>(\d+) rows of .*?</details>", text, re.DOTALL)
    ran, absent_rows, *_ = text.split("<details markdown>")
    assert "| stages 0 | 60.00 | 60.50 | +0.50 |  | 1 | short | 2 / 2 | 67.14 | +0.17 |" in ran
    assert "| stages 1 | 67.14 | +0.02 |" in absent_rows
    command = "python -m examples.cifar.train --data DIR --network resnet_v2_20 --stages"
    assert f"\n```text\n{command} 0 --seeds 0\n" in ran
    assert f"\n{command} 1\n" in absent_rows
    rows = [row for table in paper.TABLES for row in table.rows]
    # Tables 1, 6, 7 and 8 have the network, Table 6 its stage 0.
    labels = {row.label for row in rows}
    listed = sum(absent_rows.count(f"\n| {label} | ") for label in labels)
    assert int(absent) == listed == len(rows) - 5
    assert "![Test accuracy by epoch of mnist-torch, plain and with DO-Conv: the mean" in text
    assert "|W' - W| of each layer of cifar100-resnet_v2_20, seed 0, as" in text
    heatmap = docs / "images/results/cifar100-resnet_v2_20-heatmap.png"
    assert heatmap.read_bytes().startswith(b"\x89PNG")
    assert (docs / "images/results/mnist-torch.svg").read_text().count("currentColor") > 10
    for row in (row for table in paper.TABLES for row in table.rows):
        assert f"| {row.label} |" in text


ON_A_CARD = [{**PLACE, "machine": {**PLACE["machine"], "device": "a card"}}]


def test_a_run_on_an_accelerator_says_so(results):
    for arm in ("plain", "do-conv"):
        write(results, "mnist-keras", arm, 0, [80], {"epochs": 1}, places=ON_A_CARD)
    text = page.page(runs.load(results), {})
    assert "| mnist-torch | python 3.11, torch 2.13 | a processor, 2 cores, 1 thread | " in text
    assert "| mnist-keras | python 3.11, torch 2.13 | a processor, 2 cores, 1 thread, a c" in text


@pytest.mark.parametrize(("arm", "seed"), [("plain", 1), ("do-conv", 2)])
def test_exception_runs_of_two_kinds_of_device_are_not_compared(
    results, tmp_path, capsys, arm, seed
):
    write(results, "mnist-torch", arm, seed, [80, 95], {"epochs": 2, "batch": 32}, places=ON_A_CARD)
    assert report.main(["--results", str(results), "--docs", str(tmp_path / "docs")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "of mnist-torch ran on" in said
    assert not (tmp_path / "docs").exists()


def test_a_run_that_has_no_epoch_yet_does_not_count(results):
    write(results, "mnist-torch", "plain", 2, [], {"epochs": 2, "batch": 32}, places=[])
    (results / "mnist-torch-plain-seed2.jsonl").unlink()
    found = runs.load(results)["mnist-torch"]
    assert (found.unfinished, runs.compare(found).seeds) == (1, 2)


def test_the_curves_are_those_of_the_seeds_in_the_table(results, monkeypatch, tmp_path):
    write(results, "mnist-torch", "plain", 2, [80, 99], {"epochs": 2, "batch": 32})
    drawn = []
    monkeypatch.setattr(report, "draw_curves", lambda axes, curves: drawn.append(curves))
    report._draw(tmp_path / "curves.svg", "mnist-torch", runs.load(results)["mnist-torch"])
    assert drawn == [{"plain": [[80, 95], [80, 96]], "do-conv": [[85, 96], [85, 96]]}]


@pytest.mark.parametrize("seeds", [8, 10])
def test_the_plain_arm_reaches_its_own_end(seeds):
    """A mean over seeds may be rounded in one order or in another."""
    chance = np.random.default_rng(0)
    for _ in range(200):
        curves = np.sort(chance.random((seeds, 3)) * 100, axis=1).tolist()
        both = {arm: dict(enumerate(curves)) for arm in ("plain", "do-conv")}
        assert None not in runs.compare(runs.Experiment(runs=both), last=1).reached


@pytest.mark.parametrize(("plain", "ours"), [([96.43] * 3, [100.0] * 3), ([90, 91], [90.1, 91.1])])
def test_equal_differences_are_not_certain(plain, ours):
    both = {"plain": plain, "do-conv": ours}
    curves = {arm: {seed: [one] for seed, one in enumerate(of)} for arm, of in both.items()}
    result = runs.compare(runs.Experiment(runs=curves), last=1)
    assert (result.interval, result.p) == (None, None)
    assert tables.gain(result) == f"{ours[0] - plain[0]:+.2f}"


def test_a_place_is_one_where_an_epoch_was_trained(tmp_path):
    def record(threads):
        return Record(tmp_path, "a", "plain", 0, {"epochs": 2}, (), threads)

    def threads():
        places = json.loads((tmp_path / "a-plain-seed0.json").read_text())["places"]
        return [place["machine"]["threads"] for place in places]

    record(1).add(1, accuracy=50)
    again = record(2)
    assert threads() == [1]
    again.add(2, accuracy=60)
    assert threads() == [1, 2]


def test_runs_of_a_door_have_a_row_of_their_own(results, tmp_path, capsys):
    for seed, ours in enumerate((61, 63, 63)):
        name, of_d = "cifar100-resnet_v2_20-optimizer", {**CIFAR, "door": "optimizer"}
        write(results, name, "do-conv", seed, [10, *[ours] * 5], of_d)
    found = runs.load(results)
    assert (found["cifar100-resnet_v2_20"].door, found[name].door) == ("layers", "optimizer")
    assert runs.compare(found[name]).gain == pytest.approx((1 + 1 + 2) / 3)
    (table,) = (one for one in paper.TABLES if one.name == "Table 8")
    lines = page.page(found, {}).split(f"### {table.name}:")[1].split("```")
    rows = [line.split(" | ") for line in lines[0].splitlines() if " | short" in line]
    assert [row[6] for row in rows] == ["short", "short, optimizer"]
    assert ["--door optimizer" in line for line in lines[1].splitlines()[1:]] == [
        False,
        True,
    ]


def test_exception_runs_of_both_doors_are_not_compared(results, capsys, tmp_path):
    """Settings that do not say their door are those of layers."""
    settings = {**CIFAR, "stages": [0, 1, 2, 3], "door": "optimizer"}
    write(results, "cifar100-resnet_v2_20", "do-conv", 3, [10, 60], settings)
    assert report.main(["--results", str(results), "--docs", str(tmp_path / "docs")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "do-conv-seed3.json is of a run with the door 'optimizer', and others of" in said
    assert "have 'layers': runs of one door are compared" in said
    assert not (tmp_path / "docs").exists()


@pytest.mark.parametrize(("arm", "seed"), [("plain", 3), ("do-conv", 3)])
def test_exception_runs_of_different_settings_are_not_compared(
    results, capsys, tmp_path, arm, seed
):
    settings = {**CIFAR, "epochs": 2}
    write(results, "cifar100-resnet_v2_20", arm, seed, [10, 60], settings)
    assert report.main(["--results", str(results), "--docs", str(tmp_path / "docs")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{arm}-seed3.json is of a run with epochs 2, and others of" in said
    assert "have 6: runs of the same settings are compared" in said
    assert not (tmp_path / "docs").exists()


def test_the_page_of_the_kept_runs_is_as_it_is_written():
    kept = runs.load(report.RESULTS)
    text = page.page(kept, report.pictures(kept))
    assert (report.DOCS / "results.md").read_text("utf-8") == text, "run `make results`"


def test_the_stages_of_training_are_compared_with_those_that_are_plain_throughout(tmp_path):
    name, settings = "coco-faster_rcnn_resnet_50-from-", {"epochs": 2, "pretrained": "a file"}
    write(tmp_path, f"{name}plain", "plain", 0, [30, 36], settings)
    write(tmp_path, f"{name}plain", "do-conv", 0, [30, 37], {**settings, "where": None})
    write(tmp_path, f"{name}do-conv", "do-conv", 0, [30, 39], {**settings, "where": None})
    found = runs.load(tmp_path)
    text = page.page(found, {}).partition("### Table 5")[2].partition("```")[0]
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| COCO")]
    assert [row[1:6] for row in rows] == [
        ["36.00", "", "", "", "1"],
        ["36.00", "37.00", "+1.00", "", "1"],
        ["36.00", "39.00", "+3.00", "", "1"],
    ]  # fmt: skip


def test_exception_a_baseline_of_other_settings(tmp_path, capsys):
    name, settings = "coco-faster_rcnn_resnet_50-from-", {"epochs": 2, "pretrained": "a file"}
    results, docs = tmp_path / "results", tmp_path / "docs"
    results.mkdir()
    write(results, f"{name}plain", "plain", 0, [30, 36], settings)
    write(results, f"{name}do-conv", "do-conv", 0, [39], {"epochs": 1, "pretrained": "another"})
    assert report.main(["--results", str(results), "--docs", str(docs)]) == 2
    assert capsys.readouterr().err == (
        "a row has runs with epochs 1, and the plain runs it is compared with have 2: runs of the "
        "same settings are compared, so move one to another folder\n"
    )
    assert not docs.exists()


def test_a_variant_of_a_recipe_is_compared_with_the_plain_runs_of_its_settings(tmp_path):
    settings = {"network": "resnet_v1b_50", "epochs": 1, "rate": 0.1}
    of_d = {"where": None, "stages": [0], "depthwise_init": "he"}
    name = "imagenet-ResNet-v1b-50"
    write(tmp_path, name, "plain", 0, [70], settings)
    write(tmp_path, f"{name}-stages0-he", "do-conv", 0, [71], {**settings, **of_d})
    write(tmp_path, f"{name}-he", "do-conv", 0, [71], {**settings, **of_d, "rate": 0.2})
    found = runs.load(tmp_path)
    assert runs.compare(found[f"{name}-stages0-he"]).gain == 1
    assert runs.compare(found[f"{name}-he"]) is None


def test_every_command_of_the_paper_s_rows_is_one():
    """What a row says is run has the row's experiment."""
    from examples.cifar import state, train
    from examples.recipes import classification, detection, options, segmentation

    recipes = {
        "classification": classification.Classification(),
        "segmentation": segmentation.Segmentation(),
        "detection": detection.Detection(),
    }
    for row in (row for table in paper.TABLES for row in table.rows):
        module, given = row.command.split(" ", 1)
        arguments = shlex.split(given)
        if module == "examples.cifar.train":
            parsed = train._arguments().parse_args(arguments)
            assert state.experiment(parsed, "do-conv") == row.experiment
        else:
            recipe = recipes[module.removeprefix("examples.recipes.")]
            parsed = options.parsed(recipe, arguments)
            before = None
            if parsed.pretrained is not None:
                before = SimpleNamespace(arm=parsed.pretrained_arm or "plain")
            assert options.experiment(recipe, parsed, before) == row.experiment


def test_the_figures_of_a_network_agree_between_the_paper_s_tables():
    """Each is written down once for each table: so a slip in one shows."""
    figures = {}
    for row in (row for table in paper.TABLES for row in table.rows if row.gain is not None):
        figures.setdefault(row.experiment, set()).add((row.plain, row.gain))
    differing = {name: found for name, found in figures.items() if len(found) > 1}
    assert differing == {"cifar100-resnet_v2_20": {(67.14, 0.54), (67.14, 0.55)}}
    assert figures["imagenet-ResNet-v1b-50"] == {(77.56, 0.44)}
    assert [len(table.rows) for table in paper.TABLES] == [18, 20, 6, 3, 7, 9, 2, 2, 3]


def test_another_experiment_s_plain_runs_are_not_taken(tmp_path):
    for name, arm in (("mnist-torch", "plain"), ("mnist-keras", "do-conv")):
        write(tmp_path, name, arm, 0, [90], {"epochs": 1, "batch": 32})
    assert runs.compare(runs.load(tmp_path)["mnist-keras"]) is None


DNCNN = {"network": "dncnn", "epochs": 2, "measures": ["psnr", "ssim"]}
UNET = {**DNCNN, "network": "unet"}


def write_measures(folder, experiment, arm, seed, measures, settings, **more):
    write(folder, experiment, arm, seed, [0, 0], settings, **more)
    lines = [{"epoch": epoch, "psnr": 10, "ssim": 0.1} for epoch in (1, 2)]
    lines[-1].update(measures)
    file = folder / f"{experiment}-{arm}-seed{seed}.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def tasks_results(tmp_path):
    folder = tmp_path / "of tasks"
    folder.mkdir()
    name, references = "photographs-dncnn", {"noisy": {"psnr": 20.1234, "ssim": 0.31}}
    for seed, (plain, ours) in enumerate([(28, 28.5), (29, 29.25)]):
        write_measures(folder, name, "plain", seed, {"psnr": plain, "ssim": 0.8}, DNCNN,
                       references=references)  # fmt: skip
        for door, found in (("layers", ours), ("optimizer", plain)):
            experiment = name if door == "layers" else f"{name}-optimizer"
            measures = {"psnr": found, "ssim": 0.8125}
            write_measures(folder, experiment, "do-conv", seed, measures, {**DNCNN, "door": door})
    sharp = {"blurred": {"psnr": 24, "ssim": 0.5}, "a filter": {"psnr": 25.5, "ssim": 0.6}}
    for arm, psnr in (("plain", 27), ("do-conv", 26.75)):
        measures = {"psnr": psnr, "ssim": 0.7}
        write_measures(folder, "photographs-unet", arm, 0, measures, UNET, references=sharp)
    of_d = {**UNET, "d_mul": "4MN", "door": "optimizer"}
    measures = {"psnr": 27.5, "ssim": 0.75}
    write_measures(folder, "photographs-unet-dmul-4-optimizer", "do-conv", 0, measures, of_d)
    for arm, accuracy in (("plain", 98), ("do-conv", 99)):
        settings = {"epochs": 2, **({"door": "layers"} if arm == "do-conv" else {})}
        write(folder, "GunPoint-resnet", arm, 0, [50, accuracy], settings)
    for arm, accuracy in (("plain", 51), ("do-conv", 50.5)):
        kept = {**CIFAR, "network": "mobilenet_v2"}
        write(folder, "cifar100-mobilenet_v2", arm, 0, [10, *[accuracy] * 5], kept)
    of_transfer = {"epochs": 2, "steps": 150}
    for arm, accuracy in (("plain", 11), ("do-conv", 10)):
        write(folder, "transfer-resnet_v1_20-10", arm, 0, [5, accuracy], of_transfer)
    return folder


def test_the_tasks_have_a_section(tasks_results, tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    assert report.main(["--results", str(tasks_results), "--docs", str(docs)]) == 0
    text = (docs / "results.md").read_text().partition("## Other tasks")[2]
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    quantile = 12.7062  # of Student's t with one degree of freedom
    interval = quantile * 0.25 / 2
    psnr, ssim, psnr_of_optimizer, ssim_of_optimizer, *of_deblurring = (
        row.split(" | ") for row in rows if row.startswith(("| noise, ", "| blur, "))
    )
    assert of_deblurring[0][:4] == ["| blur, PSNR (dB)", "27.00", "26.75", "-0.25"]
    assert of_deblurring[1][:4] == ["| blur, SSIM", "0.7000", "0.7000", "+0.0000"]
    assert of_deblurring[2][:4] == ["| blur, PSNR (dB), D_mul = 36", "27.00", "27.50", "+0.50"]
    assert of_deblurring[3][3] == "+0.0500"
    assert psnr[:3] == ["| noise, PSNR (dB)", "28.50 ± 0.71", "28.88 ± 0.53"]
    assert psnr[3] == f"{(0.5 + 0.25) / 2:+.2f} ± {interval:.2f}"
    assert ssim[1:4] == ["0.8000 ± 0.0000", "0.8125 ± 0.0000", "+0.0125"]
    assert (psnr[5:7], psnr_of_optimizer[5:7]) == (["2", "layers"], ["2", "optimizer"])
    assert psnr_of_optimizer[3] == "+0.00"
    assert ssim_of_optimizer[3] == ssim[3]
    assert "| noisy | 20.12 | 0.3100 |" in rows
    assert "| a filter | 25.50 | 0.6000 |" in rows
    assert "| GunPoint, ResNet | 98.00 | 99.00 | +1.00 |  | 1 | layers | 2 | 99.1 |" in rows
    assert "| 10 % of the images | 11.00 | 10.00 | -1.00 |  | 1 | layers | 2 | 300 |" in rows
    assert "| MobileNet-v2-like | 51.00 | 50.50 | -0.50 |  | 1 | layers | 6 |" in rows
    for command in (
        "examples.cifar.train --data DIR --network mobilenet_v2 --seeds 0 1 2 3 4",
        "examples.transfer.train --data DIR --weights FILE --percent 10 --epochs 2",
        "examples.restoration.train --task denoise --epochs 2",
        "examples.restoration.train --task denoise --epochs 2 --door optimizer",
        "examples.restoration.train --task deblur --epochs 2",
        "examples.restoration.train --task deblur --epochs 2 --arms do-conv --d-mul 4MN "
        "--door optimizer",
        "examples.time_series.train --sets GunPoint --networks resnet --epochs 2",
    ):  # fmt: skip
        assert f"\npython -m {command}\n" in text
    assert "![PSNR (dB) by epoch of photographs-dncnn, plain and with DO-Conv" in text
    assert "![Test accuracy by epoch of GunPoint-resnet, plain and with DO-Conv" in text
    for name in ("photographs-dncnn", "photographs-unet"):
        assert "PSNR (dB)" in (docs / f"images/results/{name}.svg").read_text()
        assert f"images/results/{name}.svg" in text


def test_without_tasks_there_is_no_section_of_them(results):
    assert "## Other tasks" not in page.page(runs.load(results), {})


def test_every_command_of_the_tasks_is_one():
    """Its set and network are those of the published figures, and of the runs' names."""
    from examples.report import tasks
    from examples.time_series import networks, series, train

    assert tasks.PUBLISHED.keys() == series.SETS.keys()
    for name, published in tasks.PUBLISHED.items():
        assert published.keys() == networks.NETWORKS.keys()
        for network in published:
            module, given = tasks.SERIES.format(name, network).split(" ", 1)
            parsed = train._arguments().parse_args(shlex.split(given))
            assert module == train.__name__
            assert (parsed.sets, parsed.networks) == ([name], [network])


def test_every_network_with_grouped_convolutions_is_one():
    from examples.cifar import networks, state, train
    from examples.report import tasks

    assert tasks.GROUPED.keys() == networks.GROUPED.keys()
    for network in tasks.GROUPED:
        module, given = tasks.GROUPED_COMMAND.format(network).split(" ", 1)
        assert module == train.__name__
        parsed = train._arguments().parse_args(shlex.split(given))
        assert state.experiment(parsed, "plain") == f"cifar100-{network}"


def test_every_command_of_fine_tuning_is_one():
    from examples.report import tasks
    from examples.transfer import train

    assert (*train.EPOCHS,) == tasks.SHARES
    for percent in tasks.SHARES:
        module, given = tasks.TRANSFER.format(percent).split(" ", 1)
        assert module == train.__name__
        assert train._arguments().parse_args(shlex.split(given)).percent == [percent]


def test_every_command_of_image_restoration_is_one():
    from examples.report import tasks
    from examples.restoration import train

    assert tasks.RESTORED.keys() == train.TASKS.keys()
    for task, (name, *_) in tasks.RESTORED.items():
        module, given = tasks.RESTORATION.format(task).split(" ", 1)
        assert module == train.__name__
        assert train._arguments().parse_args(shlex.split(given)).task == task
        assert name == f"photographs-{train.TASKS[task][0]}"
