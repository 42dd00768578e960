"""The fine-tuning examples, on few images, from weights of the person's own."""

import runpy
from pathlib import Path

import cpu_torchvision  # noqa: F401  # before timm
import pytest
import timm
import torch

from do_conv import DOConvError

EXAMPLES = Path(__file__).parents[2] / "examples" / "fine_tune"


def test_torch(tmp_path, capsys):
    plain = timm.create_model("resnet18", num_classes=10, in_chans=1)
    torch.save(plain.state_dict(), tmp_path / "plain.pth")
    main = runpy.run_path(str(EXAMPLES / "torch_digits.py"))["main"]
    arguments = ["--epochs", "1", "--steps", "2", "--weights", str(tmp_path / "plain.pth")]
    assert main([*arguments, "--out", str(tmp_path / "folded.pth")]) == 0
    said = capsys.readouterr().out
    assert "17 of 20 convolutions" in said
    assert "epoch 1: test accuracy" in said
    assert "largest difference of 0.0e+00" in said
    folded = torch.load(tmp_path / "folded.pth", weights_only=True)
    assert list(folded) == list(plain.state_dict())
    assert not torch.equal(folded["conv1.weight"], plain.conv1.weight)


def test_exception_an_output_that_cannot_be_written(tmp_path):
    main = runpy.run_path(str(EXAMPLES / "torch_digits.py"))["main"]
    with pytest.raises(DOConvError, match="an output path must be writable"):
        main(["--epochs", "0", "--out", str(tmp_path / "not there" / "folded.pth")])
