"""PyTorch's own tests of its convolutions hold for our layers in their place."""

import copy
import io

import pytest
import torch
import torch_own_tests as own
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.testing._internal import common_nn

# What our layers do not offer of what PyTorch tests, and why.
NOT_OFFERED = {
    torch.complex32: "PyTorch has no batched matrix product of this type on a CPU",
}

NEW_MODULE_TESTS = own.new_module_tests()


def close(found, expected):
    """Whether two tensors are equal, but for the order in which a precision sums."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    scale = max(1.0, expected.abs().max().item()) if expected.numel() else 1.0
    bound = 100 * torch.finfo(expected.dtype).eps * scale
    torch.testing.assert_close(found, expected, rtol=0, atol=bound)


# PyTorch differentiates a batch of no images in single precision, of which it warns.
@pytest.mark.filterwarnings("ignore:Input #:UserWarning")
@pytest.mark.parametrize("kind", own.KINDS)
@pytest.mark.parametrize("name", NEW_MODULE_TESTS)
def test_new_module(name, kind, monkeypatch):
    """An output and its gradients, first and second; other strides of memory; pickling; dtypes."""
    torch.manual_seed(0)
    arguments = dict(NEW_MODULE_TESTS[name])
    module_name = arguments.pop("module_name", None)

    def test_in(namespace):
        monkeypatch.setattr(common_nn, "nn", namespace)
        one = {"constructor": getattr(namespace, module_name)} if module_name else {}
        return common_nn.NewModuleTest(**one, **copy.deepcopy(arguments))

    plain = test_in(nn)
    layer_of_plain = plain.constructor(*plain.constructor_args)
    test = test_in(own.namespace(kind))
    test(own.Case())

    layer = test.constructor(*test.constructor_args)
    assert type(layer) is own.LAYERS[type(layer_of_plain).__name__]
    x = torch.randn_like(test._get_input(), dtype=torch.float64)
    close(layer.double()(x), own.like(layer_of_plain.double(), layer)(x))


def _module_inputs():
    for name, info in own.module_infos().items():
        for dtype in info.supported_dtypes("cpu"):
            reason = NOT_OFFERED.get(dtype)
            marks = [pytest.mark.skip(reason=reason)] if reason else []
            label = f"{name}-{str(dtype).removeprefix('torch.')}"
            yield pytest.param(info, dtype, id=label, marks=marks)


MODULE_INPUTS = list(_module_inputs())


@pytest.fixture(params=own.KINDS)
def layers(request):
    """A function of a module's name and input: our layer, the plain one with W', the arguments."""

    def make(info, dtype, given):
        construct, forward = given.constructor_input, given.forward_input
        name = info.module_cls.__name__
        torch.manual_seed(0)
        options = {**construct.kwargs, "dtype": dtype}
        layer = own.made(name, request.param, *construct.args, **options)
        plain = info.module_cls(*construct.args, **options)
        layer(*forward.args, **forward.kwargs)
        plain(*forward.args, **forward.kwargs)
        return layer, own.like(plain, layer)

    return make


def _inputs(info, dtype, *, requires_grad=False):
    torch.manual_seed(0)
    return info.module_inputs_func(
        info, device="cpu", dtype=dtype, requires_grad=requires_grad, training=True
    )


@pytest.mark.parametrize(("info", "dtype"), MODULE_INPUTS)
def test_forward(info, dtype, layers):
    for given in _inputs(info, dtype):
        layer, plain = layers(info, dtype, given)
        arguments, options = given.forward_input.args, given.forward_input.kwargs
        output = layer(*arguments, **options)
        close(output, plain(*arguments, **options))
        if given.reference_fn is not None:
            # A batch of one.
            close(output, given.reference_fn(layer, *arguments, **options))


@pytest.mark.parametrize(("info", "dtype"), MODULE_INPUTS)
def test_pickle_deepcopy_and_state(info, dtype, layers):
    for given in _inputs(info, dtype):
        layer, _ = layers(info, dtype, given)
        (x,) = given.forward_input.args or given.forward_input.kwargs.values()
        expected = layer(x)
        layer._forward_pre_hooks.clear()
        with io.BytesIO() as file:
            torch.save(layer, file)
            file.seek(0)
            assert torch.equal(torch.load(file, weights_only=False)(x), expected)
        other = copy.deepcopy(layer)
        assert torch.equal(other(x), expected)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.zero_()
        assert not torch.equal(other(x), expected)
        other.load_state_dict(layer.state_dict())
        assert torch.equal(other(x), expected)


@pytest.mark.parametrize(("info", "dtype"), MODULE_INPUTS)
def test_factory_arguments(info, dtype):
    """`device` and `dtype` are those of the parameters."""
    for given in _inputs(info, dtype):
        construct = given.constructor_input
        if info.is_lazy:
            continue  # its parameters have no shape to be made in
        name = info.module_cls.__name__
        options = {**construct.kwargs, "dtype": dtype, "device": "meta"}
        layer = own.LAYERS[name](*construct.args, **options)
        assert {(p.device.type, p.dtype) for p in layer.parameters()} == {("meta", dtype)}


@pytest.mark.parametrize(("info", "dtype"), MODULE_INPUTS)
def test_memory_format(info, dtype, layers):
    """Where weights or input are channels-last, the output is as the plain layer's, and so laid.

    Under feature composition it is laid as the pointwise convolution lays it.
    """
    rank = int(info.module_cls.__name__[-2])
    formats = {2: torch.channels_last, 3: torch.channels_last_3d}
    for given in _inputs(info, dtype):
        (x,) = given.forward_input.args or given.forward_input.kwargs.values()
        if rank == 1 or x.ndim != rank + 2:
            continue  # there is no such format
        layer, plain = layers(info, dtype, given)
        for of_weights in (torch.contiguous_format, formats[rank]):
            for one in (layer, plain):
                one.to(memory_format=of_weights)
            for of_input in (torch.contiguous_format, formats[rank]):
                laid = x.contiguous(memory_format=of_input)
                found, expected = layer(laid), plain(laid)
                close(found, expected)
                if layer.composition == "kernel":
                    assert found.stride() == expected.stride()


@pytest.mark.parametrize(("info", "dtype"), MODULE_INPUTS)
def test_gradients(info, dtype, layers):
    """Those of the input and the bias are the plain layer's."""
    for given in _inputs(info, dtype, requires_grad=True):
        (x,) = given.forward_input.args or given.forward_input.kwargs.values()
        pair = layers(info, dtype, given)
        gradients = []
        for one in pair:
            output = one(x)
            cotangent = torch.linspace(-1, 1, output.numel(), dtype=torch.float64)
            cotangent = cotangent.reshape(output.shape).to(dtype)
            gradients.append(torch.autograd.grad(output, [x, one.bias], cotangent))
        for found, expected in zip(*gradients, strict=True):
            close(found, expected)


@pytest.mark.parametrize("name", [name for name in own.LAYERS if not name.startswith("Lazy")])
def test_gradients_of_gradients(name, layers):
    info = own.module_infos()[name]
    for given in _inputs(info, torch.float64, requires_grad=True):
        (x,) = given.forward_input.args or given.forward_input.kwargs.values()
        layer, _ = layers(info, torch.float64, given)
        names, parameters = zip(*layer.named_parameters(), strict=True)

        def run(x, *values, layer=layer, names=names):
            return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

        assert gradcheck(run, (x, *parameters), fast_mode=True)
        assert gradgradcheck(run, (x, *parameters), fast_mode=True)
