"""The stages of training in Tables 4 and 5: pre-training, then fine-tuning, each of either arm.

Between stages a network is plain: weights that were trained with DO-Conv are folded when they are
read, and a network that is to be trained with DO-Conv is given its D afterwards, which changes no
output.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from do_conv import checkpoints

State = dict[str, Tensor]


class Pretrained:
    """The weights of a stage before this one.

    Args:
        path: a file of a state dict, or of a dict that holds one as "model".
        arm: how they were trained; None is do-conv if the file holds a D, in the network or in its
            optimizer, and else plain.

    Attributes:
        state: the plain network's state dict.
        arm: how they were trained.
        digest: of the file.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it cannot be read, or is of an arm that it cannot be of.
    """

    def __init__(self, path: Path, arm: str | None) -> None:
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is not there: --pretrained is a file of weights of PyTorch"
            )
        self.digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        self.state, in_optimizer = _read(path)
        has_d = any(name.endswith("depthwise_delta") for name in self.state)
        if (has_d or in_optimizer) and arm == "plain":
            raise ValueError(f"{path} holds weights of DO-Conv: --pretrained-arm is not plain")
        self.arm = arm or ("do-conv" if has_d or in_optimizer else "plain")
        if has_d:
            self.state = _folded(self.state)


def _read(path: Path) -> tuple[State, bool]:
    """The tensors of a model, and whether an optimizer beside it holds a D."""
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
        model = found.get("model", found)
        states = found.get("optimizer", {}).get("state", {}).values()
        in_optimizer = any("depthwise_delta" in one for one in states)
        tensors = {name: tensor for name, tensor in model.items() if torch.is_tensor(tensor)}
        return tensors, in_optimizer
    except Exception as error:  # torch.load raises of many kinds
        raise ValueError(f"{path} cannot be read as weights of PyTorch: fetch it again") from error


def _folded(state: State) -> State:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "trained.pt", Path(folder) / "folded.pt"
        torch.save(state, source)
        checkpoints.fold(source, target)
        folded: State = torch.load(target, weights_only=True)
        return folded


def take(model: nn.Module, state: State, path: Path) -> None:
    """Load what a network has the names and shapes of: a head for other classes stays as it is.

    Raises:
        ValueError: if there is nothing, or less than the whole network without its head.
    """
    own = model.state_dict()
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    missing = [name for name in own if name not in fitting and not _may_miss(name)]
    if missing:
        raise ValueError(
            f"{path} is of another network: it has no {missing[0]!r} of shape "
            f"{tuple(own[missing[0]].shape)}"
        )
    model.load_state_dict({**own, **fitting})


def _may_miss(name: str) -> bool:
    """Heads are made anew, and so are what count batches."""
    heads = ("fc.", "classifier.", "aux_classifier.", "roi_heads.box_predictor.")
    return name.startswith(heads) or name.endswith("num_batches_tracked")
