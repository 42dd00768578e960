"""Convolutions with a forward pass of their own, and networks that re-parameterise themselves."""

import copy
import pickle
import threading

import pytest
import timm
import torch
from timm.layers import Conv2dSame, ScaledStdConv2d, StdConv2d, StdConv2dSame
from timm.utils.model import reparameterize_model
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils.fusion import fuse_conv_bn_eval

from do_conv.torch import convert, fold


class Named(nn.Conv2d):
    """A subclass that only has another name."""


class Wider(nn.Conv2d):
    """A subclass that changes the convolution alone, which is given the weight."""

    def _conv_forward(self, input, weight, bias):
        return super()._conv_forward(nn.functional.pad(input, (1, 1, 1, 1)), weight, bias)


SUBCLASSES = [
    pytest.param(lambda: Conv2dSame(3, 6, 3, stride=2), id="same"),
    pytest.param(lambda: StdConv2d(3, 6, 3), id="standardised"),
    pytest.param(lambda: StdConv2dSame(3, 6, 3, stride=2, padding="SAME"), id="standardised-same"),
    pytest.param(lambda: ScaledStdConv2d(3, 6, 3), id="scaled"),
    pytest.param(lambda: Named(3, 6, 3), id="named"),
    pytest.param(lambda: Wider(3, 6, 3), id="wider"),
]


@pytest.mark.parametrize("make", SUBCLASSES)
def test_a_subclass_is_converted_and_comes_back(make, x, trained):
    layer = make()
    converted = convert(layer)
    assert isinstance(converted, type(layer))
    assert torch.equal(converted(x), layer(x))
    trained(converted)
    expected = converted(x)
    assert not torch.allclose(expected, layer(x))
    assert converted.weight is converted._parameters["weight"]
    for folded in (converted.fold(), fold(converted)):
        assert type(folded) is type(layer)
        assert torch.equal(folded(x), expected)
    for again in (copy.deepcopy(converted), pickle.loads(pickle.dumps(converted))):
        assert torch.equal(again(x), expected)
        assert isinstance(again, type(layer))


def test_a_subclass_trains(x):
    converted = convert(StdConv2d(3, 6, 3))
    converted(x).square().mean().backward()
    assert converted.depthwise_delta.grad.abs().max() > 0
    assert converted.weight.grad.abs().max() > 0


def test_a_failing_forward_pass_leaves_w_behind(x):
    converted = convert(Conv2dSame(3, 6, 3))
    with pytest.raises(RuntimeError):
        converted(x[:, :2])
    assert converted.weight is converted._parameters["weight"]


