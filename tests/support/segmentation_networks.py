"""Networks of segmentation_models_pytorch and MONAI, small, with random weights, and an input."""

from __future__ import annotations

import importlib

SMP = [
    "unet-resnet18", "unet-efficientnet-b0", "unet-tu-mobilenetv3_small_100", "unet-mit_b0",
    "unetplusplus-resnet18", "manet-resnet18", "linknet-resnet18", "fpn-resnet18",
    "pspnet-resnet18", "pan-resnet18", "deeplabv3-resnet18", "deeplabv3plus-mobilenet_v2",
    "upernet-resnet18", "segformer-resnet18", "dpt-tu-vit_tiny_patch16_224",
]  # fmt: skip
SMP_SIZES = {"dpt": 224, "pan": 128}
# The arguments, and the shape of an input.
MONAI = {
    "UNet": ((3, 1, 2, (8, 16, 32), (2, 2)), (1, 1, 32, 32, 32)),
    "BasicUNet": ((3, 1, 2, (8, 8, 16, 32, 64, 8)), (1, 1, 32, 32, 32)),
    "AttentionUnet": ((3, 1, 2, (8, 16, 32), (2, 2)), (1, 1, 32, 32, 32)),
    "DynUNet": ((3, 1, 2, [3, 3, 3], [1, 2, 2], [2, 2]), (1, 1, 32, 32, 32)),
    "VNet": ((3, 1, 2), (1, 1, 32, 32, 32)),
    "SegResNet": ((3, 8, 1, 2), (1, 1, 32, 32, 32)),
    "SegResNetDS": ((3, 8, 1, 2), (1, 1, 32, 32, 32)),
    "HighResNet": ((3, 1, 2), (1, 1, 16, 16, 16)),
    "MedNeXt": ((3, 8, 1, 2), (1, 1, 32, 32, 32)),
    "FlexibleUNet": ((1, 2, "efficientnet-b0"), (2, 1, 64, 64)),
    "UNETR": ((1, 2, (32, 32, 32), 8, 48, 96, 4), (1, 1, 32, 32, 32)),
    "SwinUNETR": ((1, 2), (1, 1, 64, 64, 64)),
    "DenseNet121": ((2, 1, 2), (2, 1, 64, 64)),
    "SEResNet50": ((), (2, 1, 64, 64)),
    "EfficientNetBN": (("efficientnet-b0", False, True, 2, 1, 2), (2, 1, 64, 64)),
    "PatchDiscriminator": ((2, 8, 1, 1), (2, 1, 64, 64)),
}
MONAI_OPTIONS = {
    "SwinUNETR": {"feature_size": 12},
    "SEResNet50": {"spatial_dims": 2, "in_channels": 1, "num_classes": 2},
}
NAMES = {"segmentation_models_pytorch": SMP, "monai": list(MONAI)}


def network(zoo: str, name: str):
    """A network, and the shape of an input."""
    package = importlib.import_module(zoo)
    if zoo == "monai":
        arguments, shape = MONAI[name]
        options = MONAI_OPTIONS.get(name, {})
        return getattr(package.networks.nets, name)(*arguments, **options), shape
    kind, _, encoder = name.partition("-")
    size = SMP_SIZES.get(kind, 64)
    return package.create_model(kind, encoder, encoder_weights=None, classes=3), (2, 3, size, size)
