"""`DOConv2D` with the arguments of the original authors' TensorFlow layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import do_conv.tf  # noqa: F401 - says what is missing before keras is imported

# isort: split
import keras
import numpy as np

from do_conv.adapter import DELTA
from do_conv.checkpoints import authors_names, checks, importing
from do_conv.checkpoints.keras_names import KERAS
from do_conv.core import rules
from do_conv.core.rules import CompositionName, DepthwiseInit
from do_conv.tf import layers
from do_conv.tf.plain import LayerOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["DOConv2D"]


@keras.saving.register_keras_serializable("do_conv.authors")
class DOConv2D(layers.DOConv2D):
    """`do_conv.tf.DOConv2D` with the arguments and the order of the authors' layer.

    `load_weights` reads the authors' layer in a `.weights.h5` file, and this layer's own. Shapes
    are those of `do_conv.tf.DOConv2D`.

    Examples:
        >>> import keras
        >>> from do_conv.tf.authors import DOConv2D
        >>> layer = DOConv2D(16, 3, None, 1, 2, "same")
        >>> tuple(layer(keras.ops.ones((1, 8, 8, 3))).shape)
        (1, 4, 4, 16)
        >>> type(layer.fold()).__name__
        'Conv2D'
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        D_mul: int | None = None,  # noqa: N803
        groups: int = 1,
        strides: int | tuple[int, int] = (1, 1),
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | tuple[int, int] = (1, 1),
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        *,
        depthwise_init: DepthwiseInit = "identity",
        composition: CompositionName = "kernel",
        delta_regularizer: Any = None,
        delta_constraint: Any = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        """The arguments before `depthwise_init` are those of the authors' layer.

        Args:
            D_mul: D_mul, at least |K|, the default; the third argument, before the groups.
            depthwise_init, composition, delta_regularizer, delta_constraint: as for
                `do_conv.tf.DOConv2D`.
            kwargs: the keywords of every Keras layer, such as `name` and `dtype`.

        Raises:
            DOConvError: if an argument breaks a rule; the message names it.
        """
        rules.authors_multiplier("third", D_mul, rules.axes("kernel_size", kernel_size, 2))
        super().__init__(
            filters,
            kernel_size,
            strides,
            padding,
            data_format,
            dilation_rate,
            groups,
            activation,
            use_bias,
            kernel_initializer,
            bias_initializer,
            kernel_regularizer,
            bias_regularizer,
            activity_regularizer,
            kernel_constraint,
            bias_constraint,
            d_mul=D_mul,
            depthwise_init=depthwise_init,
            composition=composition,
            delta_regularizer=delta_regularizer,
            delta_constraint=delta_constraint,
            **kwargs,
        )

    def _own_config(self) -> dict[str, Any]:
        own = super()._own_config()
        return {"D_mul": own.pop("d_mul"), **own}

    def load_own_variables(self, store: Any) -> None:
        """Read the authors' variables, or what `save_own_variables` wrote.

        Raises:
            DOConvError: as that of `do_conv.tf.DOConv2D`.
        """
        arrays = {f"{self.name}/vars/{key}": np.asarray(store[key]) for key in store.keys()}  # noqa: SIM118
        shapes = {key: array.shape for key, array in arrays.items()}
        rules.built(self.name, self.built or not arrays)
        named = [name for name in ("kernel", "D") if name in store.keys()]  # noqa: SIM118
        if named and self.spec.has_delta:
            checks.layer_keys(self.name, ["kernel", "D"], named)
        for theirs in authors_names.layers_among(shapes, "/"):
            found = {role: arrays[key] for role, key in theirs.keys.items()}
            if "delta" in found:
                shape = found["delta"].shape
                expected = (self.spec.area, *shape[1:2], self.spec.in_channels)
                rules.stored_shape(f"{self.name}/D", expected, shape)
            imported, _ = importing.from_theirs(theirs, found, {theirs.name: self.spec.kernel_size})
            store = {"0": KERAS.weight_from_core(imported.weight)}
            if imported.delta is not None:
                store[DELTA] = KERAS.delta_from_core(imported.delta)
            if "bias" in found:
                store["1"] = found["bias"]
        super().load_own_variables(store)
