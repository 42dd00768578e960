"""Quantising: what of PyTorch's tools refuses a layer of ours, and what a folded network loses."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.ao import quantization
from torch.nn.utils import fusion

from do_conv import DOConvError
from do_conv.demo import digits
from do_conv.torch import DepthwiseSeparableConv2d, DOConv2d, DOConvTranspose2d, convert, fold
from examples.quantise import torch_digits

MATCH = r"must be folded before it is prepared .* a {} with a qconfig; call fold\(model\) and"


@pytest.fixture(autouse=True)
def _deprecated():
    """PyTorch says of its own quantisation that it will move."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def stubbed(layer):
    return nn.Sequential(quantization.QuantStub(), layer, quantization.DeQuantStub())


def prepared(layer, in_training):
    model = stubbed(layer)
    if in_training:
        model.qconfig = quantization.get_default_qat_qconfig("fbgemm")
        return quantization.prepare_qat(model.train())
    model.qconfig = quantization.get_default_qconfig("fbgemm")
    return quantization.prepare(model.eval())


@pytest.mark.filterwarnings("ignore:.*reduce_range:UserWarning")
@pytest.mark.parametrize("in_training", [False, True])
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: DOConv2d(3, 4, 3), "DOConv2d"),
        (lambda: DOConv2d(3, 4, 3, composition="feature"), "DOConv2d"),
        (lambda: DepthwiseSeparableConv2d(3, 4, 3), "DepthwiseSeparableConv2d"),
        (lambda: convert(Named(3, 4, 3)), "DONamed"),
    ],
)
def test_exception_eager_mode_before_folding(make, kind, in_training, x):
    model = prepared(make(), in_training)
    with pytest.raises(DOConvError, match=MATCH.format(kind)):
        model(x)


class Named(nn.Conv2d):
    """A subclass with a forward pass of its own."""

    def forward(self, x):
        return self._conv_forward(x, self.weight, self.bias)


def test_exception_a_transposed_layer_is_refused_by_ours(x):
    layer = DOConvTranspose2d(3, 4, 3)
    layer.qconfig = quantization.get_default_qconfig("fbgemm")
    with pytest.raises(DOConvError, match=MATCH.format("DOConvTranspose2d")):
        layer(x)


def test_a_layer_that_is_to_stay_in_float_does(x):
    model = nn.Sequential(DOConv2d(3, 4, 3), stubbed(nn.Conv2d(4, 4, 3)))
    model.qconfig = quantization.get_default_qconfig("fbgemm")
    model[0].qconfig = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ready = quantization.prepare(model.eval())
        ready(x)
        quantised = quantization.convert(ready)
    assert type(quantised[0]) is DOConv2d
    assert "quantized" in type(quantised[1][1]).__module__
    assert quantised(x).shape == (2, 4, 4, 4)


@pytest.mark.parametrize("fuse", [quantization.fuse_modules, quantization.fuse_modules_qat])
def test_exception_pytorchs_fusion_of_modules_refuses_ours(fuse):
    block = nn.Sequential(DOConv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    block.train(fuse is quantization.fuse_modules_qat)
    with pytest.raises(AssertionError, match="did not find fuser method"):
        fuse(block, [["0", "1", "2"]])


def test_the_kernel_that_readers_of_weight_lose(x, trained):
    """What cannot be noticed from a layer: the table in the docs says so."""
    torch.manual_seed(0)
    block = trained(nn.Sequential(DOConv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4))).eval()
    expected, apart = block(x), {}
    rebuilt = nn.Conv2d(3, 4, 3, bias=False)
    rebuilt.weight.data.copy_(block[0].weight)
    apart["copied"] = block[1](rebuilt(x))
    mkldnn = torch.utils.mkldnn.to_mkldnn(nn.Sequential(block[0]))
    apart["mkldnn"] = block[1](mkldnn(x.to_mkldnn()).to_dense())
    scale = block[1].weight / (block[1].running_var + block[1].eps).sqrt()
    fused = nn.Conv2d(3, 4, 3)
    fused.weight.data.copy_(block[0].weight * scale.reshape(-1, 1, 1, 1))
    fused.bias.data.copy_(block[1].bias - block[1].running_mean * scale)
    apart["fused"] = fused(x)
    product = 0.1 * torch.randn_like(block[0].weight)  # of a LoRA
    branch = block[1](block[0](x) + nn.functional.conv2d(x, product))
    merged = copy.deepcopy(block)
    merged[0].weight.data.add_(product)
    for name, out in apart.items():
        assert (out - expected).abs().max() > 0.2 * expected.abs().max(), name
    assert (merged(x) - branch).abs().max() > 0.2 * branch.abs().max()

    folded = fold(block)
    merged = copy.deepcopy(folded)
    merged[0].weight.data.add_(product)
    torch.testing.assert_close(merged(x), branch)
    mkldnn = torch.utils.mkldnn.to_mkldnn(nn.Sequential(folded[0]))
    torch.testing.assert_close(folded[1](mkldnn(x.to_mkldnn()).to_dense()), expected)
    torch.testing.assert_close(fusion.fuse_conv_bn_eval(*folded)(x), expected)


def test_a_folded_network_loses_no_more_in_int8_than_its_plain_twin():
    data = digits.load()
    # After six epochs seeds still differ by four points.
    found = torch.tensor([torch_digits.run(data, seed, 8) for seed in range(2)]).mean(0)
    plain, folded = found
    assert (found > 96).all()
    # Of both, after training and in it; an image is 0.22 %, and four are within the spread.
    assert ((folded[0] - folded[1:]) - (plain[0] - plain[1:]) < 0.9).all()


def test_the_weights_in_int8_are_those_of_the_composed_kernels(trained):
    """Before folding, graph mode quantises what follows the composition; both are near."""
    torch.manual_seed(0)
    data = digits.load()
    model = trained(convert(torch_digits.network())).eval()
    x = torch.from_numpy(data.test_x[:64])
    expected = model(x)
    quantised = torch_digits.after_training(fold(model), data)
    kernel, composed = quantised.get_submodule("0").weight(), model[0].composed_weight()
    scales = kernel.q_per_channel_scales().reshape(-1, 1, 1, 1)
    norm = model[1]
    factor = (norm.weight / (norm.running_var + norm.eps).sqrt()).reshape(-1, 1, 1, 1)
    apart = (kernel.dequantize() - composed * factor).abs()
    assert (apart <= 0.51 * scales).all()  # half a step of int8
    assert (quantised(x) - expected).abs().max() < 0.1 * expected.abs().max()
