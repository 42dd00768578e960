"""The Python examples of the documentation run, and the page of errors shows the real messages."""

import ast
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import do_conv
from do_conv import DOConvError, checkpoints, cli, frameworks, zoo
from do_conv.checkpoints import checks as file_checks
from do_conv.checkpoints import prefixes
from do_conv.core import rules
from do_conv.core.transposed import transposed_size
from do_conv.models import checks as model_checks
from do_conv.parity import cases

DOCS = Path(__file__).parents[2] / "docs"
SUPPORT = DOCS.parent / "tests" / "support"
PACKAGE = Path(do_conv.__file__).parent
# What the examples of each page need. The parts of a page about a task, which are its second-level
# sections, are a program each: a person who has one framework reads and runs one of them.
SECTIONS = {"PyTorch": ["torch"], "Keras": ["keras"], "MXNet Gluon": ["mxnet"]}
PAGES = {
    "how-it-works.md": ["numpy"],
    "mathematics.md": ["numpy"],
    "torch.md": ["torch"],
    "optimizer.md": {"PyTorch": ["torch"], "Keras": ["keras"], "MXNet Gluon": ["mxnet"]},
    "models.md": ["torch"],
    "keras.md": ["keras"],
    "gluon.md": ["mxnet"],
    "parity.md": ["torch"],
    "checkpoints.md": ["torch"],
    "errors.md": ["numpy"],
    "tasks/use-a-layer.md": SECTIONS,
    "tasks/convert-a-model.md": SECTIONS,
    "tasks/fine-tune.md": SECTIONS,
    "tasks/fold.md": {**SECTIONS, "A checkpoint file": ["torch"]},
    "tasks/export.md": {
        "PyTorch": ["torch", "onnxscript", "onnxruntime"],
        "Keras": ["keras", "tensorflow"],
        "MXNet Gluon": ["mxnet"],
    },
    "integrations.md": {
        "Keras": ["keras"],
        "PyTorch Lightning": ["torchvision", "pytorch_lightning"],
        "timm": ["torchvision", "timm"],
        "Hugging Face": ["torchvision", "transformers", "accelerate"],
        "skorch": ["torch", "skorch"],
        "fastai": ["torchvision", "fastai"],
        "OpenMMLab": ["torchvision", "mmcv", "mmengine"],
        "segmentation_models_pytorch": ["torchvision", "segmentation_models_pytorch"],
        "MONAI": ["torchvision", "monai"],
        "torchvision detection": ["torchvision"],
        "Ultralytics": ["torchvision", "ultralytics"],
    },
    "tasks/leave-the-authors-file.md": {"PyTorch": ["torch"]},
    "tasks/authors-checkpoint.md": SECTIONS,
    "tasks/move-between-frameworks.md": ["torch", "keras", "mxnet", "safetensors"],
}
# The files that a reader of a page has.
FILES = {
    "tasks/leave-the-authors-file.md": Path(__file__).parents[1] / "data" / "authors" / "networks"
}
PROGRAMS = [
    pytest.param(page, section, needed, id=f"{page}-{section}" if section else page)
    for page, needs in PAGES.items()
    for section, needed in (needs.items() if isinstance(needs, dict) else [(None, needs)])
]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^## (.*)$", re.MULTILINE)
# The traceback of a failure then names the page and the line in it.
FIRST = "import cpu_torchvision; "
RUN = "import sys; exec(compile(sys.stdin.read(), sys.argv[1], 'exec'))"


def blocks(page):
    """The examples of a page: the section each is in, the line it begins on, and its lines."""
    text = page.read_text(encoding="utf-8")
    for block in BLOCK.finditer(text):
        section = [None, *HEADING.findall(text, 0, block.start())][-1]
        yield section, text.count("\n", 0, block.start(1)), block[1].splitlines()


def examples(page, section=None):
    """A page's examples, or a section's, as one program: every line on the line it has there."""
    lines = []
    for its_section, first, code in blocks(page):
        if section in {None, its_section}:
            lines += [""] * (first - len(lines)) + code
    return "\n".join(lines)


