"""OpenMMLab: `conv_cfg` and an optimizer constructor, in mmengine's `Runner`."""

import pytest

pytest.importorskip("mmengine")
pytest.importorskip("mmcv")

import mmcv.cnn
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner
from torch import nn

from do_conv import DOConvError
from do_conv.torch import DOConv2d, DOConvOptimizer, fold

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
IMPORTS = {"imports": ["do_conv.integrations.mmengine"], "allow_failed_imports": False}
X = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LAYERS = {"layers": {"conv_cfg": {"type": "DOConv"}}, "optimizer": {}}


class Network(BaseModel):
    """As OpenMMLab's are: modules of convolution, normalization and activation."""

    def __init__(self, conv_cfg=None):
        super().__init__()
        norm = {"type": "BN"}
        self.stem = mmcv.cnn.ConvModule(3, 8, 3, padding=1, conv_cfg=conv_cfg, norm_cfg=norm)
        self.wide = mmcv.cnn.ConvModule(8, 8, (1, 3), conv_cfg=conv_cfg, groups=2, norm_cfg=norm)
        self.head = mmcv.cnn.ConvModule(8, 4, 1, conv_cfg=conv_cfg, act_cfg=None)

    def forward(self, x, mode="tensor"):
        x = torch.stack(x) if isinstance(x, list) else x
        out = self.head(self.wide(self.stem(x))).mean((2, 3))
        return {"loss": (out - 1).square().mean()} if mode == "loss" else out


def data():
    return [{"x": x} for x in X]


MODELS.register_module("DOConvTestNetwork", module=Network, force=True)
DATASETS.register_module("DOConvTestData", module=data, force=True)


def runner(folder, door, **changes):
    torch.manual_seed(0)
    wrapper = {"optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.9}}
    if door == "optimizer":
        wrapper = {"constructor": "DOConvOptimWrapperConstructor", **wrapper}
    config = Config(
        {
            "custom_imports": IMPORTS,
            "model": {"type": "DOConvTestNetwork", **LAYERS[door]},
            "work_dir": str(folder),
            "train_dataloader": {
                "dataset": {"type": "DOConvTestData"}, "batch_size": 4,
                "sampler": {"type": "DefaultSampler", "shuffle": False},
            },
            "train_cfg": {"by_epoch": True, "max_epochs": 2},
            "optim_wrapper": wrapper,
            "param_scheduler": {"type": "MultiStepLR", "milestones": [1], "by_epoch": True},
            "default_hooks": {"checkpoint": {"type": "CheckpointHook", "interval": 1}},
            "default_scope": "mmengine",
            "experiment_name": door,
            "log_level": "ERROR",
            **changes,
        }
    )  # fmt: skip
    config.dump(folder.with_suffix(".py"))
    # Reading the file imports what `custom_imports` names.
    return Runner.from_cfg(Config.fromfile(folder.with_suffix(".py")))


@pytest.fixture
def config_imports():
    import do_conv.integrations.mmengine  # noqa: F401


@pytest.mark.usefixtures("config_imports")
def test_a_kernel_of_one_position_stays_plain():
    build = mmcv.cnn.build_conv_layer
    for kernel in (1, (1, 1)):
        assert type(build({"type": "DOConv"}, 3, 4, kernel)) is nn.Conv2d
    layer = build({"type": "DOConv", "d_mul": 12}, 4, 6, (3, 1), groups=2, bias=False)
    assert isinstance(layer, DOConv2d)
    assert (layer.spec.d_mul, layer.groups, layer.bias) == (12, 2, None)
    for rank, out in ((1, (6, 4, 3)), (3, (6, 4, 3, 3, 3))):
        layer = build({"type": f"DOConv{rank}d"}, 4, 6, 3)
        assert tuple(fold(layer).weight.shape) == out
    with pytest.raises(DOConvError, match="d_mul"):
        build({"type": "DOConv", "d_mul": 2}, 3, 4, 3)


def test_both_doors_train_the_same_and_fold(tmp_path):
    runs = {door: runner(tmp_path / door, door) for door in LAYERS}
    layers, plain = (run.model for run in runs.values())
    assert isinstance(layers.stem.conv, DOConv2d)
    assert type(layers.head.conv) is type(plain.stem.conv) is nn.Conv2d
    for run in runs.values():
        torch.manual_seed(1)  # mmengine initializes the weights when it starts to train
        run.train()
    assert isinstance(runs["optimizer"].optim_wrapper.optimizer, DOConvOptimizer)
    assert set(runs["optimizer"].optim_wrapper.optimizer.kernels) == {"stem.conv", "wide.conv"}
    assert layers.stem.conv.depthwise_delta.any()
    folded = fold(layers.eval())
    assert torch.equal(folded(X), layers(X))
    torch.testing.assert_close(plain.eval()(X), folded(X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("door", LAYERS)
def test_resuming_is_exact_with_a_seed(door, tmp_path, monkeypatch):
    """The sampler takes the seed; the run that is resumed had the same number of epochs."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    dataset = {"type": "DOConvTestData"}
    options = {
        "train_dataloader": {
            "dataset": dataset, "batch_size": 4, "sampler": {"type": "DefaultSampler"},
        },
        "train_cfg": {"by_epoch": True, "max_epochs": 3},
        "randomness": {"seed": 0},
    }  # fmt: skip
    whole = runner(tmp_path / "whole", door, **options)
    whole.train()
    checkpoint = str(tmp_path / "whole" / "epoch_2.pth")
    resumed = runner(tmp_path / "resumed", door, load_from=checkpoint, resume=True, **options)
    resumed.train()
    expected, found = whole.model.state_dict(), resumed.model.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    assert not torch.equal(
        torch.load(checkpoint)["state_dict"]["head.conv.weight"], expected["head.conv.weight"]
    )
