"""The drawings, and the tables of the first page, are those of the code and of the kept results."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from benchmarks.report import RESULTS as MEASURED
from pictures import __main__ as pictures
from pictures import costs, gains, pages

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


@pytest.fixture(scope="module")
def written():
    return pictures.files()


@pytest.mark.parametrize("path", [
    *(f"docs/images/{name}.svg" for name in pictures.PICTURES), *pictures.PAGES, "docs/index.md"
])  # fmt: skip
def test_a_file_is_as_it_is_written(path, written):
    assert (ROOT / path).read_text("utf-8") == written[path], "run `make pictures`, then commit"


def drawn(name):
    return ElementTree.fromstring(str(pictures.PICTURES[name]()))


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_nothing_lies_beside_a_drawing(name):
    # Matplotlib brings DejaVu Sans, which is wider than most fonts.
    drawing = drawn(name)
    width, height = map(float, drawing.get("viewBox").split()[2:])
    xs, ys = [], []
    for polygon in drawing.iter(f"{SVG}polygon"):
        for pair in polygon.get("points").split():
            x, y = map(float, pair.split(","))
            xs.append(x)
            ys.append(y)
    for text in drawing.iter(f"{SVG}text"):
        size, x = float(text.get("font-size")), float(text.get("x"))
        weight = "bold" if " b" in text.get("class") else "normal"
        font = FontProperties(family="DejaVu Sans", weight=weight)
        length = TextPath((0, 0), text.text, size, prop=font).get_extents().width
        start = x - {"start": 0, "middle": length / 2, "end": length}[text.get("text-anchor")]
        xs += [start, start + length]
        ys += [float(text.get("y")) - size, float(text.get("y")) + size / 4]
    assert min(xs) >= 0
    assert max(xs) <= width
    assert min(ys) >= 0
    assert max(ys) <= height


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_every_colour_has_a_dark_twin(name):
    drawing = drawn(name)
    light, dark = drawing.find(f"{SVG}style").text.split("@media (prefers-color-scheme: dark)")
    used = {one for shape in drawing.iter() for one in shape.get("class", "").split()}
    coloured = used - {"none", "m", "b"}
    for rules in (light, dark):
        assert coloured <= set(re.findall(r"\.([fs]\d+)\{(?:fill|stroke):#[0-9a-f]{6}\}", rules))
    assert len(coloured) > 3


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_a_drawing_says_what_it_shows(name):
    drawing = drawn(name)
    assert drawing.get("role") == "img"
    assert drawing.find(f"{SVG}title").text
    assert len(drawing.find(f"{SVG}desc").text) > 40


def test_a_bar_is_as_long_as_a_step_is_longer():
    rows = json.loads((MEASURED / "networks-torch.json").read_text("utf-8"))["rows"]
    steps = [row["found"] for row in rows if (row["step"], row["mode"]) == ("training", "eager")]
    extra = [one[arm]["ratio"] - 1 for one in steps for arm in ("DO-Conv", "authors")]
    assert len(extra) == 2 * len(steps) > 10
    bars = [one for one in drawn("costs").iter(f"{SVG}rect") if not one.get("rx")]
    lengths = [float(one.get("width")) for one in bars]
    np.testing.assert_allclose(lengths, np.abs(extra) * lengths[0] / extra[0], atol=0.7)
    labels = [one.text for one in drawn("costs").iter(f"{SVG}text") if one.text.endswith(" %")]
    assert labels == [f"{100 * one:+.0f} %".replace("-", "−") for one in extra]


def write(folder, name, arm, seed, accuracies):
    header = {"experiment": name, "arm": arm, "seed": seed, "places": [],
              "settings": {"epochs": len(accuracies)}}  # fmt: skip
    lines = [json.dumps({"epoch": epoch, "accuracy": one}) for epoch, one in enumerate(accuracies)]
    (folder / f"{name}-{arm}-seed{seed}.json").write_text(json.dumps(header))
    (folder / f"{name}-{arm}-seed{seed}.jsonl").write_text("\n".join(lines))


def test_a_gain_is_bold_where_its_interval_excludes_zero(tmp_path):
    for seed, (plain, ours) in enumerate([(90, 91.0), (91, 92.1), (92, 93.2)]):
        write(tmp_path, "mnist-torch", "plain", seed, [50, plain])
        write(tmp_path, "mnist-torch", "do-conv", seed, [51 + seed, ours])
    for seed, (plain, ours) in enumerate([(60, 61), (62, 59), (61, 63)]):
        write(tmp_path, "cifar100-resnet_v2_20-full", "plain", seed, [plain] * 5)
        write(tmp_path, "cifar100-resnet_v2_20-full", "do-conv", seed, [ours] * 5)
    for seed in range(3):
        write(tmp_path, "GunPoint-fcn", "plain", seed, [80 + seed])
        write(tmp_path, "GunPoint-fcn", "do-conv", seed, [79 + seed])  # equal differences
    write(tmp_path, "mnist-keras", "plain", 0, [90])  # one seed says nothing of a spread
    write(tmp_path, "mnist-keras", "do-conv", 0, [91])
    lines = gains.gains(tmp_path).replace("\N{NO-BREAK SPACE}", " ").splitlines()[2:]
    # 4.3027 is the quantile 0.975 of Student's t with two degrees of freedom, in any table: the
    # half width is 4.3027 / sqrt(3) = 2.4842 standard deviations of the differences.
    assert lines == [
        "| MNIST, PyTorch, 2 epochs | 91.00 → 92.10 | **+1.10 ± 0.25** | +0.52 | 3 |",
        "| MNIST, PyTorch, epoch 1 of the same runs | 50.00 → 52.00 | +2.00 ± 2.48 |  | 3 |",
        "| CIFAR-100, ResNet-v2-20, 5 epochs | 61.00 → 61.00 | +0.00 ± 6.57 | +0.54 | 3 |",
        "| GunPoint, FCN, 1 epoch | 81.00 → 80.00 | −1.00 |  | 3 |",
        "",
        "Gains in bold, without that of epoch 1: 1 of 3. Losses in bold: 0.",
    ]


def test_variants_of_d_stand_beside_the_default_and_not_among_the_gains(tmp_path):
    for seed in range(3):
        write(tmp_path, "cifar100-resnet_v2_20", "plain", seed, [60 + seed])
        write(tmp_path, "cifar100-resnet_v2_20", "do-conv", seed, [61 + seed])
        write(tmp_path, "cifar100-resnet_v2_20-stages0", "do-conv", seed, [59 + 1.1 * seed])
    assert "without that of epoch 1: 0 of 1." in gains.gains(tmp_path)
    known = {"stages0": "stage 0", "stages01": "stages 0 and 1"}
    text = gains.of_variants({}, known, tmp_path)
    assert text.startswith("On CIFAR-100, with [ResNet-v2-20](")
    *_, default, first = text.splitlines()
    assert default.startswith("| all stages, D = I, D_mul = 9 | 62.00 ± 1.00 | +1.00 |")
    # The differences to the default have the mean -1.9 and the standard deviation 0.1.
    assert first.startswith("| stage 0 | 60.10 ± 1.10 | **−0.90 ± 0.25** |")
    assert first.endswith("| **−1.90 ± 0.25** | 3 |")
    assert not gains.of_variants(known, {}, tmp_path)


def test_the_paper_s_gains_are_summed_up():
    lines = gains.of_the_paper().splitlines()
    assert "| ImageNet, 18 and 34 layers | Tables 2 and 3 | 7 | +0.22 to +1.01 |" in lines
    assert "| CIFAR-10, 56 to 164 layers | Table 1 | 6 | −0.07 to +0.21 |" in lines
    assert "| detection, AP | Table 5 | 2 | +0.00 to +0.30 |" in lines


def test_a_table_of_costs_has_a_line_for_every_framework_and_mode():
    lines = costs.by_framework().replace("\N{NO-BREAK SPACE}", " ").splitlines()
    labels = [line.split(" | ")[0].removeprefix("| ") for line in lines]
    assert labels[2] == "PyTorch"
    assert {"PyTorch, `torch.compile`", "Gluon", "Gluon, hybridized"} <= set(labels)
    times = r"\| PyTorch \| (\d+ \(\d+ to \d+\) \| ){2}\*\*[\d.]+\*\* \| [\d.]+ \|"
    assert re.fullmatch(times, lines[2])


def test_every_table_of_the_pages_is_known_and_ends():
    for page in pictures.PAGES:
        text = (ROOT / page).read_text("utf-8")
        begun = re.findall(r"<!-- ([\w ]+): from results -->", text)
        assert set(begun) <= set(pages.BLOCKS)
        assert len(begun) == text.count("<!-- end -->") > 0


def test_the_first_page_leads_to_pages_that_are_there():
    for page in (ROOT / "README.md", ROOT / "docs/index.md"):
        targets = LINK.findall(page.read_text("utf-8"))
        assert len(targets) > 20
        for target in targets:
            assert (page.parent / target).is_file(), target


def test_links_of_the_first_page_start_in_the_documentation():
    readme = "[a](docs/a.md#b) ![c](docs/images/c.svg) [d](LICENSE) [e](https://e.org) [f](#f)"
    page = pages.first_page(readme).splitlines()[-1]
    assert page == "[a](a.md#b) ![c](images/c.svg) d [e](https://e.org) [f](#f)"
