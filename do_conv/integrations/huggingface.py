"""DO-Conv with Hugging Face: a callback for the `Trainer`, and folded safetensors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from do_conv.core.errors import broken, is_installed, require_installed

require_installed("safetensors", extra="huggingface", user="do_conv.integrations.huggingface")

from do_conv.core import rules  # noqa: E402
from do_conv.integrations.states import holds_layers  # noqa: E402
from do_conv.models.choices import Where  # noqa: E402
from do_conv.models.decisions import DMul  # noqa: E402
from do_conv.torch import convert, fold  # noqa: E402
from do_conv.torch.models.structure import unwrapped  # noqa: E402

if TYPE_CHECKING:
    TrainerCallback: Any
elif is_installed("transformers"):
    from transformers import TrainerCallback
else:
    TrainerCallback = object

__all__ = ["DOConvCallback", "save_folded"]


def save_folded(model: Any, folder: str | Path) -> Any:
    """Save the folded model as safetensors.

    Args:
        model: a model that holds DO-Conv layers, wrapped by an `Accelerator` or not. A
            `PreTrainedModel` and a model with `PyTorchModelHubMixin` are saved by their
            `save_pretrained`, so that `from_pretrained` of the plain class reads the folder.
        folder: where to save; it is made. Of any other model it gets a `model.safetensors`.

    Returns:
        the folded model.

    Raises:
        DOConvError: if there is nothing to fold, or a kernel is not finite.
    """
    from safetensors.torch import save_model

    plain = fold(model)
    if hasattr(plain, "save_pretrained"):
        plain.save_pretrained(folder)
    else:
        Path(folder).mkdir(parents=True, exist_ok=True)
        save_model(plain, os.path.join(folder, "model.safetensors"))
    return plain


class DOConvCallback(TrainerCallback):
    """Let a `Trainer` train its model with DO-Conv layers.

    The model is converted in place when the `Trainer` is made, before its optimizer, and resumes
    exactly from a checkpoint. Each checkpoint folder gets a folder `folded`, which
    `from_pretrained` reads into the plain model.

    To keep the model plain, leave this callback out, and give the `Trainer` an optimizer:
    `optimizers=(DOConvOptimizer(optimizer, model), None)`.

    Args:
        where, d_mul, depthwise_init: as for `convert`.
        save_folded: False saves no folded weights.

    Raises:
        MissingFrameworkError: if transformers is not installed.
        DOConvError: if an option breaks a rule; when the `Trainer` is made, if there is nothing to
            convert, or it was given an optimizer, which would not train D'; when it trains, if the
            callback was added afterwards.

    Example:
        >>> trainer = Trainer(model, args, train_dataset=data, callbacks=[DOConvCallback()])
    """

    def __init__(
        self,
        where: Where = None,
        *,
        d_mul: DMul = None,
        depthwise_init: rules.DepthwiseInit = "identity",
        save_folded: bool = True,
    ) -> None:
        require_installed(
            "transformers", extra="huggingface", user="do_conv.integrations.huggingface"
        )
        self.save_folded = save_folded
        self.options: dict[str, Any] = {
            "where": where,
            "d_mul": d_mul,
            "depthwise_init": rules.depthwise_init(depthwise_init),
        }

    def on_init_end(
        self, args: Any, state: Any, control: Any, *, model: Any = None, optimizer: Any = None,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        """Convert the model, unless it holds DO-Conv layers already."""
        if holds_layers(model):
            return
        if optimizer is not None:
            raise broken(
                "an optimizer must be made from the parameters of the converted model",
                f"a Trainer with a {type(optimizer).__name__} of the plain one",
                "convert the model first, or give DOConvOptimizer and leave the callback out",
            )
        convert(model, inplace=True, **self.options)

    def on_train_begin(
        self, args: Any, state: Any, control: Any, *, model: Any = None, **kwargs: Any
    ) -> None:
        """Refuse a model that was not converted."""
        if not holds_layers(model):
            raise broken(
                "a Trainer must have this callback, and its model, when it is made",
                "a callback that was added afterwards, or a model that model_init made",
                "give Trainer(model, callbacks=[DOConvCallback()]), or convert in model_init",
            )

    def on_save(
        self, args: Any, state: Any, control: Any, *, model: Any = None, **kwargs: Any
    ) -> None:
        """Save the folded model in the folder of the checkpoint."""
        if self.save_folded and state.is_world_process_zero:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            save_folded(unwrapped(model), checkpoint / "folded")
