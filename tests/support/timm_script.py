"""A small script that trains and validates a network of timm, as timm's own scripts do."""

import argparse

import torch
from timm.models import create_model, load_checkpoint, model_parameters, resume_checkpoint
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import CheckpointSaver, ModelEmaV3, dispatch_clip_grad, reparameterize_model


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("data_dir")
    parser.add_argument("--model", default="test_resnet")
    parser.add_argument("--initial-checkpoint", default="")
    parser.add_argument("--resume", default="")
    parser.add_argument("--checkpoint", default="", help="validate this one")
    parser.add_argument("--use-ema", action="store_true")
    parser.add_argument("--reparam", action="store_true")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--opt", default="sgd")
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--layer-decay", type=float)
    parser.add_argument("--clip-grad", type=float)
    parser.add_argument("--clip-mode", default="norm")
    return parser.parse_args()


def data():
    random = torch.Generator().manual_seed(1)
    return torch.randn(8, 3, 32, 32, generator=random), torch.arange(8) % 4


@torch.no_grad()
def outputs(model):
    return model.eval()(data()[0])


def validate(args, model):
    load_checkpoint(model, args.checkpoint, use_ema=args.use_ema)
    if args.reparam:
        model = reparameterize_model(model)
    kinds = sorted({type(module).__name__ for module in model.modules()})
    torch.save({"outputs": outputs(model), "kinds": kinds}, f"{args.data_dir}/validated.pt")


def train(args, model):
    optimizer = create_optimizer_v2(
        model, args.opt, args.lr, weight_decay=1e-2, layer_decay=args.layer_decay
    )
    start = resume_checkpoint(model, args.resume, optimizer) if args.resume else 0
    ema = ModelEmaV3(model, decay=0.5)
    if args.resume:
        load_checkpoint(ema.module, args.resume, use_ema=True)
    scheduler, _ = create_scheduler_v2(optimizer, "cosine", num_epochs=4)
    scheduler.step(start)
    saver = CheckpointSaver(
        model, optimizer, model_ema=ema, checkpoint_dir=args.data_dir, decreasing=True
    )
    images, classes = data()
    for epoch in range(start, args.epochs):
        model.train()
        for part in (slice(0, 4), slice(4, 8)):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images[part]), classes[part]).backward()
            if args.clip_grad is not None:
                parameters = model_parameters(model, exclude_head="agc" in args.clip_mode)
                dispatch_clip_grad(parameters, args.clip_grad, args.clip_mode)
            optimizer.step()
            ema.update(model)
        scheduler.step(epoch + 1)
        saver.save_checkpoint(epoch, metric=-epoch)
    groups = [(group.get("lr_scale", 1), len(group["params"])) for group in optimizer.param_groups]
    torch.save({"outputs": outputs(model), "groups": groups}, f"{args.data_dir}/trained.pt")


def main():
    args = arguments()
    torch.manual_seed(0)
    model = create_model(args.model, num_classes=4, checkpoint_path=args.initial_checkpoint)
    (validate if args.checkpoint else train)(args, model)


if __name__ == "__main__":
    main()