def largest(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("name", ["repvgg_a0", "mobileone_s0", "resnet18"])
def test_timms_own_folding_of_blocks_keeps_d(name, trained):
    torch.manual_seed(0)
    model = trained(convert(timm.create_model(name, num_classes=4))).eval()
    x = torch.randn(1, 3, 32, 32)
    expected = model(x)
    folded = reparameterize_model(model)
    assert largest(folded(x), expected) < 1e-5
    assert not any("depthwise_delta" in key for key in folded.state_dict())
    assert torch.equal(model(x), expected)


class ConvNorm(nn.Module):
    """A convolution, its normalisation, and a way to do without the second."""

    def __init__(self, *sizes, **options):
        super().__init__()
        self.conv = nn.Conv2d(*sizes, 3, padding=1, bias=False, **options)
        self.norm = nn.BatchNorm2d(sizes[1])

    def forward(self, x):
        return nn.functional.silu(self.norm(self.conv(x)))

    def forward_fused(self, x):
        return nn.functional.silu(self.conv(x))


def in_place(block):
    """Scales what is there."""
    scale = block.norm.weight / (block.norm.running_var + block.norm.eps).sqrt()
    block.conv.weight.data *= scale.reshape(-1, 1, 1, 1)
    block.conv.bias = nn.Parameter(block.norm.bias - block.norm.running_mean * scale)


def rebuilding(block):
    """Makes a new plain layer out of the old one's `weight`."""
    plain = nn.Conv2d(
        block.conv.in_channels, block.conv.out_channels, 3, block.conv.stride, 1, bias=True
    )
    scale = block.norm.weight / (block.norm.running_var + block.norm.eps).sqrt()
    plain.weight = nn.Parameter(block.conv.weight * scale.reshape(-1, 1, 1, 1))
    plain.bias = nn.Parameter(block.norm.bias - block.norm.running_mean * scale)
    block.conv = plain


class Detector(nn.Module):
    """Like YOLO: a backbone, two heads, and a method that fuses every block."""

    def __init__(self, fuser):
        super().__init__()
        self.fuser = fuser
        self.backbone = nn.Sequential(ConvNorm(3, 6, stride=2), ConvNorm(6, 6))
        self.neck = ConvNorm(6, 8, stride=2)
        self.heads = nn.ModuleList([nn.Conv2d(6, 5, 1), nn.Conv2d(8, 5, 3, padding=1)])

    def forward(self, x):
        x = self.backbone(x)
        return [self.heads[0](x), self.heads[1](self.neck(x))]

    def fuse(self):
        for block in [m for m in self.modules() if isinstance(m, ConvNorm)]:
            self.fuser(block)
            block.forward = block.forward_fused
        return self


@pytest.mark.parametrize("fuser", [in_place, rebuilding])
def test_a_detectors_own_fusion_keeps_d(fuser, x, trained):
    torch.manual_seed(0)
    model = trained(convert(Detector(fuser)))
    model(x)
    model.eval()
    expected = model(x)
    fused = copy.deepcopy(model).fuse()
    for found, one in zip(fused(x), expected, strict=True):
        assert largest(found, one) < 1e-5
    assert not any("depthwise_delta" in key for key in fused.state_dict())


@pytest.mark.parametrize("name", ["reparameterize", "switch_to_deploy", "fuse", "fuse_model"])
def test_whatever_the_method_is_called_that_reads_weights(name, x, trained):
    class Own(nn.Sequential):
        pass

    def read(self):
        return self[0].weight.detach().clone()

    setattr(Own, name, read)
    model = trained(convert(Own(nn.Conv2d(3, 6, 3))))
    kernel = model[0].composed_weight()
    assert torch.equal(getattr(model, name)(), kernel)
    assert type(model[0]) is nn.Conv2d


def test_a_detector_folds_without_a_trace(x, trained):
    model = Detector(rebuilding).eval()
    folded = fold(trained(convert(model)))
    assert [vars(one).keys() for one in folded.modules()] == [
        vars(one).keys() for one in model.modules()
    ]


def test_pytorchs_own_fusion_before_and_after_folding(x, trained):
    block = trained(convert(ConvNorm(3, 6))).eval()
    block.norm.running_var.uniform_(0.5, 2)
    expected = block.norm(block.conv(x))
    for conv in (block.conv, block.conv.fold()):
        assert largest(fuse_conv_bn_eval(conv, block.norm)(x), expected) < 1e-5


class Restoration(nn.Module):
    """Image restoration: a residual network that scales by a transposed layer and a shuffle."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Sequential(*[ConvNorm(8, 8) for _ in range(2)])
        self.up = nn.ConvTranspose2d(8, 8, 4, stride=2, padding=1)
        self.tail = nn.Sequential(nn.Conv2d(8, 12, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, x):
        x = self.head(x)
        return self.tail(self.up(x + self.body(x)))


def test_an_image_restoration_network(x):
    torch.manual_seed(0)
    plain = Restoration().eval()
    model = convert(plain)
    assert torch.equal(model(x), plain(x))
    assert model(x).shape == (2, 3, 32, 32)
    target = torch.rand(2, 3, 32, 32)
    optimizer = torch.optim.SGD(model.train().parameters(), 0.05)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert torch.equal(fold(model.eval())(x), model(x))


class Own(nn.Conv2d):
    def forward(self, x):
        return nn.functional.conv2d(x, self.weight, self.bias)


def test_threads_share_layers_with_a_forward_pass_of_their_own():
    torch.manual_seed(0)
    model = convert(nn.Sequential(Own(8, 8, 3), nn.ReLU(), Own(8, 8, 3))).eval()
    for layer in model[::2]:
        nn.init.normal_(layer.depthwise_delta, std=0.1)
    x, found = torch.randn(4, 8, 32, 32), []
    with torch.no_grad():
        expected = model(x)

    def serve():
        with torch.no_grad():
            for _ in range(100):
                try:
                    found.append(torch.equal(model(x), expected))
                except (KeyError, AttributeError) as error:
                    found.append(error)

    threads = [threading.Thread(target=serve) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 400


@pytest.mark.filterwarnings("ignore:a weight that is pruned")
def test_a_forward_pass_of_its_own_leaves_a_pruned_weight():
    layer, x = convert(Own(4, 8, 3)), torch.randn(2, 4, 6, 6)
    prune.l1_unstructured(layer, "weight", 0.5)
    pruned = layer.weight
    for _ in range(2):
        torch.testing.assert_close(layer(x), nn.functional.conv2d(x, pruned, layer.bias))
        assert torch.equal(layer.weight, pruned)
    prune.l1_unstructured(layer, "weight", 0.5)
    assert (layer.weight == 0).sum() == layer.weight.numel() * 3 // 4
