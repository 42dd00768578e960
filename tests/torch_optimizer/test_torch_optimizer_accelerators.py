"""An accelerator works behind the program: a step waits for nothing, and overwrites nothing."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW
from torch.utils._python_dispatch import TorchDispatchMode
from twins import backward, batches, network, parameters_of, same_bits, train

from do_conv import DOConvError
from do_conv.torch import DOConvOptimizer
from do_conv.torch.optimizer import together, watch

SHAPE = (3, 8, 8)
MAKERS = {
    "sgd": lambda p: SGD(p, 0.1, momentum=0.9, weight_decay=1e-4, foreach=True),
    "adamw": lambda p: AdamW(p, 0.01, foreach=True, capturable=True),
}
VIEWS = (
    "detach",
    "view",
    "slice",
    "transpose",
    "permute",
    "expand",
    "split",
    "unbind",
    "unflatten",
)


class Work(TorchDispatchMode):
    """Counts the operators that an accelerator runs."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += not any(word in str(function) for word in (*VIEWS, "profiler"))
        return function(*args, **(kwargs or {}))


def work_of_a_step(make, layers, **options):
    """How many operators the third step of alike layers has, on a device that has no values."""
    alike = [nn.Conv2d(16, 16, 3, device="meta") for _ in range(layers)]
    model = nn.Sequential(*alike, nn.Conv2d(16, 4, 1, device="meta"))
    optimizer = DOConvOptimizer(make(model.parameters()), model, **options)
    for _ in range(3):
        for parameter in model.parameters():
            parameter.grad = torch.empty_like(parameter)
        with Work() as work:
            optimizer.step()
    return work.count


@pytest.mark.parametrize("d_mul", [None, 11])
def test_a_step_reads_no_value_and_has_as_many_operators_for_more_layers(d_mul):
    few, many = (work_of_a_step(MAKERS["sgd"], layers, d_mul=d_mul) for layers in (3, 6))
    assert few == many


def test_a_foreign_kernel_stays_as_it_is_until_the_next_step_refuses_it():
    model = network()
    optimizer = DOConvOptimizer(SGD(model.parameters(), 0.1), model)
    kernels = list(optimizer.kernels.values())

    def step():
        own = watch.check(kernels, is_late=lambda device: True)
        with torch.no_grad():
            for kernel in kernels:
                kernel.weight.mul_(0.9)
        together.compose(kernels, own)

    step()
    step()
    written = model[3].weight.data.mul_(2).clone()
    before = parameters_of(model)
    step()
    assert torch.equal(model[3].weight, written)
    expected = {f"{kernel.name}.weight": kernel.composed() for kernel in kernels}
    others = [name for name in expected if name != "3.weight"]
    assert all(torch.equal(model.get_parameter(name), expected[name]) for name in others)
    assert not any(torch.equal(model.get_parameter(name), before[name]) for name in others)
    after = parameters_of(model)
    for _ in range(2):
        with pytest.raises(DOConvError, match="layer '3' that was written since"):
            step()
    assert same_bits(parameters_of(model), after)
    optimizer.restore_weights()
    assert torch.equal(model[3].weight, expected["3.weight"])
    step()
    step()
    model[3].weight.data.mul_(2)
    step()
    optimizer.take_weights()
    step()


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@needs_cuda
@pytest.mark.parametrize("name", MAKERS)
def test_a_captured_graph_steps_as_the_program_does(name):
    model = network(torch.float32).cuda()
    optimizer = DOConvOptimizer(MAKERS[name](model.parameters()), model)
    train(model, optimizer, SHAPE, 3)
    backward(model, next(batches(model, SHAPE)))
    others, expected = copy.deepcopy((model, optimizer))
    for parameter, other in zip(model.parameters(), others.parameters(), strict=True):
        other.grad = parameter.grad.clone()
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        optimizer.step()
    for _ in range(3):
        graph.replay()
        expected.step()
    for parameter, other in zip(model.parameters(), others.parameters(), strict=True):
        torch.testing.assert_close(parameter, other, rtol=0, atol=1e-6)
    written = model[3].weight.data.mul_(2).clone()
    graph.replay()
    assert torch.equal(model[3].weight, written)


@needs_cuda
def test_a_write_through_data_is_noticed_one_step_later_on_a_gpu():
    model = network(torch.float32).cuda()
    optimizer = DOConvOptimizer(MAKERS["sgd"](model.parameters()), model)
    train(model, optimizer, SHAPE, 2)
    written = model[3].weight.data.mul_(2).clone()
    train(model, optimizer, SHAPE, 1)
    assert torch.equal(model[3].weight, written)
    with pytest.raises(DOConvError, match="layer '3' that was written since"):
        train(model, optimizer, SHAPE, 1)
