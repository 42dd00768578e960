"""Networks of PyTorch's zoos: converted to the last bit, trained, folded to the last bit."""

import importlib.util
from pathlib import Path

from cpu_torchvision import torchvision  # isort: skip  # before timm
import pytest
import segmentation_networks
import timm
import torch

from do_conv.torch import DOConvOptimizer, convert, fold, plan

STEPS = 5
# The first few are looked at each time.
QUICK = {
    "resnet18", "tf_efficientnet_b0", "nf_resnet26", "repvgg_a0", "convnext_atto", "xception41",
    "mobilenet_v3_small", "shufflenet_v2_x0_5",
}  # fmt: skip
# A small network of each of timm's families.
TIMM = (Path(__file__).parent / "timm_networks.txt").read_text(encoding="utf-8").split()
SEGMENTATION = ["deeplabv3_mobilenet_v3_large", "deeplabv3_resnet50", "deeplabv3_resnet101"]
CLASSIFIERS = torchvision.models.list_models(module=torchvision.models)


def timm_network(name):
    """A network and the shape of images as small as it takes."""
    model = timm.create_model(name, num_classes=10)
    size = 96 if "inception" in name or "nasnet" in name else 64
    fixed = model.default_cfg.get("fixed_input_size") or model.default_cfg.get("min_input_size")
    size = model.default_cfg["input_size"][-1] if fixed else size
    return model, (2, 3, size, size)


def torchvision_network(name):
    model = torchvision.models.get_model(name, weights=None, **(
        {"weights_backbone": None} if name in SEGMENTATION else {}
    ))  # fmt: skip
    sizes = {"vit": 224, "maxvit": 224, "inception": 299, "swin": 64}
    size = next((size for start, size in sizes.items() if name.startswith(start)), 64)
    return model, (2, 3, size, size)


def network(zoo, name):
    if importlib.util.find_spec(zoo) is None:
        pytest.skip(f"{zoo} is not installed")
    if zoo in segmentation_networks.NAMES:
        return segmentation_networks.network(zoo, name)
    return (timm_network if zoo == "timm" else torchvision_network)(name)


def entries():
    zoos = {"timm": TIMM, "torchvision": CLASSIFIERS + SEGMENTATION, **segmentation_networks.NAMES}
    for zoo, names in zoos.items():
        for name in names:
            marks = () if name in QUICK else (pytest.mark.slow_network,)
            yield pytest.param(zoo, name, id=f"{zoo}-{name}", marks=marks)


def tensors(out):
    """The tensors a network gives: one, several, or a dict of them."""
    if isinstance(out, torch.Tensor):
        return [out]
    return [t for one in (out.values() if isinstance(out, dict) else out) for t in tensors(one)]


def run(model, x):
    with torch.no_grad():
        return tensors(model(x))


def worst(found, expected):
    pairs = list(zip(found, expected, strict=True))
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("zoo", "name"), list(entries()))
def test_converted_trained_and_folded(zoo, name, zoo_row):
    torch.manual_seed(0)
    plain, shape = network(zoo, name)
    plain.eval()
    for parameter in plain.parameters():
        # A head that starts at zero gives nothing to compare, and trains nothing below it.
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    x = torch.randn(shape)
    planned = plan(plain)
    model = convert(plain)
    converting = worst(run(model, x), run(plain, x))
    assert converting == 0

    model.train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    for _ in range(STEPS):
        optimizer.zero_grad()
        sum(out.square().mean() for out in tensors(model(x))).backward()
        optimizer.step()
    # Of some networks a part is not used in this pass; of all others every D moves.
    trained = [p for n, p in model.named_parameters() if n.endswith("delta") and p.grad is not None]
    assert all(p.abs().max() > 0 for p in trained)
    assert trained

    model.eval()
    folded = fold(model)
    folding = worst(run(folded, x), run(model, x))
    assert folding == 0
    assert [type(one) for one in folded.modules()] == [type(one) for one in plain.modules()]
    assert [(n, p.shape) for n, p in folded.state_dict().items()] == [
        (n, p.shape) for n, p in plain.state_dict().items()
    ]
    if zoo in segmentation_networks.NAMES:
        kernels = DOConvOptimizer(torch.optim.SGD(plain.parameters(), 0.1), plain).kernels
        assert set(kernels) == {row.name for row in planned.converted}
        exported = torch.export.export(folded, (x,)).module()
        assert worst(run(exported, x), run(folded, x)) == 0
    left = len(planned.left)
    zoo_row(
        **{"zoo": zoo, "network": name, "converted": len(planned.converted), "left": left},
        **{"after converting": converting, "after training and folding": folding},
    )
