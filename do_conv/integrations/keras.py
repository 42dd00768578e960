"""DO-Conv in Keras's `fit`: a callback that saves the plain model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from do_conv.core.errors import require_installed

require_installed("keras", extra="tf", user="do_conv.integrations.keras")

import keras  # noqa: E402

from do_conv.tf.composed import Composed  # noqa: E402
from do_conv.tf.models.copies import copied  # noqa: E402
from do_conv.tf.models.folding import folded  # noqa: E402
from do_conv.tf.models.structure import check_known, named_layers  # noqa: E402

__all__ = ["FoldedCheckpoint"]


class FoldedCheckpoint(keras.callbacks.ModelCheckpoint):  # type: ignore[misc]
    """Save the plain model at each epoch that is the best so far.

    A model with DO-Conv layers is folded. A model that `DOConvOptimizer` trains is plain, and is
    saved without this optimizer. The file needs no do_conv, and its model is not compiled.

    Args:
        filepath: as for `keras.callbacks.ModelCheckpoint`: a `.keras` file, or a `.weights.h5` file
            with `save_weights_only`.
        monitor: the quantity that says which epoch is the best.
        save_best_only: False saves at each epoch.
        options: the other options of `keras.callbacks.ModelCheckpoint`, such as `mode`.

    Attributes:
        model: a plain copy of the model that is trained, made each time it is read.

    Raises:
        DOConvError: when it saves: if the model is subclassed, or a kernel is not finite.

    Example:
        >>> model.fit(x, y, validation_split=0.1, callbacks=[FoldedCheckpoint("best.keras")])
        >>> plain = keras.models.load_model("best.keras")
    """

    def __init__(
        self,
        filepath: str | Path,
        monitor: str = "val_loss",
        *,
        save_best_only: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(filepath, monitor, save_best_only=save_best_only, **options)

    @property
    def model(self) -> Any:
        """A plain copy of the model: Keras's callback saves its `model`."""
        model = super().model
        if any(isinstance(layer, Composed) for _, layer, _ in named_layers(model)):
            return folded(model, check_finite=True, compiles=False)
        check_known(model, "save its get_weights() in a callback of your own")
        return copied(model, lambda layer: None, lambda old, new: None, compiles=False)