@pytest.mark.parametrize(("page", "section", "needed"), PROGRAMS)
def test_the_examples_of_a_page(page, section, needed, tmp_path):
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if page in FILES:
        shutil.copytree(FILES[page], tmp_path, dirs_exist_ok=True)
    settings = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
    if "tensorflow" in needed and settings["KERAS_BACKEND"] != "tensorflow":
        pytest.skip("Keras is to run on another backend than TensorFlow")
    if "torchvision" in needed:  # its wheel needs help to be imported beside a PyTorch for the CPU
        settings["PYTHONPATH"] = os.pathsep.join([str(SUPPORT), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", FIRST * ("torchvision" in needed) + RUN, str(DOCS / page)],
        input=examples(DOCS / page, section),
        cwd=tmp_path,
        env={**settings, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_pages_with_examples_are_the_ones_that_are_run():
    found = {str(p.relative_to(DOCS)) for p in DOCS.rglob("*.md") if examples(p)}
    assert found - {"index.md"} == set(PAGES)  # the first page's are the README's


@pytest.mark.parametrize("page", [page for page in PAGES if isinstance(PAGES[page], dict)])
def test_sections_with_examples_are_the_ones_that_are_run(page):
    assert {section for section, _, _ in blocks(DOCS / page)} == set(PAGES[page])


def test_a_failing_line_keeps_its_number(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n```python\na = 1\n```\n\ntext\n\n```python\nassert a == 2\n```\n")
    command = [sys.executable, "-c", RUN, str(page)]
    done = subprocess.run(
        command, input=examples(page), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f'"{page}", line 10' in done.stderr


# Each rule, with arguments that break it as a person would.
BROKEN = [
    (rules.integer, ("out_channels", 0), {}),
    (rules.axes, ("kernel_size", (3, 3, 3), 2), {}),
    (rules.axes, ("stride", 1.5, 2), {}),
    (rules.kernel_axes, ((3, 3, 3, 3),), {}),
    (do_conv.Spec, (4, 6, (3, 3), 3), {}),
    (rules.depth_multiplier, (8, (3, 3)), {}),
    (rules.depth_multiplier, (9.0, (3, 3)), {}),
    (rules.authors_multiplier, ("fourth", 2, (3, 3)), {}),
    (rules.depthwise_init, ("xavier",), {}),
    (rules.composition, ("features",), {}),
    (rules.choice, ("padding_mode", "mirror", rules.PADDING_MODES), {}),
    (rules.padding, ("full", 2), {}),
    (rules.padding, ("same", 2), {"words": ()}),
    (rules.padding_pairs, (((1, 1),), 2), {"words": ("same", "valid")}),
    (rules.padding_pairs, (((1, 2, 3), 1), 2), {"words": ("same", "valid")}),
    (rules.choice, ("layout", "NHWC", ("NCHW",)), {}),
    (rules.known_channels, (None,), {}),
    (rules.input_kind, (False, "torch.Tensor", "NoneType"), {}),
    (rules.input_rank, ((3, 12, 12), 2), {}),
    (rules.input_shape, ((4, 12, 12, 3), 2, 3), {}),
    (rules.input_dtype, ("float64", "float32"), {}),
    (rules.kernel_fits, ((8, 3, 5, 5), (3, 3), 1), {}),
    (do_conv.Window((5, 5)).output_size, ((4, 4),), {}),
    (rules.array_shape, ("the gradient of the output", (2, 8, 6, 6), (2, 8, 36)), {}),
    (transposed_size, ((4,), do_conv.Window((3,), padding="causal")), {}),
    (rules.output_padding, (2, (2, 2), (1, 1)), {}),
    (model_checks.plain_convolution, (False, "Linear"), {}),
    (model_checks.slots_of_computed_weight, (18, 9), {}),
    (do_conv.SeparableSpec.of_shapes, ((8, 3, 2), (3, 1, 3, 3), 1), {}),
    (model_checks.separable_pair, (False, "Conv2d(4, 4, 3)", "Conv2d(4, 8, 1)"), {}),
    (model_checks.model_kind, (False, "torch.nn.Module", "OrderedDict"), {}),
    (model_checks.something_to_fold, (0, "ResNet"), {}),
    (model_checks.something_to_optimize, (0, "SGD", "make it from model.parameters()"), {}),
    (
        model_checks.kernels_as_composed,
        ("a kernel of layer 'features.0' that was written since", "trainer"),
        {},
    ),
    (model_checks.not_quantised, (False, "DOConv2d"), {}),
    (model_checks.weight_of_its_own, ("weight_orig", "DOConv2d"), {}),
    (zoo.load, ("resnet18",), {}),
    (frameworks.of, ({},), {}),
    (
        rules.loaded_together,
        ("conv1.weight", "conv1.depthwise_delta", "network", False),
        {},
    ),
    (rules.stored_shape, ("weight", (8, 3, 11), (8, 3, 3, 3)), {}),
    (do_conv.Spec.of_shapes, ((8, 3, 3, 3), (3, 9), 1), {}),
    (do_conv.Spec.of_shapes, ((4, 3, 3, 3), (6, 9, 3, 3), 1), {}),
    (rules.finite, ("weight", False), {}),
    (rules.built, ("conv0", False), {}),
    (frameworks.adapter, ("pytorch",), {}),
    (cases.named, (["d-mul-betwen"],), {}),
    (cli._parsed, (["partiy"],), {}),
    (zoo.load, ("torchvison:resnet18",), {}),
    (checkpoints.fold, ("model.safetensor", "plain.safetensor"), {}),
    (checkpoints.fold, ("model.safetensors", "plain.params"), {}),
    (checkpoints.fold, ("model.params", "model.params"), {}),
    (checkpoints.fold, ("model.params", "plain.params"), {}),
    (file_checks.layer_keys, ("conv1", ["weight", "depthwise_delta"], ["depthwise_delta"]), {}),
    (file_checks.layer_shapes, ("conv1", {"weight": (8, 3, 3, 3), "delta": (3, 9, 5, 5)}), {}),
    (file_checks.layer_dtype, ("conv1", "conv1.weight of dtype torch.int8"), {}),
    (file_checks.layer_finite, ("conv1", "composed kernel", False), {}),
    (file_checks.one_parametrization, ("conv1", False), {}),
    (file_checks.known_kernel_size, ("conv1", 15, None), {}),
    (rules.known_name, ("layer in kernel_size", "conv3", ["conv1", "conv2"]), {}),
    (rules.known_name, ("layer of the file", "conv9", ["bn1", "conv1"]), {}),
    (prefixes.strip, ([{"module.W": 0, "module.D": 0}], "model."), {}),
    (prefixes.strip, ([{"module.W": 0, "W": 0}], "module."), {}),
    (file_checks.neutral_file, ("model.safetensors", "no metadata"), {}),
    (file_checks.paired_names, (["conv1", "bn1"], ["features.0"]), {}),
    (file_checks.same_layer, ("bn1", "bn1", "epsilon", 1e-05, 0.001, False), {}),
]


@pytest.mark.parametrize(
    ("rule", "given", "options"), [pytest.param(*row, id=row[0].__name__) for row in BROKEN]
)
def test_the_page_of_errors_shows_the_message(rule, given, options):
    with pytest.raises(DOConvError) as refused:
        rule(*given, **options)
    assert f"`{refused.value}`" in (DOCS / "errors.md").read_text(encoding="utf-8")


def pattern_of(part):
    """A pattern of the texts that a part of a message, as it stands in the source, can become."""
    if isinstance(part, ast.JoinedStr):
        return "".join(map(pattern_of, part.values))
    return re.escape(part.value) if isinstance(part, ast.Constant) else ".*"


def rules_of(path):
    """For each call of `broken` in a file its line, and a pattern of its message."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "broken":
            rule, received, remedy = map(pattern_of, node.args)
            yield node.lineno, rf"{rule}; received {received}; {remedy}\."


RULES = [
    pytest.param(pattern, id=f"{path.relative_to(PACKAGE).with_suffix('')}-{line}")
    for path in sorted(PACKAGE.rglob("*.py"))
    for line, pattern in rules_of(path)
]
MESSAGES = re.findall(
    r"\| `([^`\n]*; received [^`\n]*)` \|", (DOCS / "errors.md").read_text("utf-8")
)


@pytest.mark.parametrize("pattern", RULES)
def test_the_page_of_errors_has_every_rule(pattern):
    assert not pattern.startswith(".*;"), "a rule is written out in the call of `broken`"
    assert any(re.fullmatch(pattern, message) for message in MESSAGES)


@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_of_the_page_is_of_a_rule(message):
    assert any(re.fullmatch(row.values[0], message) for row in RULES)
