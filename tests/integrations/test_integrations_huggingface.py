"""Hugging Face: the Trainer's callback, accelerate, and folded safetensors, all offline."""

from importlib.util import find_spec

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")

from huggingface_hub import PyTorchModelHubMixin
from safetensors.torch import load_file
from torch import nn

from do_conv import DOConvError, MissingFrameworkError
from do_conv.integrations.huggingface import DOConvCallback, save_folded
from do_conv.torch import DOConv2d, DOConvOptimizer, convert, fold

MISSING = [name for name in ("transformers", "accelerate") if find_spec(name) is None]
needs_tools = pytest.mark.skipif(
    bool(MISSING), reason=f"not installed: {', '.join(MISSING)}: make test-integrations"
)
pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' advice
RANDOM = torch.Generator().manual_seed(0)
IMAGES = torch.randn(16, 3, 16, 16, generator=RANDOM)
DATA = [{"pixel_values": image, "labels": i % 3} for i, image in enumerate(IMAGES)]


class Hub(nn.Module, PyTorchModelHubMixin):
    """A model of the hub, with a kernel that two layers share."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3)
        self.second, self.third = nn.Conv2d(width, width, 3), nn.Conv2d(width, width, 3)
        self.third.weight = self.second.weight

    def forward(self, x):
        return self.third(self.second(self.first(x)))


def moved(model):
    """The model, with D' as after some training."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("depthwise_delta"):
                parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    return model


def test_a_folded_model_is_saved_for_the_hub_and_read_back(tmp_path):
    model = moved(convert(Hub(width=5)))
    save_folded(model, tmp_path)
    plain = Hub.from_pretrained(tmp_path, local_files_only=True)
    assert plain.first.out_channels == 5
    assert type(plain.first) is nn.Conv2d
    assert torch.equal(plain(IMAGES), model(IMAGES))
    assert not any("delta" in name for name in load_file(tmp_path / "model.safetensors"))


def test_any_other_model_becomes_a_file_of_its_folded_weights(tmp_path):
    model = moved(convert(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())))
    save_folded(model, tmp_path / "deep" / "folder")
    state = load_file(tmp_path / "deep" / "folder" / "model.safetensors")
    assert state.keys() == {"0.weight", "0.bias"}
    assert torch.equal(state["0.weight"], model[0].composed_weight())


def test_a_plain_model_is_an_error_and_nothing_is_written(tmp_path):
    with pytest.raises(DOConvError, match="must have a layer with a depthwise kernel"):
        save_folded(nn.Sequential(nn.Conv2d(3, 4, 3)), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(find_spec("transformers") is not None, reason="transformers is installed")
def test_without_transformers_the_callback_is_one_sentence():
    with pytest.raises(MissingFrameworkError, match=r"needs transformers.*do-conv\[huggingface\]"):
        DOConvCallback()


def network():
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    config = ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=3
    )
    return ResNetForImageClassification(config)


def trainer_of(folder, model, *callbacks, epochs=2, **options):
    from transformers import Trainer, TrainingArguments

    args = TrainingArguments(
        str(folder), num_train_epochs=epochs, per_device_train_batch_size=4, learning_rate=1e-1,
        save_strategy="epoch", save_total_limit=2, report_to=[], disable_tqdm=True, use_cpu=True,
        lr_scheduler_type="constant", logging_strategy="no", optim="sgd",
        max_grad_norm=0.0,  # it would measure the gradients of W' with the optimizer
    )  # fmt: skip
    return Trainer(model, args, train_dataset=DATA, callbacks=list(callbacks), **options)


def folded_of(model):
    return fold(model) if any(isinstance(m, DOConv2d) for m in model.modules()) else model


def trained(folder, door, *, epochs=2, resume=None, **options):
    model = network()
    if door == "layers":
        trainer = trainer_of(folder, model, DOConvCallback(**options), epochs=epochs)
    else:
        optimizer = torch.optim.SGD(model.parameters(), 1e-1)
        both = (DOConvOptimizer(optimizer, model), None)
        trainer = trainer_of(folder, model, epochs=epochs, optimizers=both)
    trainer.train(resume_from_checkpoint=resume)
    return model


@needs_tools
def test_both_doors_train_alike_and_not_as_a_plain_model(tmp_path):
    layers, optimizer = (trained(tmp_path / door, door) for door in ("layers", "optimizer"))
    plain = network()
    trainer_of(tmp_path / "plain", plain).train()
    outputs, same, other = (
        folded_of(model).eval()(IMAGES).logits for model in (layers, optimizer, plain)
    )
    torch.testing.assert_close(outputs, same, rtol=0, atol=1e-4)
    assert (outputs - other).abs().max() > 1e-2


@needs_tools
def test_the_folded_model_is_in_each_checkpoint(tmp_path):
    from transformers import ResNetForImageClassification

    model = trained(tmp_path, "layers", epochs=3)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-8", "checkpoint-12"}
    plain = ResNetForImageClassification.from_pretrained(tmp_path / "checkpoint-12" / "folded")
    assert not any(isinstance(module, DOConv2d) for module in plain.modules())
    assert torch.equal(plain.eval()(IMAGES).logits, model.eval()(IMAGES).logits)
    trained(tmp_path / "without", "layers", save_folded=False)
    assert not list((tmp_path / "without").glob("*/folded"))


@needs_tools
@pytest.mark.parametrize("door", ["layers", "optimizer"])
def test_resuming_is_exact(door, tmp_path):
    whole = trained(tmp_path / "whole", door)
    half = str(tmp_path / "whole" / "checkpoint-4")
    resumed = trained(tmp_path / "resumed", door, resume=half)
    state, same = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(state[name], same[name]) for name in state)


@needs_tools
def test_an_optimizer_of_the_plain_model_is_an_error(tmp_path):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(DOConvError, match="received a Trainer with a SGD of the plain one"):
        trainer_of(tmp_path, model, DOConvCallback(), optimizers=(optimizer, None))


@needs_tools
def test_a_callback_that_comes_late_is_an_error(tmp_path):
    trainer = trainer_of(tmp_path, network())
    trainer.add_callback(DOConvCallback())
    with pytest.raises(DOConvError, match="or a model that model_init made"):
        trainer.train()


@needs_tools
@pytest.mark.parametrize("door", ["layers", "optimizer"])
def test_accelerate_trains_saves_and_resumes(door, tmp_path):
    from accelerate import Accelerator

    def prepared():
        accelerator = Accelerator(cpu=True)
        model = convert(network()) if door == "layers" else network()
        optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
        if door == "optimizer":
            optimizer = DOConvOptimizer(optimizer, model)
        return accelerator, *accelerator.prepare(model, optimizer)

    def steps(accelerator, model, optimizer, count=2):
        for _ in range(count):
            optimizer.zero_grad()
            loss = model(IMAGES, labels=torch.arange(16) % 3).loss
            accelerator.backward(loss)
            optimizer.step()
        return accelerator.unwrap_model(model)

    accelerator, model, optimizer = prepared()
    steps(accelerator, model, optimizer)
    accelerator.save_state(tmp_path / "state")
    whole = steps(accelerator, model, optimizer)
    again, model, optimizer = prepared()
    again.load_state(tmp_path / "state")
    resumed = steps(again, model, optimizer)
    state, same = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(state[name], same[name]) for name in state)
    if door == "layers":
        plain = save_folded(model, tmp_path / "folded")
        read = type(plain).from_pretrained(tmp_path / "folded")
        assert torch.equal(read.eval()(IMAGES).logits, resumed.eval()(IMAGES).logits)
