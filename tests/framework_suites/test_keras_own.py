"""Keras's own tests of its convolutions hold for our layers in their place."""

import keras_own_tests as own
import pytest

# Keras warns of what its tests do: they give `fit` a generator, and load weights that were saved
# without an optimizer into a model that has one.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning"),
    pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer:UserWarning"),
]

KINDS = {
    "zero": (own.OVER_PARAMETERIZED, False),
    "drawn": (own.OVER_PARAMETERIZED, True),
    "pair": (own.PAIRS, False),
}
FILES = ("conv_test", "conv_transpose_test", "depthwise_conv_test", "separable_conv_test")

for _kind, (_layers, _is_drawn) in KINDS.items():
    for _file in FILES if _kind != "pair" else FILES[-1:]:
        for _name, _case in own.test_cases(_file, _layers, is_drawn=_is_drawn).items():
            # pytest collects the classes that it finds in this module, under these names.
            _case.__module__, _case.__qualname__ = __name__, f"{_name}_{_kind}"
            globals()[_case.__qualname__] = _case
del _case
