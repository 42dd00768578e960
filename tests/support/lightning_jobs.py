"""A small `LightningModule`, its training, and the same in two processes as a program."""

import importlib
import os
import sys
import warnings

import cpu_torchvision  # noqa: F401
import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader, TensorDataset

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    # The same tool, under two names.
    pl = importlib.import_module(os.environ.get("LIGHTNING_PACKAGE", "pytorch_lightning"))


class Lit(pl.LightningModule):
    def __init__(self, width=6):
        super().__init__()
        self.save_hyperparameters()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), nn.GroupNorm(2, width), nn.ReLU(),
            nn.Conv2d(width, 4, 3, groups=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        ).double()  # fmt: skip

    def configure_model(self):
        if self.device_mesh is not None:  # with `ModelParallelStrategy`
            for part in (self.net[0], self.net[3], self.net):
                fully_shard(part, mesh=self.device_mesh["data_parallel"])

    def loss(self, batch):
        images, classes = batch
        return nn.functional.cross_entropy(self.net(images), classes)

    def training_step(self, batch, _):
        loss = self.loss(batch)
        self.log("loss", loss, on_epoch=True, on_step=False, sync_dist=True)
        return loss

    def test_step(self, batch):
        self.log("test_loss", self.loss(batch))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), 0.2, momentum=0.9, weight_decay=1e-3)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def configure_gradient_clipping(self, optimizer, gradient_clip_val, gradient_clip_algorithm):
        if gradient_clip_val:
            optimizer.clip_grad_norm_(gradient_clip_val) if hasattr(
                optimizer, "clip_grad_norm_"
            ) else self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)


class Part:
    """The images of a process: all of them together see the batches of one."""

    def __init__(self, processes):
        self.processes = processes

    def __iter__(self):
        return iter(range(int(os.environ.get("LOCAL_RANK", "0")), 16, self.processes))

    def __len__(self):
        return 16 // self.processes


def loader(processes=1):
    """The batches of a process, which is known once it runs."""
    random = torch.Generator().manual_seed(1)
    images = torch.randn(16, 3, 8, 8, generator=random, dtype=torch.float64)
    classes = torch.arange(16) % 4
    return DataLoader(TensorDataset(images, classes), 8 // processes, sampler=Part(processes))


def trained(folder, *callbacks, epochs=2, clip=None, ckpt_path=None, module=None, **options):
    """A module after a fit, and its trainer."""
    module = module or Lit()
    trainer = pl.Trainer(
        accelerator="cpu", default_root_dir=folder, max_epochs=epochs, logger=False,
        callbacks=list(callbacks), enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=any(isinstance(c, pl.callbacks.ModelCheckpoint) for c in callbacks),
        gradient_clip_val=clip, use_distributed_sampler=False, **{"devices": 1, **options},
    )  # fmt: skip
    trainer.fit(module, loader(trainer.world_size), ckpt_path=ckpt_path, weights_only=False)
    return module, trainer


def strategy_of(name):
    """A strategy by name; the one with `fully_shard` divides the module, not its layers."""
    if name != "model_parallel":
        return name
    options = {"data_parallel_size": 2, "tensor_parallel_size": 1, "process_group_backend": "gloo"}
    return pl.strategies.ModelParallelStrategy(save_distributed_checkpoint=False, **options)


if __name__ == "__main__":
    from do_conv.integrations.lightning import DOConvCallback

    folder, door, strategy = sys.argv[1:]
    for epochs, name in ((1, "half"), (2, "last")):
        saving = pl.callbacks.ModelCheckpoint(folder, filename=name)
        resumed = {} if epochs == 1 else {"ckpt_path": os.path.join(folder, "half.ckpt")}
        options = {"devices": 2, "strategy": strategy_of(strategy), **resumed}
        module, trainer = trained(
            folder, DOConvCallback(door=door), saving, epochs=epochs, **options
        )
    if trainer.is_global_zero and strategy == "ddp_spawn":
        torch.save(module.state_dict(), os.path.join(folder, "returned.pt"))
