"""PyTorch and Gluon held to the core, by the table and the code of `do-conv parity`."""

import json
import math

import decay
import pytest

from do_conv import Spec, frameworks, layer_cost
from do_conv.parity import cases, comparison, doors, training

FRAMEWORKS = ("torch", "gluon")
LACKING = {"torch": set(), "gluon": {"optimizer: AdamW"}}


@pytest.mark.parametrize("dtype", comparison.TOLERANCES)
@pytest.mark.parametrize("case", cases.CASES.values(), ids=cases.CASES)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_layer(framework, case, dtype):
    results = list(comparison.compare_layer(framework, frameworks.adapter(framework), case, dtype))
    if results[0].reason is not None:
        pytest.skip(f"{framework} does not offer it: {results[0].reason}")
    assert [result for result in results if not result.holds] == []


@pytest.mark.parametrize("dtype", comparison.TOLERANCES)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_training(framework, dtype):
    results = comparison.compare_training(framework, frameworks.adapter(framework), dtype)
    assert [result for result in results if not result.holds] == []


@pytest.mark.parametrize("dtype", comparison.TOLERANCES)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_training_in_the_optimizer_is_training_in_layers(framework, dtype):
    results = list(comparison.compare_doors(framework, frameworks.adapter(framework), dtype))
    assert [result for result in results if not result.holds] == []
    compared = {result.quantity for result in results if result.error is not None}
    assert compared == comparison.DOORS.keys() - {"gluon": {"optimizer: AdamW"}}.get(
        framework, set()
    )
    assert {result.case for result in results} >= {"first.depthwise_delta", "second.kernel"}


@pytest.mark.parametrize("options", doors.OPTIMIZERS.values(), ids=doors.OPTIMIZERS)
def test_every_array_of_that_run_moves_far_from_its_start(options):
    run = training.make_run("float64")
    trained = doors.train_layers(frameworks.adapter("torch"), options, run)
    moved = {n: comparison.relative_error(trained[n], run.start[n]) for n in run.start}
    assert min(moved.values()) > 0.1


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_at_least_forty_cases_are_offered(framework):
    backend = frameworks.adapter(framework)
    assert sum(backend.not_offered(case) is None for case in cases.CASES.values()) >= 40


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_weight_decay_pulls_the_kernel_to_w(framework):
    """Section 4: what decays is D' = D - I, so D goes to the identity, and not to zero."""
    before, after = decay.distances(frameworks.adapter(framework))
    assert before > 0.2
    assert after < 0.01


SPEC, SIZE, BATCH = Spec(8, 12, (3, 3), groups=2), (7, 7), 4


def torch_macs(composition):
    """The multiply-accumulates of a forward pass, as PyTorch counts them by convolution."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from do_conv.torch import DOConv2d

    layer = DOConv2d(8, 12, 3, 2, 1, groups=2, composition=composition)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(torch.zeros(BATCH, 8, 14, 14))
    operators = counter.get_flop_counts()["Global"]
    return sum(flops for name, flops in operators.items() if "conv" in str(name)) // 2


def gluon_macs(composition):
    """The same, by the sizes of the convolutions in an exported graph."""
    from do_conv.gluon import DOConv2D  # before mxnet

    # isort: split
    import mxnet as mx

    layer = DOConv2D(12, 3, 2, 1, groups=2, in_channels=8, composition=composition)
    graph = layer(mx.sym.var("data")).get_internals()
    _, shapes, _ = graph.infer_shape(data=(BATCH, 8, 14, 14))  # of each node, in order
    macs = 0
    nodes = json.loads(graph.tojson())["nodes"]
    for node, shape in zip(nodes, shapes, strict=True):
        if node["op"] == "Convolution":
            kernel = shapes[node["inputs"][1][0]]
            macs += math.prod(shape) * math.prod(kernel[1:])
    return macs


@pytest.mark.parametrize("macs", [torch_macs, gluon_macs], ids=FRAMEWORKS)
def test_the_convolutions_cost_what_the_core_says(macs):
    """Feature composition has two, and the stride belongs to the first: the depthwise one."""
    cost = layer_cost(SPEC, SIZE, batch=BATCH)
    assert macs("feature") == cost.feature.macs
    assert macs("kernel") == cost.plain.macs
