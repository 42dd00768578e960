"""The Python examples of the documentation run, and the page of errors shows the real messages."""

import inspect
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from do_conv import DOConvError
from do_conv.checkpoints import checks as file_checks
from do_conv.core import rules
from do_conv.models import checks as model_checks

DOCS = Path(__file__).parents[2] / "docs"
# What the examples of each page need. The parts of a page about a task, which are its second-level
# sections, are a program each: a person who has one framework reads and runs one of them.
SECTIONS = {"PyTorch": ["torch"], "Keras": ["keras"], "MXNet Gluon": ["mxnet"]}
PAGES = {
    "index.md": ["torch"],
    "mathematics.md": ["numpy"],
    "torch.md": ["torch"],
    "optimizer.md": {"PyTorch": ["torch"], "Keras": ["keras"]},
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
    "tasks/authors-checkpoint.md": SECTIONS,
    "tasks/move-between-frameworks.md": ["torch", "keras", "mxnet", "safetensors"],
}
PROGRAMS = [
    pytest.param(page, section, needed, id=f"{page}-{section}" if section else page)
    for page, needs in PAGES.items()
    for section, needed in (needs.items() if isinstance(needs, dict) else [(None, needs)])
]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^## (.*)$", re.MULTILINE)
# The traceback of a failure then names the page and the line in it.
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
    settings = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
    if "tensorflow" in needed and settings["KERAS_BACKEND"] != "tensorflow":
        pytest.skip("Keras is to run on another backend than TensorFlow")
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(DOCS / page)],
        input=examples(DOCS / page, section),
        cwd=tmp_path,
        env={**settings, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_pages_with_examples_are_the_ones_that_are_run():
    found = {str(p.relative_to(DOCS)) for p in DOCS.rglob("*.md") if examples(p)}
    assert found == set(PAGES)


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
    (rules.groups_divide, (4, 6, 3), {}),
    (rules.depth_multiplier, (8, (3, 3)), {}),
    (rules.depth_multiplier, (9.0, (3, 3)), {}),
    (rules.depthwise_init, ("xavier",), {}),
    (rules.composition, ("both",), {}),
    (rules.choice, ("padding_mode", "mirror", rules.PADDING_MODES), {}),
    (rules.padding, ("full", 2), {}),
    (rules.padding, ("same", 2), {"words": ()}),
    (rules.padding_pairs, (((1, 1),), 2), {"words": ("same", "valid")}),
    (rules.same_needs_stride_one, ("same", (2, 2)), {}),
    (rules.choice, ("layout", "NHWC", ("NCHW",)), {}),
    (rules.known_channels, (None,), {}),
    (rules.feature_channels, (None,), {}),
    (rules.input_kind, (False, "torch.Tensor", "NoneType"), {}),
    (rules.input_rank, ((3, 12, 12), 2), {}),
    (rules.input_shape, ((4, 12, 12, 3), 2, 3), {}),
    (rules.input_dtype, ("float64", "float32"), {}),
    (rules.kernel_fits, ((8, 3, 5, 5), (3, 3), 1), {}),
    (rules.kernel_within, ((5, 5), (4, 4)), {}),
    (rules.array_shape, ("the gradient of the output", (2, 8, 6, 6), (2, 8, 36)), {}),
    (rules.adjoint_window, ("causal", "zeros"), {}),
    (rules.output_padding, (2, (2, 2), (1, 1)), {}),
    (model_checks.plain_convolution, (False, "Linear"), {}),
    (model_checks.slots_of_computed_weight, (18, 9), {}),
    (rules.separable_arrays, ((8, 3, 2), (3, 1, 3, 3), 1), {}),
    (model_checks.separable_pair, (False, "Conv2d(4, 4, 3)", "Conv2d(4, 8, 1)"), {}),
    (model_checks.model_kind, (False, "torch.nn.Module", "OrderedDict"), {}),
    (model_checks.something_to_convert, (["its kernel has one position"], 1), {}),
    (model_checks.something_to_group, (0, "ResNet"), {}),
    (model_checks.something_to_fold, (0, "ResNet"), {}),
    (model_checks.something_to_optimize, (0, "SGD"), {}),
    (model_checks.optimizer_inside, (False, "SGD that has been built"), {}),
    (model_checks.optimizer_of_a_model, (False,), {}),
    (model_checks.kernel_as_composed, (["block/conv"],), {}),
    (model_checks.unchanged, ("DOConv2d", False), {}),
    (model_checks.all_grouped, (2, 19), {}),
    (
        model_checks.whole_parameters,
        (True, "FSDPResNet", "load folded_state_dict(model) into the plain network"),
        {},
    ),
    (model_checks.not_quantised, (False, "DOConv2d"), {}),
    (model_checks.weight_of_its_own, ("weight_orig", "DOConv2d"), {}),
    (model_checks.unparametrized, (True, "ParametrizedDOStdConv2d"), {}),
    (
        model_checks.differing,
        (0.25, 1e-5, "layer1.0.conv1", "call eval() on both models first"),
        {},
    ),
    (
        model_checks.remakeable,
        (
            False,
            "Detector",
            "make the plain model, and give folded_weights(model) to its set_weights",
        ),
        {},
    ),
    (model_checks.reachable, ("backbone/conv",), {}),
    (model_checks.compiled_again, (False, "a Trainer, with a compile() of its own"), {}),
    (model_checks.source_and_name, ("resnet18",), {}),
    (model_checks.known_function, (None, "networks", "mine", ["torchvision", "timm"]), {}),
    (model_checks.known_backend, (None, "dict"), {}),
    (model_checks.matching_torchvision, ("0.28.0", "2.13.0+cpu", None), {}),
    (model_checks.image_size, ("224",), {}),
    (model_checks.image_taken, ("1x32x32", "expected 3 channels"), {}),
    (rules.stored_shape, ("weight", (8, 3, 11), (8, 3, 3, 3)), {}),
    (rules.stored_keys, ("first", ["0", "1", "depthwise_delta"], ["0", "1"]), {}),
    (rules.stored_layer, ("first", "DOConv2D", False), {}),
    (rules.kernel_arrays, ((8, 3, 3, 3), (3, 9), 1), {}),
    (rules.kernel_arrays, ((4, 3, 3, 3), (6, 9, 3, 3), 1), {}),
    (rules.finite, ("weight", False), {}),
    (rules.built, ("conv0", False), {}),
    (rules.known_name, ("framework", "pytorch", ["torch", "keras", "gluon"]), {}),
    (file_checks.known_ending, ("model.bin", [".pt", ".pth", ".safetensors"]), {}),
    (file_checks.same_format, ("model.pt", "plain.safetensors", False), {}),
    (file_checks.another_file, ("model.pt", "./model.pt", False), {}),
    (file_checks.present_file, ("model.pt", "No such file or directory"), {}),
    (
        file_checks.whole_file,
        ("model.params", "MXNet .params", "it ends in the middle of an array or name"),
        {},
    ),
    (file_checks.tensors_only, ("model.pt", "os.system"), {}),
    (file_checks.ours_in_file, (0, "model.pt"), {}),
    (file_checks.drawn_in_file, (0, "model.pt"), {}),
    (file_checks.authors_in_file, (0, "model.pt"), {}),
    (file_checks.layer_keys, ("conv1", ["weight", "depthwise_delta"], ["depthwise_delta"]), {}),
    (file_checks.layer_shapes, ("conv1", {"weight": (8, 3, 3, 3), "delta": (3, 9, 5, 5)}), {}),
    (file_checks.layer_dtype, ("conv1", "conv1.weight of dtype torch.int8"), {}),
    (file_checks.layer_finite, ("conv1", "composed kernel", False), {}),
    (file_checks.one_parametrization, ("conv1", False), {}),
    (file_checks.free_names, ("conv1", ["conv1.weight"]), {}),
    (file_checks.decided_order, ("layers", ["layers/do_conv2d"], ["layers/conv2d"]), {}),
    (file_checks.known_kernel_size, ("conv1", 15, None), {}),
    (rules.known_name, ("layer named in kernel_size", "conv3", ["conv1", "conv2"]), {}),
    (file_checks.strippable_prefix, ("model.", ["module.W", "module.D"]), {"begins": False}),
    (file_checks.strippable_prefix, ("module.", ["module.W", "W"]), {"twice": ["W"]}),
    (file_checks.strippable_names, ("model.weights.h5", False), {}),
    (file_checks.fitting_kernel_size, ((5, 5), [1, 9]), {}),
    (file_checks.size_option, ("3",), {}),
    (file_checks.neutral_file, ("model.safetensors", "no metadata"), {}),
    (file_checks.paired_names, (["conv1", "bn1"], ["features.0"]), {}),
    (file_checks.same_count, (20, 19), {}),
    (file_checks.known_match, ({"conv9"}, {"conv1"}, {"conv1", "bn1"}, {"conv1", "norm"}), {}),
    (file_checks.same_layer, ("bn1", "bn1", "epsilon", 1e-05, 0.001, False), {}),
]


@pytest.mark.parametrize(
    ("rule", "given", "options"), [pytest.param(*row, id=row[0].__name__) for row in BROKEN]
)
def test_the_page_of_errors_shows_the_message(rule, given, options):
    with pytest.raises(DOConvError) as refused:
        rule(*given, **options)
    assert f"`{refused.value}`" in (DOCS / "errors.md").read_text(encoding="utf-8")


def test_the_page_of_errors_has_every_rule():
    written = {
        function
        for module in (rules.arguments, rules.arrays, model_checks, file_checks)
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == module.__name__
        if not name.startswith("_") and name not in ("own_names", "warn_of_stride")
    }
    assert {row[0] for row in BROKEN} == written
