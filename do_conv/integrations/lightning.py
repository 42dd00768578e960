"""DO-Conv in PyTorch Lightning: a callback for the `Trainer`.

It takes the package `lightning` where that is imported or alone installed, else
`pytorch_lightning`: a `Trainer` knows the callbacks of its own package only.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from do_conv.core import rules
from do_conv.core.errors import is_installed, require_installed

if "lightning" not in sys.modules and not is_installed("lightning"):
    require_installed("pytorch_lightning", extra="lightning", user="do_conv.integrations.lightning")

from do_conv.integrations.states import folded_state, holds_layers
from do_conv.models.choices import Where
from do_conv.models.decisions import DMul
from do_conv.torch import DOConvOptimizer, convert

if TYPE_CHECKING:
    Callback: Any
    CheckpointIO: Any
else:
    _IS_WHOLE = "lightning" in sys.modules or not is_installed("pytorch_lightning")
    _PACKAGE = "lightning.pytorch" if _IS_WHOLE else "pytorch_lightning"
    Callback = importlib.import_module(f"{_PACKAGE}.callbacks").Callback
    CheckpointIO = importlib.import_module(f"{_PACKAGE}.plugins").CheckpointIO

__all__ = ["DOConvCallback"]


class DOConvCallback(Callback):
    """Train a `LightningModule` with DO-Conv.

    With `door="layers"` the module is converted in place in `setup`, before its optimizer is made,
    and beside each checkpoint, such as `last.ckpt`, a file `last.folded.ckpt` holds the folded
    weights. `load_from_checkpoint` reads it into the plain module. Give the callback before those
    that copy the module, such as `WeightAveraging`. Layers made in `configure_model` come too late.

    With `door="optimizer"` the module stays plain, and its optimizers are wrapped in
    `DOConvOptimizer` when training starts; checkpoints hold the plain weights already.

    Both resume exactly from a checkpoint, and train on one device, with DDP, or with
    `ModelParallelStrategy`. With `ddp_spawn`, `ddp_fork` and `ddp_notebook` the module of the first
    process stays plain, and gets the folded weights.

    Args:
        where, d_mul, depthwise_init: as for `convert`.
        door: "layers" or "optimizer".
        save_folded: False writes no folded weights.
        depthwise_options: the options of D' in the optimizer, as for `DOConvOptimizer`.

    Raises:
        DOConvError: if an option breaks a rule; in `setup`, if there is nothing to convert.

    Example:
        >>> trainer = Trainer(callbacks=[DOConvCallback(where="backbone")])
        >>> trainer.fit(module)
        >>> plain = do_conv.torch.fold(module)
    """

    def __init__(
        self,
        where: Where = None,
        *,
        door: rules.Door = "layers",
        d_mul: DMul = None,
        depthwise_init: rules.DepthwiseInit = "identity",
        save_folded: bool = True,
        depthwise_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.door = rules.door(door)
        self.options: dict[str, Any] = {
            "where": where,
            "d_mul": d_mul,
            "depthwise_init": rules.depthwise_init(depthwise_init),
        }
        self.save_folded, self.depthwise_options = save_folded, depthwise_options

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Convert the module, unless it holds DO-Conv layers already."""
        self._resumes = False
        if self.door == "optimizer":
            return
        saving = trainer.strategy.checkpoint_io
        if not isinstance(saving, _FoldedBeside):
            trainer.strategy.checkpoint_io = saving = _FoldedBeside(saving)
        saving.module, saving.is_beside = pl_module, self.save_folded
        if not holds_layers(pl_module):
            convert(pl_module, inplace=True, **self.options)
            saving.returns_folded = True

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: Any) -> None:
        """Note that W and D' come from a checkpoint."""
        self._resumes = True

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Wrap the optimizers, before their states are restored."""
        if self.door == "optimizer":
            options = dict(self.options)
            if self._resumes:  # another start would write kernels, which are restored already
                options["depthwise_init"] = "identity"
            trainer.strategy.optimizers = [
                optimizer
                if isinstance(optimizer, DOConvOptimizer)
                else DOConvOptimizer(
                    optimizer,
                    pl_module,
                    depthwise_options=self.depthwise_options,
                    **options,
                )
                for optimizer in trainer.strategy.optimizers
            ]


class _FoldedBeside(CheckpointIO):
    """Saves, loads and removes checkpoints as another does, with the folded weights beside them.

    Attributes:
        module: the module that is trained.
        is_beside: whether the folded weights are written.
        returns_folded: whether the module of the process that started this one is plain.
    """

    module: Any = None
    is_beside = True
    returns_folded = False

    def __init__(self, checkpoint_io: Any) -> None:
        self.checkpoint_io = checkpoint_io

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        is_whole = "state_dict" in checkpoint
        if self.returns_folded and not is_whole:
            # A spawned process returns its weights to the module of the process that started it,
            # where Lightning loads the names that fit.
            checkpoint = folded_state(self.module, checkpoint)
        # First, so that it is there whatever comes of folding.
        self.checkpoint_io.save_checkpoint(checkpoint, path, storage_options=storage_options)
        if self.is_beside and is_whole:
            folded, beside = self._folded(checkpoint), _beside(path)
            self.checkpoint_io.save_checkpoint(folded, beside, storage_options=storage_options)

    def _folded(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        """The checkpoint of the plain module, without the states of training."""
        kinds = ("HYPER_PARAMS_KEY", "HYPER_PARAMS_NAME", "HYPER_PARAMS_TYPE")
        kept = {getattr(self.module, f"CHECKPOINT_{kind}") for kind in kinds}
        kept |= {"epoch", "global_step", "pytorch-lightning_version"}
        folded = {name: value for name, value in checkpoint.items() if name in kept}
        return {**folded, "state_dict": folded_state(self.module, checkpoint["state_dict"])}

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> Any:
        return self.checkpoint_io.load_checkpoint(*args, **kwargs)

    def remove_checkpoint(self, path: Any) -> None:
        for each in (path, _beside(path)):
            self.checkpoint_io.remove_checkpoint(each)

    def teardown(self) -> None:
        self.checkpoint_io.teardown()


def _beside(path: Any) -> str:
    """Where the folded weights of a checkpoint are."""
    stem, ending = os.path.splitext(os.fspath(path))
    return f"{stem}.folded{ending}"
